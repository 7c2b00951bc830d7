-- Small resources, each a JSON object that is read whole: policies and settings of functions, event source mappings,
-- code signing configurations, roles. What hangs on a function goes with it.

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
