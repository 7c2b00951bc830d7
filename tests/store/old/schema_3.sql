-- A data directory as the third schema left it: what the first one held, migrated, with roles.
PRAGMA user_version = 3;
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
CREATE TABLE documents (
    account TEXT NOT NULL,
    -- '' for what belongs to no region, as roles do.
    region TEXT NOT NULL,
    -- The name of the function that this hangs on; '' for a resource of its own.
    function TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- Id of the resource, or the qualifier of the function ('' for the function itself).
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (account, region, function, kind, name)
) WITHOUT ROWID;
CREATE TABLE functions (
    account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, next_version INTEGER NOT NULL DEFAULT 1,
    tags TEXT NOT NULL DEFAULT '{}', PRIMARY KEY (account, region, name)
) WITHOUT ROWID;
INSERT INTO "functions" VALUES('000000000000','us-east-1','old',1,'{"k":"v"}');
INSERT INTO "functions" VALUES('000000000000','us-east-1','updating',1,'{}');
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
CREATE TABLE layers (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    next_version INTEGER NOT NULL,
    PRIMARY KEY (account, region, name)
) WITHOUT ROWID;
CREATE TABLE urls (
    account TEXT NOT NULL, region TEXT NOT NULL, function TEXT NOT NULL, qualifier TEXT NOT NULL,
    url_id TEXT NOT NULL UNIQUE, configuration TEXT NOT NULL,
    PRIMARY KEY (account, region, function, qualifier),
    FOREIGN KEY (account, region, function) REFERENCES functions (account, region, name) ON DELETE CASCADE
) WITHOUT ROWID;
INSERT INTO "urls" VALUES('000000000000','us-east-1','old','','abcdefghijklmnopqrstuvwxyz012345','{"AuthType":"NONE","InvokeMode":"BUFFERED","CreationTime":"2026-11-20T09:00:00.000Z","LastModifiedTime":"2026-11-20T09:00:00.000Z"}');
CREATE TABLE versions (
    account TEXT NOT NULL, region TEXT NOT NULL, function TEXT NOT NULL, version TEXT NOT NULL,
    code_sha256 TEXT NOT NULL, configuration TEXT NOT NULL, generation TEXT NOT NULL, serving TEXT, layers TEXT NOT NULL DEFAULT '[]', origin TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (account, region, function, version),
    FOREIGN KEY (account, region, function) REFERENCES functions (account, region, name) ON DELETE CASCADE
) WITHOUT ROWID;
INSERT INTO "versions" VALUES('000000000000','us-east-1','old','$LATEST','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"FunctionName":"old","Runtime":"python3.12","Handler":"app.handler","Role":"arn:aws:iam::000000000000:role/p/r","Timeout":7,"State":"Active","LastUpdateStatus":"Successful","RevisionId":"r1","LoggingConfig":{"LogFormat":"Text","LogGroup":"/aws/lambda/old"}}','g1','{"account":"000000000000","region":"us-east-1","name":"old","version":"$LATEST","generation":"g1","runtime":"python3.12","handler":"app.handler","code_sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","timeout_s":7,"memory_mib":128,"ephemeral_mib":512,"environment":{"AB":"c"},"layers":[],"log_group":"/aws/lambda/old","log_format":"Text","application_log_level":null,"system_log_level":null,"architecture":"x86_64","actual_runtime":null}','[]','');
INSERT INTO "versions" VALUES('000000000000','us-east-1','updating','$LATEST','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"FunctionName":"updating","Runtime":"python3.12","Handler":"app.handler","State":"Pending","RevisionId":"r2"}','g2',NULL,'[]','');
