-- Published versions, aliases and layers.

-- Hex digests of the zips of a version's layers, in the order of /opt: they stay when a layer version is deleted.
ALTER TABLE versions ADD COLUMN layers TEXT NOT NULL DEFAULT '[]';
-- What $LATEST was when this version was made of it; '' for $LATEST itself.
ALTER TABLE versions ADD COLUMN origin TEXT NOT NULL DEFAULT '';

CREATE TABLE aliases (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    function TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Version, description, weights and revision, as a JSON object.
    document TEXT NOT NULL,
    PRIMARY KEY (account, region, function, name),
    FOREIGN KEY (account, region, function) REFERENCES functions (account, region, name) ON DELETE CASCADE
) WITHOUT ROWID;

-- A layer stays when its last version is deleted, for the number that the next one gets.
CREATE TABLE layers (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    next_version INTEGER NOT NULL,
    PRIMARY KEY (account, region, name)
) WITHOUT ROWID;

CREATE TABLE layer_versions (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    layer TEXT NOT NULL,
    version INTEGER NOT NULL,
    -- Hex digest of the zip.
    code_sha256 TEXT NOT NULL,
    -- What the API shows of it, as a JSON object.
    document TEXT NOT NULL,
    PRIMARY KEY (account, region, layer, version),
    FOREIGN KEY (account, region, layer) REFERENCES layers (account, region, name) ON DELETE CASCADE
) WITHOUT ROWID;
