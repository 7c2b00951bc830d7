"""One module per resource of the API. Each registers its operations in `control/context.py` when it is imported, and
`control/app.py` imports every module that stands here."""
