"""Fails in the way that the event asks for ("raise", "exit", "crash", "memory"): what each looks like to a caller.

Deploy with: lambent deploy examples/functions/error --handler app.handler --runtime python3.12
"""

import os
import signal
import sys


class NotEnoughCheese(Exception):
    """An error of the function's own."""


def handler(event, context):
    how = event.get("how", "raise")
    if how == "raise":
        raise NotEnoughCheese("there is no cheese left")
    if how == "exit":
        sys.exit(event.get("code", 1))
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "memory":
        kept = []
        while True:
            kept.append(bytes(16 * 1024 * 1024))
    return {"how": how, "known": ["raise", "exit", "crash", "memory"]}
