-- Environments have the credentials of the function's role; so what they are made from names it.

UPDATE versions SET serving = json_set(serving, '$.role', coalesce(json_extract(configuration, '$.Role'), ''))
WHERE serving IS NOT NULL;
