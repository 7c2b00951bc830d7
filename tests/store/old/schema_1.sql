-- A data directory as the first schema left it: a function that was being updated, and one with a URL.
PRAGMA user_version = 1;
CREATE TABLE functions (
    account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, next_version INTEGER NOT NULL DEFAULT 1,
    tags TEXT NOT NULL DEFAULT '{}', PRIMARY KEY (account, region, name)
) WITHOUT ROWID;
CREATE TABLE versions (
    account TEXT NOT NULL, region TEXT NOT NULL, function TEXT NOT NULL, version TEXT NOT NULL,
    code_sha256 TEXT NOT NULL, configuration TEXT NOT NULL, generation TEXT NOT NULL, serving TEXT,
    PRIMARY KEY (account, region, function, version),
    FOREIGN KEY (account, region, function) REFERENCES functions (account, region, name) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE urls (
    account TEXT NOT NULL, region TEXT NOT NULL, function TEXT NOT NULL, qualifier TEXT NOT NULL,
    url_id TEXT NOT NULL UNIQUE, configuration TEXT NOT NULL,
    PRIMARY KEY (account, region, function, qualifier),
    FOREIGN KEY (account, region, function) REFERENCES functions (account, region, name) ON DELETE CASCADE
) WITHOUT ROWID;
INSERT INTO functions VALUES ('000000000000', 'us-east-1', 'old', 1, '{"k":"v"}');
INSERT INTO functions VALUES ('000000000000', 'us-east-1', 'updating', 1, '{}');
INSERT INTO versions VALUES ('000000000000', 'us-east-1', 'old', '$LATEST',
    'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
    '{"FunctionName":"old","Runtime":"python3.12","Handler":"app.handler","Timeout":7,"State":"Active",'
    || '"LastUpdateStatus":"Successful","RevisionId":"r1","LoggingConfig":{"LogFormat":"Text","LogGroup":"/aws/lambda/old"}}',
    'g1', '{"account":"000000000000","region":"us-east-1","name":"old","version":"$LATEST","generation":"g1",'
    || '"runtime":"python3.12","handler":"app.handler",'
    || '"code_sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","timeout_s":7,"memory_mib":128,'
    || '"ephemeral_mib":512,"environment":{"AB":"c"},"layers":[],"log_group":"/aws/lambda/old","log_format":"Text",'
    || '"application_log_level":null,"system_log_level":null,"architecture":"x86_64","actual_runtime":null}');
INSERT INTO versions VALUES ('000000000000', 'us-east-1', 'updating', '$LATEST',
    'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',
    '{"FunctionName":"updating","Runtime":"python3.12","Handler":"app.handler","State":"Pending","RevisionId":"r2"}',
    'g2', NULL);
INSERT INTO urls VALUES ('000000000000', 'us-east-1', 'old', '', 'abcdefghijklmnopqrstuvwxyz012345',
    '{"AuthType":"NONE","InvokeMode":"BUFFERED","CreationTime":"2026-11-20T09:00:00.000Z",'
    || '"LastModifiedTime":"2026-11-20T09:00:00.000Z"}');
