"""Rebuild what a disk may hold after a power loss, from a trace of system calls.

The model is as unkind as POSIX allows: a write is durable only after a flush of its file, each
512-byte sector of an unflushed write may or may not be there, and a new, renamed or removed name is
durable only after a flush of its folder (names of one folder take effect in order). Not modelled:
disks that lie about a flush, and folders themselves, which are taken to exist.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
_CALLS = "openat,pwrite64,write,fdatasync,fsync,ftruncate,unlink,rename,close"
_TEXT = r'"((?:\\x[0-9a-f]{2})*)"'
_IGNORED = (".lock", "-shm", ".reserve")


@dataclass
class Inode:
    """A file's durable bytes, and the writes nobody has flushed."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: truncate
    end: int = 0  # where `write` goes on

    def flush(self) -> None:
        """Make every pending write durable."""
        for offset, data in self.pending:
            put(self.durable, offset, data)
        self.pending.clear()

    def survivor(self, rng: random.Random | None) -> bytes:
        """What a power loss leaves: no unflushed sector, or a random choice of them."""
        if rng is None:
            return bytes(self.durable)
        kept = bytearray(self.durable)
        for offset, data in self.pending:
            if data is None:
                if rng.random() < 0.5:
                    put(kept, offset, None)
                continue
            for at in range(0, len(data), SECTOR):
                if rng.random() < 0.5:
                    put(kept, offset + at, data[at : at + SECTOR])
        return bytes(kept)


def put(target: bytearray, offset: int, data: bytes | None) -> None:
    """Write into, or with None cut off at, an offset; holes are zeros."""
    end = offset if data is None else offset + len(data)
    if len(target) < end:
        target.extend(bytes(end - len(target)))
    if data is None:
        del target[offset:]
    else:
        target[offset:end] = data


class Disk:
    """The disk as the traced calls leave it, one call at a time."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._open: dict[int, Inode | str] = {}  # a folder is its path
        self._live: dict[str, Inode] = {}  # names as the program sees them
        self._durable: dict[str, Inode] = {}
        self._names: dict[str, list[tuple[str, Inode | None]]] = {}  # by folder, in order
        self.acknowledged: list[tuple[str, str]] = []

    def image(self, rng: random.Random | None) -> dict[str, bytes]:
        """Names and bytes that a power loss now could leave."""
        names = dict(self._durable)
        for changes in self._names.values():
            for name, inode in changes[: 0 if rng is None else rng.randint(0, len(changes))]:
                rebind(names, name, inode)
        return {name: inode.survivor(rng) for name, inode in names.items()}

    def step(self, line: str) -> bool:
        """Take one traced call; whether it changed what could be left."""
        for pattern, call in _CALLED:
            if match := pattern.match(line):
                return call(self, match)
        return False

    # ----------------------------------------------------------------- calls
    def _opened(self, call: re.Match[str]) -> bool:
        path, flags, handle = plain(call[1]).decode(), call[2], int(call[3])
        self._open.pop(handle, None)
        if not path.startswith(self._root) or path.endswith(_IGNORED):
            return False
        created = path not in self._live
        if created and "O_CREAT" not in flags:  # only a folder is opened without being made
            self._open[handle] = path
            return False
        if created:
            self._named(path, Inode())
        inode = self._open[handle] = self._live[path]
        if "O_TRUNC" in flags and not created:
            inode.pending.append((0, None))
        if "O_TRUNC" in flags:
            inode.end = 0
        return created

    def _closed(self, call: re.Match[str]) -> bool:
        self._open.pop(int(call[1]), None)
        return False

    def _placed(self, call: re.Match[str]) -> bool:
        return self._written(int(call[1]), int(call[3]), plain(call[2])[: int(call[4])])

    def _cut(self, call: re.Match[str]) -> bool:
        return self._written(int(call[1]), int(call[2]), None)

    def _written(self, handle: int, offset: int, data: bytes | None) -> bool:
        inode = self._open.get(handle)
        if not isinstance(inode, Inode):
            return False
        inode.pending.append((offset, data))
        return True

    def _streamed(self, call: re.Match[str]) -> bool:
        handle, data = int(call[1]), plain(call[2])[: int(call[3])]
        if handle == 1:
            for said in data.decode().splitlines():
                kind, name, *_ = said.split(" ", 2)
                self.acknowledged.append((kind, name))
            return True
        inode = self._open.get(handle)
        if not isinstance(inode, Inode):
            return False
        self._written(handle, inode.end, data)
        inode.end += len(data)
        return True

    def _flushed(self, call: re.Match[str]) -> bool:
        what = self._open.get(int(call[1]))
        if isinstance(what, Inode):
            what.flush()
        elif what is not None:
            for name, inode in self._names.pop(what, []):
                rebind(self._durable, name, inode)
        return what is not None

    def _removed(self, call: re.Match[str]) -> bool:
        return self._named(plain(call[1]).decode(), None)

    def _renamed(self, call: re.Match[str]) -> bool:
        old, new = plain(call[1]).decode(), plain(call[2]).decode()
        if old not in self._live:
            return False
        self._named(new, self._live[old])
        return self._named(old, None)

    def _named(self, path: str, inode: Inode | None) -> bool:
        if not path.startswith(self._root) or path.endswith(_IGNORED):
            return False
        rebind(self._live, path, inode)
        self._names.setdefault(str(Path(path).parent), []).append((path, inode))
        return True


_CALLED = tuple(
    (re.compile(pattern), call)
    for pattern, call in (
        (rf"pwrite64\((\d+), {_TEXT}, \d+, (\d+)\) += (\d+)", Disk._placed),
        (rf"write\((\d+), {_TEXT}, \d+\) += (\d+)", Disk._streamed),
        (r"(?:fsync|fdatasync)\((\d+)\) += 0", Disk._flushed),
        (rf"openat\(\w+, {_TEXT}, ([A-Z_|]+).*\) += (\d+)", Disk._opened),
        (r"close\((\d+)\)", Disk._closed),
        (r"ftruncate\((\d+), (\d+)\) += 0", Disk._cut),
        (rf"unlink\({_TEXT}\) += 0", Disk._removed),
        (rf"rename\({_TEXT}, {_TEXT}\) += 0", Disk._renamed),
    )
)


def rebind(names: dict[str, Inode], name: str, inode: Inode | None) -> None:
    """Let a name stand for a file, or for none."""
    if inode is None:
        names.pop(name, None)
    else:
        names[name] = inode


def plain(text: str) -> bytes:
    """The bytes of a string that strace wrote as hexadecimal escapes."""
    return bytes.fromhex(text.replace("\\x", ""))


def trace(command: list[str], log: Path, *, inject: str = "") -> list[str]:
    """Run a program under strace; its calls in the order in which they ended."""
    extra = ["-e", f"inject={inject}"] if inject else []
    strace = ["strace", "-f", "-qq", "-xx", "-s", "200000", "-e", f"trace={_CALLS}"]
    subprocess.run(
        [*strace, "-e", "signal=none", *extra, "-o", str(log), *command],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        timeout=50,
    )
    with log.open(encoding="ascii", errors="replace") as lines:
        return list(joined(lines))


def joined(lines: Iterator[str]) -> Iterator[str]:
    """Put calls together that strace split because another thread came between."""
    begun: dict[str, str] = {}
    for line in lines:
        thread, _, call = line.rstrip("\n").partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>").rstrip()
        elif call.startswith("<... "):
            yield begun.pop(thread, "") + call.partition("resumed>")[2]
        else:
            yield call
