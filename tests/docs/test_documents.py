"""README, example configuration, roles and playbooks agree with the code."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from integrations.github.settings import ForgeSettings
from integrations.gitlab.settings import ForgeSettings as LabSettings
from integrations.kubernetes.probe_settings import ProbeSettings
from integrations.kubernetes.settings import ClusterSettings
from integrations.registry import RegistrySettings
from responder import settings as settings_module
from responder.cli.root import ENTRIES, cli
from responder.playbook.loading import load_dump, load_folder
from responder.playbook.shipped import shipped_folder
from responder.settings import Settings
from responder.wiring import offline, parts
from responder.wiring.known import catalogue, permissions, sources
from responder.wiring.rbac import manifests, uses

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "config.example.toml").read_text(encoding="utf-8")


def blocks(language: str = "") -> list[str]:
    """The fenced blocks of the README in this language."""
    parts = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for word, text in parts if word == language]


def commands() -> list[str]:
    """Every command line that the README tells people to type."""
    starts = ("make", "responder", "pip", "kubectl")
    lines = [line.strip() for block in blocks() for line in block.splitlines()]
    return [line for line in lines if line.split(" ")[0] in starts]


@pytest.mark.parametrize("line", [c for c in commands() if c.startswith("responder")])
def test_every_responder_command_of_the_readme_exists(line: str) -> None:
    """The command, its words and its options are known to the command line."""
    words = shlex.split(line.partition(">")[0])[1:]
    group, depth = words[0], 1
    result = CliRunner().invoke(cli, [group, "--help"])
    if "COMMAND [ARGS]" in result.output.splitlines()[0]:
        result, depth = CliRunner().invoke(cli, [group, words[1], "--help"]), 2

    assert result.exit_code == 0, result.output
    for word in words[depth:]:
        if word.startswith("-"):
            assert word in result.output, f"{word} is no option of {' '.join(words[:depth])}"


def test_every_make_target_of_the_readme_exists() -> None:
    """`make x` is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {line.split()[1] for line in commands() if line.startswith("make")}

    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_readme_s_own_playbook_commands_run(tmp_path: Path) -> None:
    """show, lint and test of step 5, as written."""
    runner = CliRunner()
    shown = runner.invoke(cli, ["playbook", "show", "quarantine-pod"])
    mine = tmp_path / "my-quarantine.yaml"
    mine.write_text(shown.output)

    assert runner.invoke(cli, ["playbook", "lint", str(mine)]).exit_code == 0
    tested = runner.invoke(cli, ["playbook", "test", str(mine)])
    assert tested.exit_code == 0, tested.output


def test_every_command_is_listed_with_what_it_does() -> None:
    """`responder --help` names each entry and its sentence."""
    output = CliRunner().invoke(cli, ["--help"]).output

    for name, (_, summary) in ENTRIES.items():
        assert name in output
        assert summary.split(",")[0][:30] in output


def keys(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields) - {"origins"}


def example() -> dict[str, Any]:
    return tomllib.loads(EXAMPLE)


