-- Functions, their versions and their URLs. Every key begins with account and region, although a server of today
-- has one of each. Documents are JSON objects; what a query must find stands in a column of its own.

CREATE TABLE functions (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The number that the next published version gets; numbers are never used twice.
    next_version INTEGER NOT NULL DEFAULT 1,
    tags TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (account, region, name)
) WITHOUT ROWID;

CREATE TABLE versions (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    function TEXT NOT NULL,
    -- '$LATEST' or a number.
    version TEXT NOT NULL,
    -- Hex digest of the zip that `configuration` speaks of.
    code_sha256 TEXT NOT NULL,
    -- The members of FunctionConfiguration, as the API shows them.
    configuration TEXT NOT NULL,
    -- What the running or next activation is to make of it; differs with every change of code or configuration.
    generation TEXT NOT NULL,
    -- What invocations get: code and configuration of the last activation that succeeded. NULL before the first.
    serving TEXT,
    PRIMARY KEY (account, region, function, version),
    FOREIGN KEY (account, region, function) REFERENCES functions (account, region, name) ON DELETE CASCADE
) WITHOUT ROWID;

CREATE TABLE urls (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    function TEXT NOT NULL,
    -- '' for the function itself, otherwise the name of an alias.
    qualifier TEXT NOT NULL,
    url_id TEXT NOT NULL UNIQUE,
    configuration TEXT NOT NULL,
    PRIMARY KEY (account, region, function, qualifier),
    FOREIGN KEY (account, region, function) REFERENCES functions (account, region, name) ON DELETE CASCADE
) WITHOUT ROWID;
