"""Sleeps for the seconds in the event, 60 if it says nothing: longer than the timeout, and the environment is reset.

Deploy with: lambent deploy examples/functions/timeout --handler app.handler --runtime python3.12 --timeout 2
"""

import time


def handler(event, context):
    seconds = float(event.get("seconds", 60))
    print(f"sleeping {seconds:g} s with {context.get_remaining_time_in_millis()} ms left")
    time.sleep(seconds)
    return {"slept": seconds}