def test_the_example_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its secrets set, the example is a valid configuration and its hooks are made."""
    environ = dict.fromkeys(re.findall(r'env = "([A-Z_]+)"', EXAMPLE), "value")
    text = EXAMPLE
    for name in re.findall(r'\{file = "([^"]+)"\}', EXAMPLE):
        file = tmp_path / Path(name).name
        file.write_text("value")
        text = text.replace(name, str(file))
    path = tmp_path / "config.toml"
    path.write_text(text)

    loaded = settings_module.load(path, environ=environ)
    assert set(parts.hooks(loaded)) == set(example()["hooks"])


SECTIONS: list[tuple[str, type[BaseModel]]] = [
    ("server", settings_module.Server),
    ("store", settings_module.StoreSection),
    ("playbooks", settings_module.Playbooks),
    ("guards", settings_module.Guards),
    ("log", settings_module.Log),
]


@pytest.mark.parametrize(
    ("section", "model"), SECTIONS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_the_example_names_every_key_of_a_section(section: str, model: type[BaseModel]) -> None:
    """No setting is left out, written or as a comment."""
    part = re.split(r"^\[", EXAMPLE.split(f"[{section}]\n", 1)[1], maxsplit=1, flags=re.MULTILINE)
    named = set(re.findall(r"^#? ?([a-z_]+) =", part[0], re.MULTILINE))

    assert keys(model) - named == set()


@pytest.mark.parametrize(
    ("tables", "model"),
    [
        ("clusters", ClusterSettings),
        ("clusters.prod.probe", ProbeSettings),
        ("forges", ForgeSettings),
        ("forges.lab", LabSettings),
        ("registries", RegistrySettings),
    ],
    ids=["clusters", "probe", "forges", "lab", "registries"],
)
def test_the_example_names_every_key_of_an_integration(tables: str, model: type[BaseModel]) -> None:
    """Over all tables of the section together, written or as a comment."""
    named = set(re.findall(r"^#? ?([a-z_]+) =", EXAMPLE, re.MULTILINE))
    named |= set(re.findall(r"^\[[a-z]+\.[a-z]+\.([a-z_]+)\]", EXAMPLE, re.MULTILINE))

    assert keys(model) - named - {"in_cluster"} == set()
    assert "in_cluster = true" in EXAMPLE


@pytest.mark.parametrize(
    ("section", "field"),
    [(name, field) for name, model in SECTIONS for field in sorted(keys(model))],
)
def test_the_example_shows_the_default_where_it_says_so(section: str, field: str) -> None:
    """A plain value in the example equals the default, or is one that a user must choose."""
    chosen = {
        ("store", "url"),
        ("playbooks", "folders"),
        ("playbooks", "shipped"),
        ("guards", "namespace_modes"),
        ("guards", "protected_namespaces"),
        ("guards", "protected_labels"),
        ("guards", "protected_workloads"),
    }
    shown = example()[section].get(field)
    if shown is None or (section, field) in chosen:
        return
    default = getattr(getattr(Settings(), section), field)

    assert shown == (default.value if hasattr(default, "value") else default)


def roles(names: Iterable[str]) -> list[dict[str, Any]]:
    """The manifests for these actions, with `shop` watched over."""
    wanted = set(names)
    infos = [info for name, info in catalogue().items() if name in wanted]
    return manifests(infos, account_namespace="responder", namespaces=["shop"], base=permissions())


def shipped_roles() -> list[dict[str, Any]]:
    """The manifests for what the shipped playbooks use."""
    loaded = load_folder([shipped_folder()], catalogue(), frozenset(sources()))
    return roles(name for playbook in loaded for name in uses(playbook))


def test_the_roles_are_what_the_shipped_playbooks_need() -> None:
    """deploy/rbac.yaml equals the generated manifests, and what `responder rbac` prints."""
    written = load_dump((ROOT / "deploy" / "rbac.yaml").read_text(encoding="utf-8"))
    printed = CliRunner().invoke(cli, ["rbac", "--namespace", "shop"])
    folder = ["--for", str(shipped_folder()), "-o", "json"]
    listed = CliRunner().invoke(cli, ["rbac", "--namespace", "shop", *folder])

    assert shipped_roles() == written
    assert load_dump(printed.output) == written
    assert json.loads(listed.output)["items"] == written


def test_the_guard_is_what_the_shipped_playbooks_need() -> None:
    """deploy/guard.yaml equals what `responder rbac --guard` prints."""
    written = load_dump((ROOT / "deploy" / "guard.yaml").read_text(encoding="utf-8"))
    printed = CliRunner().invoke(cli, ["rbac", "--guard"])
    assert load_dump(printed.output) == written
    assert [item["kind"] for item in written] == [
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ]


def test_no_role_of_the_shipped_playbooks_reaches_too_far() -> None:
    """No wildcard, no secrets, no admission policy, no node proxy, no way to more rights."""
    rules = [rule for item in shipped_roles() for rule in item.get("rules", [])]
    never = {"*", "secrets", "nodes/proxy", "pods/exec", "rolebindings", "clusterrolebindings"}

    for rule in rules:
        assert not never & set(rule["resources"])
        assert "admissionregistration.k8s.io" not in rule["apiGroups"]
        assert not ("pods" in rule["resources"] and "create" in rule["verbs"])
        _must_lead_nowhere(rule)


def _must_lead_nowhere(rule: Mapping[str, Any]) -> None:
    assert not {"*", "escalate", "bind", "impersonate"} & set(rule["verbs"])
    assert not {"*", "nodes/proxy", "pods/exec"} & set(rule["resources"])
    reads = {"get", "watch"} & set(rule["verbs"])
    assert not ("secrets" in rule["resources"] and reads)


def test_what_reaches_far_stands_in_a_role_of_its_own() -> None:
    """Admission policies and bindings of rights are in no role but their concern's."""
    far = {
        "secrets": "responder-identity",
        "rolebindings": "responder-identity",
        "clusterrolebindings": "responder-identity",
        "validatingadmissionpolicies": "responder-admission",
        "validatingadmissionpolicybindings": "responder-admission",
    }
    for item in roles(catalogue()):
        for rule in item.get("rules", []):
            _must_lead_nowhere(rule)
            _must_start_pods_at_home(item, rule)
            for resource in rule["resources"]:
                assert item["metadata"]["name"].startswith(far.get(resource, "responder"))


def _must_start_pods_at_home(item: Mapping[str, Any], rule: Mapping[str, Any]) -> None:
    """Whoever may create a pod has every secret of its namespace: only ours, for probes alone."""
    if "pods" in rule["resources"] and "create" in rule["verbs"]:
        assert item["kind"] == "Role"
        assert item["metadata"]["namespace"] == "responder"
        assert item["metadata"]["name"] in {"responder-prober-home", "responder-flows-home"}


async def test_shipped_playbooks_load_and_pass_their_own_tests() -> None:
    """Against the real actions and sources, in the sandbox."""
    loaded = load_folder([shipped_folder()], catalogue(), frozenset(sources()))
    results = await offline.test_playbooks(loaded)

    assert {p.name for p in loaded} == {
        "contain-and-rebuild",
        "quarantine-pod",
        "collect-evidence",
        "rebuild-image",
        "roll-out-everywhere",
        "patch-everywhere",
        "bump-base",
        "rebuild-vulnerable-image",
    }
    assert [r for r in results if not r[2]] == []
    assert len(results) >= 8
