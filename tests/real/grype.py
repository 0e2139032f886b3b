"""Run the real Grype against a database made by hand, with no network.

Optional: it takes some minutes to build and proves once more, with the tool's own words, what
reports written by hand prove. Install it into PATH, or name it in the environment as
RESPONDER_GRYPE: `CGO_ENABLED=0 go install github.com/anchore/grype/cmd/grype@v0.121.2`.

The database is Grype's model 6 (https://github.com/anchore/grype/tree/main/grype/db/v6), cut to
what matching asks for; importing it adds what is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.real.missing import optional

BUILT = "2026-11-24 06:00:00+00:00"
TABLES = """
CREATE TABLE blobs (id integer PRIMARY KEY AUTOINCREMENT, value text NOT NULL);
CREATE TABLE db_metadata (
    build_timestamp datetime NOT NULL, model integer NOT NULL, revision integer NOT NULL,
    addition integer NOT NULL
);
CREATE TABLE providers (
    id text PRIMARY KEY, version text, processor text, date_captured datetime, input_digest text
);
CREATE TABLE vulnerability_handles (
    id integer PRIMARY KEY AUTOINCREMENT, name text NOT NULL, status text NOT NULL,
    published_date datetime, modified_date datetime, withdrawn_date datetime,
    provider_id text NOT NULL, blob_id integer
);
CREATE TABLE operating_systems (
    id integer PRIMARY KEY AUTOINCREMENT, name text, release_id text, major_version text,
    minor_version text, label_version text, codename text, channel text, eol_date datetime,
    eoas_date datetime
);
CREATE TABLE packages (id integer PRIMARY KEY AUTOINCREMENT, ecosystem text, name text);
CREATE TABLE affected_package_handles (
    id integer PRIMARY KEY AUTOINCREMENT, vulnerability_id integer NOT NULL,
    operating_system_id integer, package_id integer, blob_id integer
);
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One weakness of a Debian 12 source package; no fix: none is known."""

    id: str
    package: str
    fixed: str
    severity: str


@dataclass(frozen=True)
class Grype:
    """The program with a database of its own."""

    program: str
    cache: Path

    def scan(self, image: str, form: str) -> bytes:
        """Return its report on an image in a registry on loopback, as json, sarif or cyclonedx."""
        done = self._run([f"registry:{image}", "-o", form])
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.encode()

    def load(self, database: Path) -> None:
        """Import a database."""
        done = self._run(["db", "import", str(database)])
        assert done.returncode == 0, done.stderr[-2000:]

    def _run(self, args: Sequence[str]) -> subprocess.CompletedProcess[str]:
        switches = {
            "GRYPE_DB_CACHE_DIR": str(self.cache),
            "GRYPE_DB_AUTO_UPDATE": "false",
            "GRYPE_DB_VALIDATE_AGE": "false",
            "GRYPE_CHECK_FOR_APP_UPDATE": "false",
            "GRYPE_REGISTRY_INSECURE_USE_HTTP": "true",
            "XDG_CACHE_HOME": str(self.cache / "xdg"),
            "HOME": str(self.cache),
        }
        return subprocess.run(
            [self.program, *args],
            env={"PATH": os.environ["PATH"], **switches},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


def grype(folder: Path, entries: Sequence[Entry]) -> Grype:
    """Return Grype with a database of these entries; skip, in CI too, when it is not installed."""
    program = os.environ.get("RESPONDER_GRYPE") or shutil.which("grype")
    if not program:
        optional("grype is not installed; see tests/real/grype.py for how")
    database = folder / "vulnerability.db"
    write_database(database, entries)
    made = Grype(program, folder / "cache")
    made.load(database)
    return made


def write_database(path: Path, entries: Sequence[Entry]) -> None:
    """Write a database of model 6 with these entries for Debian 12."""
    with sqlite3.connect(path) as db:
        db.executescript(TABLES)
        db.execute("INSERT INTO db_metadata VALUES (?, 6, 1, 10)", (BUILT,))
        db.execute("INSERT INTO providers VALUES ('debian', '1', 'hand', ?, 'sha256:0')", (BUILT,))
        db.execute(
            "INSERT INTO operating_systems (name, release_id, major_version, minor_version,"
            " label_version, codename, channel) VALUES ('debian','debian','12','','','bookworm','')"
        )
        for entry in entries:
            _write(db, entry)
    db.close()


def _write(db: sqlite3.Connection, entry: Entry) -> None:
    severity = {"scheme": "CHML", "value": entry.severity, "rank": 1}
    about = {"id": entry.id, "description": "made by hand", "severities": [severity]}
    weakness = db.execute(
        "INSERT INTO vulnerability_handles (name, status, published_date, modified_date,"
        " provider_id, blob_id) VALUES (?, 'active', ?, ?, 'debian', ?)",
        (entry.id, BUILT, BUILT, _blob(db, about)),
    ).lastrowid
    package = db.execute(
        "INSERT INTO packages (ecosystem, name) VALUES ('deb', ?)", (entry.package,)
    ).lastrowid
    version = {"type": "deb"} | ({"constraint": f"< {entry.fixed}"} if entry.fixed else {})
    state = {"version": entry.fixed, "state": "fixed"} if entry.fixed else {"state": "not-fixed"}
    ranges = {"cves": [entry.id], "ranges": [{"version": version, "fix": state}]}
    db.execute(
        "INSERT INTO affected_package_handles (vulnerability_id, operating_system_id, package_id,"
        " blob_id) VALUES (?, 1, ?, ?)",
        (weakness, package, _blob(db, ranges)),
    )


def _blob(db: sqlite3.Connection, value: object) -> int | None:
    return db.execute("INSERT INTO blobs (value) VALUES (?)", (json.dumps(value),)).lastrowid
