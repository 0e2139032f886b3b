"""The house rules that no linter knows: every module on a rung, sizes, clocks, secrets, words."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import integrations
import responder

ROOT = Path(__file__).resolve().parents[2]
CODE = ("responder", "integrations")


def files() -> list[Path]:
    return sorted(p for folder in CODE for p in (ROOT / folder).rglob("*.py"))


def repository() -> list[Path]:
    """Every text that is, or is about to be, part of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    files = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in files if path.is_file() and b"\0" not in path.read_bytes()[:1024]]


def contracts() -> list[dict[str, object]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return list(settings["tool"]["importlinter"]["contracts"])


def rungs() -> set[str]:
    """The modules that the ladder's rungs name."""
    layers = next(c["layers"] for c in contracts() if c["type"] == "layers")
    assert isinstance(layers, list)
    return {name.strip() for layer in layers for name in re.split(r"[|:]", layer)}


def test_every_module_stands_on_a_rung() -> None:
    """A module that no rung names would escape the contract."""
    known = rungs()
    top = {f"responder.{m.name}" for m in pkgutil.iter_modules(responder.__path__)}

    assert top - known == set()


def test_every_integration_is_in_the_independence_contract() -> None:
    """A new integration is blind to the others from its first day."""
    listed = next(c["modules"] for c in contracts() if c["type"] == "independence")
    names = {m.name for m in pkgutil.iter_modules(integrations.__path__)}
    wanted = {f"integrations.{name}" for name in names if not name.startswith("_")}

    assert isinstance(listed, list)
    assert wanted == set(listed)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_keeps_the_house_limits(path: Path) -> None:
    """At most 400 lines a file, 50 a function, and a docstring."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    long = [
        f"{node.name} ({size} lines)"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (size := (node.end_lineno or 0) - node.lineno + 1) > 50
    ]

    assert text.count("\n") <= 400
    assert long == []
    assert not text.strip() or ast.get_docstring(tree)


def public(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in tree.body:
        named = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if named and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_what_is_public_says_what_it_does(path: Path) -> None:
    """Every public class and function has a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = [node.name for node in public(tree) if not ast.get_docstring(node)]

    assert silent == []


FORBIDDEN = {
    r"\btime\.time\(|\btime\.time_ns\(|\btime\.monotonic\(": "read the clock that is passed in",
    r"\buuid4\(|\brandom\.(random|choice|randint|uniform)\(": "ask the World for chance and ids",
    r"datetime\.now\(|datetime\.utcnow\(|dt\.datetime\.now\(": "read the clock that is passed in",
    r"asyncio\.to_thread\(|run_in_executor\(\s*None": "use a bounded pool of your own",
    r"shell=True|os\.system\(|\beval\(|\bexec\(\s*[a-z]": "no shell, no eval",
    r"verify=False|check_hostname\s*=\s*False|CERT_NONE": "TLS is always checked",
    r"extractall\(|\.extract\(": "archives are never unpacked",
}


@pytest.mark.parametrize(("pattern", "reason"), FORBIDDEN.items())
def test_nobody_reaches_around_the_ports(pattern: str, reason: str) -> None:
    """Clock, chance, pools, shells: one home each."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files()
        if path.name != "clock.py" and "cli" not in path.parts  # a command has the real clock
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line.split("#", 1)[0])
    ]

    assert found == [], reason


SECRETISH = re.compile(r"(secret|token|password|signature)\w*\s*(==|!=)\s*\w", re.IGNORECASE)


def test_secrets_are_compared_in_constant_time() -> None:
    """`==` never stands between two secrets."""
    allowed = re.compile(r"== (\"|'|None|0|len)|(kind|type|name|tokens?)\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if SECRETISH.search(line.split("#", 1)[0]) and not allowed.search(line)
    ]

    assert found == []


def test_the_repository_speaks_of_the_product_alone() -> None:
    """No path of a build machine, no registry host of packages, no word on how it was made."""
    words = re.compile(r"/w[o]rk/|/r[o]ot/|pypi\.o[r]g|files\.pythonhoste[d]|proxy\.gola[n]g")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in repository()
        for number, line in enumerate(
            path.read_text(encoding="utf-8", errors="replace").splitlines(), 1
        )
        if words.search(line)
    ]

    assert found == []
