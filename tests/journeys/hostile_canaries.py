"""Secrets that are easy to recognise wherever they turn up, and whoever looks for them.

Every canary has a core of 24 hex digits that no encoding but base64 and hex changes, so that
URL-encoded and JSON-escaped forms hold it too.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

_CORE = 24


def canary(name: str) -> str:
    """The secret of this name: one word that a header, a file and a TOML text can carry."""
    return f"{name.lower()[:4]}+{hashlib.sha256(name.encode()).hexdigest()[:_CORE]}/Z"


def core(secret: str) -> str:
    """The part of a secret that is looked for: all of it, when it is no canary of ours."""
    middle = secret.partition("+")[2].partition("/")[0]
    return middle if len(middle) == _CORE else secret


def forms(secret: str) -> list[bytes]:
    """The core as it is, in hex, and in base64 at each of its three alignments."""
    plain = core(secret).encode()
    found = [plain, plain.hex().encode()]
    for shift in range(3):
        packed = base64.b64encode(b"\0" * shift + plain + b"\0" * 3)
        first = (shift * 8 + 5) // 6  # characters that the bytes before the core decide too
        last = (shift + len(plain)) * 8 // 6
        for form in (packed[first:last], packed[first:last].translate(_URL_SAFE)):
            found.append(form)
    return list(dict.fromkeys(found))


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class Finder:
    """Looks for secrets in what came out; each output has a name for the report."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._forms = {name: forms(secret) for name, secret in secrets.items() if secret}
        self.bytes = 0
        self.outputs = 0
        self.hits: list[str] = []

    def look(self, output: str, data: bytes | str) -> None:
        """Search one output whole."""
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        self.bytes += len(raw)
        self.outputs += 1
        for name, needles in self._forms.items():
            for needle in needles:
                at = raw.find(needle)
                if at >= 0:
                    self.hits.append(f"{name} in {output}: …{raw[max(0, at - 60) : at + 40]!r}")
                    break

    def look_at_files(self, folder: Path, but: Iterable[str] = ()) -> None:
        """Search every file below a folder, except those that were made to hold secrets."""
        left_out = set(but)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in left_out:
                self.look(f"file {path.relative_to(folder)}", path.read_bytes())
