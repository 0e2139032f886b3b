-- Times are microseconds UTC. `seq` columns are inner keys: short, rising, never shown.
CREATE TABLE incidents (
    number     INTEGER PRIMARY KEY,  -- rows are never deleted, so numbers are never used twice
    key        TEXT NOT NULL,
    title      TEXT NOT NULL,
    severity   INTEGER NOT NULL,
    status     TEXT NOT NULL,
    opened     INTEGER NOT NULL,
    updated    INTEGER NOT NULL,
    last_alert INTEGER NOT NULL,
    alerts     INTEGER NOT NULL,
    target     TEXT NOT NULL,
    stages     TEXT NOT NULL
) STRICT;
CREATE INDEX incidents_live ON incidents (key) WHERE status NOT IN ('resolved', 'closed');

CREATE TABLE alerts (
    seq          INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    hook         TEXT NOT NULL,
    received     INTEGER NOT NULL,
    incident     INTEGER,
    duplicate_of TEXT,
    body         TEXT NOT NULL,
    raw          TEXT NOT NULL
) STRICT;
CREATE INDEX alerts_incident ON alerts (incident) WHERE incident IS NOT NULL;
CREATE INDEX alerts_hook ON alerts (hook);

-- The last sight of each statement of each sender: what a duplicate is measured against.
CREATE TABLE sightings (
    hook        TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    alert       TEXT NOT NULL,
    incident    INTEGER,
    seen        INTEGER NOT NULL,
    PRIMARY KEY (hook, fingerprint)
) STRICT, WITHOUT ROWID;

CREATE TABLE playbooks (
    hash TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;

CREATE TABLE runs (
    seq           INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    incident      INTEGER NOT NULL,
    playbook      TEXT NOT NULL,
    playbook_hash TEXT NOT NULL,
    mode          TEXT NOT NULL,
    status        TEXT NOT NULL,
    outcome       TEXT NOT NULL DEFAULT '',
    reason        TEXT NOT NULL DEFAULT '',
    waiting_for   TEXT NOT NULL DEFAULT '',
    due           INTEGER,
    created       INTEGER NOT NULL,
    finished      INTEGER,
    person        TEXT NOT NULL DEFAULT '',
    priority      INTEGER NOT NULL DEFAULT 0,
    last          INTEGER NOT NULL  -- seq of the newest journal line
) STRICT;
CREATE INDEX runs_due ON runs (priority, due) WHERE due IS NOT NULL;
CREATE INDEX runs_incident ON runs (incident);
CREATE INDEX runs_open ON runs (status) WHERE outcome = '';
CREATE INDEX runs_storm ON runs (created) WHERE mode = 'enforce';
CREATE INDEX runs_brake ON runs (playbook, created) WHERE mode = 'enforce';

CREATE TABLE journal (
    run  INTEGER NOT NULL,
    seq  INTEGER NOT NULL,
    type TEXT NOT NULL,
    at   INTEGER NOT NULL,
    data TEXT NOT NULL,
    UNIQUE (run, seq)
) STRICT;
CREATE INDEX journal_type ON journal (type, at);

CREATE TABLE correlations (
    name TEXT NOT NULL,
    run  INTEGER NOT NULL,
    PRIMARY KEY (name, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX correlations_run ON correlations (run);

CREATE TABLE timeline (
    id       INTEGER PRIMARY KEY,
    incident INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    text     TEXT NOT NULL,
    door     TEXT NOT NULL,
    person   TEXT NOT NULL,
    data     TEXT NOT NULL
) STRICT;
CREATE INDEX timeline_incident ON timeline (incident);

-- AUTOINCREMENT remembers the highest id ever given, so a cut-off tail is seen.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    person  TEXT NOT NULL,
    door    TEXT NOT NULL,
    verb    TEXT NOT NULL,
    object  TEXT NOT NULL,
    plan    TEXT NOT NULL,
    detail  TEXT NOT NULL,
    address TEXT NOT NULL,
    hash    TEXT NOT NULL
) STRICT;

CREATE TABLE evidence (
    id       INTEGER PRIMARY KEY,
    incident INTEGER NOT NULL,
    run      TEXT NOT NULL,
    step     TEXT NOT NULL,
    name     TEXT NOT NULL,
    sha256   TEXT NOT NULL,
    size     INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    origin   TEXT NOT NULL,
    UNIQUE (incident, run, step, name, sha256)
) STRICT;

CREATE TABLE tokens (
    id        TEXT PRIMARY KEY,
    person    TEXT NOT NULL,
    role      TEXT NOT NULL,
    hash      TEXT NOT NULL UNIQUE,
    created   INTEGER NOT NULL,
    expires   INTEGER NOT NULL,
    revoked   INTEGER,
    last_used INTEGER
) STRICT;

CREATE TABLE switches (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE strikes (
    kind   TEXT NOT NULL,
    key    TEXT NOT NULL,
    count  INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE requests (
    key     TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    answer  TEXT,
    at      INTEGER NOT NULL
) STRICT;

-- One number that `writable` raises: the only honest answer is a committed write.
CREATE TABLE probe (beats INTEGER NOT NULL) STRICT;
INSERT INTO probe VALUES (0);
