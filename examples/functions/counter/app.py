"""Counts its invocations in a global and in /tmp: both live as long as the environment, and not one call longer.

Deploy with: lambent deploy examples/functions/counter --handler app.handler --runtime python3.12
"""

import pathlib
import tempfile
import time
import uuid

ENVIRONMENT = str(uuid.uuid4())  # made during Init, the same for every invocation of this environment
FILE = pathlib.Path(tempfile.gettempdir(), "count")
calls = 0


def handler(event, context):
    global calls
    calls += 1
    with FILE.open("a") as file:
        file.write("|")
    time.sleep(float((event or {}).get("seconds", 0)))  # to see a burst of calls spread over environments
    return {"environment": ENVIRONMENT, "calls": calls, "in_tmp": len(FILE.read_text())}
