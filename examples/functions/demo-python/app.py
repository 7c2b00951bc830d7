"""A function that shows what an execution environment keeps, and that it is frozen between invocations.

What stands at module level runs once, in the Init phase. The background thread counts for as long as the environment
gets CPU time.
"""

import itertools
import threading
import time

ticks = 0
invocations = itertools.count(1)


def count():
    global ticks
    while True:
        ticks += 1
        time.sleep(0.001)


threading.Thread(target=count, daemon=True).start()


def handler(event, context):
    """Takes {"name": text, "seconds": how long to stay}, or a request to the function's URL."""
    begun = ticks
    name = event.get("name") or (event.get("queryStringParameters") or {}).get("name", "world")
    time.sleep(float(event.get("seconds", 0)))
    return {
        "greeting": f"Hello, {name}!",
        "invocation": next(invocations),
        "ticks": {"begin": begun, "end": ticks},
        "log_stream": context.log_stream_name,
    }
