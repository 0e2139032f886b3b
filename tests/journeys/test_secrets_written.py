"""Secrets written where only their names belong, and sentences of others that repeat one."""

from pathlib import Path

import pytest

from responder.text import veiled
from tests.journeys.hostile_canaries import Finder, canary
from tests.journeys.hostile_server import run
from tests.journeys.hostile_walk import told

LITERAL = canary("LITERAL")
IN_URL = LITERAL.replace("/", "%2F")
BAD_CONFIGS = {
    "a token for the cluster": f'[clusters.a]\napi = "http://127.0.0.1:9"\ntoken = "{LITERAL}"',
    "a token for the forge": f'[forges.a]\ntoken = "{LITERAL}"',
    "a private key": f'[forges.a]\nprivate_key = "{LITERAL}"\napp_id = 1',
    "a password": f'[registries."r"]\nusername = "u"\npassword = "{LITERAL}"',
    "a bearer": f'[hooks.a]\nsource = "falco"\nauth = {{bearer = "{LITERAL}"}}',
    "bearers": f'[hooks.a]\nsource = "falco"\nauth = {{bearer = ["{LITERAL}"]}}',
    "a basic": f'[hooks.a]\nsource = "falco"\nauth = {{basic = {{password = "{LITERAL}"}}}}',
    "a wrong scheme": f'[hooks.a]\nsource = "falco"\nauth = {{beerer = "{LITERAL}"}}',
    "no table": f'[hooks.a]\nsource = "falco"\nauth = "{LITERAL}"',
    "a wrong place": f'[server]\ntoken = "{LITERAL}"',
    "no TOML": f'[forges.a]\ntoken = "{LITERAL}',
    "no quotes": f"[forges.a]\ntoken = {LITERAL}",
    "a store elsewhere": f'[store]\nurl = "postgresql://u:{IN_URL}@db/responder"',
    "an address with a password": f'[clusters.a]\napi = "https://u:{IN_URL}@127.0.0.1:9"',
    "a forge with a password": f'[forges.a]\nbase_url = "https://u:{IN_URL}@127.0.0.1:9"',
    "a webhook's option": f'[hooks.a]\nsource = "falco"\noptions = {{secret = "{LITERAL}"}}',
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_secret_written_into_the_file_is_not_repeated(name: str, tmp_path: Path) -> None:
    """Whoever forgets that secrets are named, not written, does not find them in a log."""
    text = f'[store]\nurl = "sqlite:///{tmp_path}/responder.db"\n'
    bad = BAD_CONFIGS[name]
    text = bad if "[store]" in bad else text + bad
    (tmp_path / "bad.toml").write_text(text, encoding="utf-8")
    look = Finder({"literal": LITERAL})
    for arguments in (["config", "show", "--origin"], ["config", "show", "-o", "json"], ["doctor"]):
        done = run(tmp_path, {}, *arguments, "--config", "bad.toml")
        look.look(f"{' '.join(arguments)}: {done.returncode}", told(done))
        assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert not look.hits, "\n".join(look.hits)


@pytest.mark.parametrize("key", ["FORGES__A__TOKEN", "CLUSTERS__A__TOKEN", "STORE__URL", "LOG"])
def test_a_secret_put_into_a_variable_of_ours_is_not_repeated(key: str, tmp_path: Path) -> None:
    """The environment can set any key, and so be misunderstood."""
    look = Finder({"literal": LITERAL})
    value = f"postgresql://u:{IN_URL}@db" if "URL" in key else LITERAL
    secrets = {f"RESPONDER_{key}": value, "RESPONDER_FORGES__A__BASE_URL": "https://x"}
    for arguments in (["config", "show", "--origin"], ["doctor"]):
        done = run(tmp_path, secrets, *arguments)
        look.look(f"{' '.join(arguments)}: {done.returncode}", told(done))
        assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert not look.hits, "\n".join(look.hits)


SENTENCES = {
    'User "system:serviceaccount:a:b" cannot patch resource "pods" in API group ""': "",
    'secrets "db" not found': "",
    "token expired": "",
    "spec.replicas: must be at least 0": "",
    "sent Authorization: Bearer hunter2hunter2 twice": "hunter2",
    "sent Basic aHVudGVyMjpodW50ZXIy here": "aHVudGVyMjpodW50ZXIy",
    "env DB_PASSWORD=hunter2 is not allowed": "hunter2",
    'got {"password": "hunter2", "a": 1}': "hunter2",
    r"got {\"apiKey\":\"hunter2\"}": "hunter2",
    'EnvVar{Name:"DB", Value:"hunter2"}': "hunter2",
    'spec.a: Invalid value: "hunter2": too short': "hunter2",
    "cannot reach postgres://cart:hunter2@db/cart": "hunter2",
    "cannot reach postgres://cart:hun/ter2@db/cart": "ter2",
    "see https://host.example/a/b@c for more": "",
    "you are known-word": "known-word",
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_of_another_system_loses_its_credentials_only(sentence: str) -> None:
    """What has the shape of a secret is veiled; a sentence without one stays as it is."""
    shown = veiled(sentence, "known-word")
    if SENTENCES[sentence]:
        assert SENTENCES[sentence] not in shown
        assert "***" in shown
    else:
        assert shown == sentence
