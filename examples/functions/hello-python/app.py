"""Says hello to the name in the event, and how long the invocation may still take.

Deploy with: lambent deploy examples/functions/hello-python --handler app.handler --runtime python3.12 --url
"""

import json


def handler(event, context):
    name = event.get("name") or (event.get("queryStringParameters") or {}).get("name") or "world"
    print(f"greeting {name}")
    answer = {"message": f"Hello, {name}!", "remaining_ms": context.get_remaining_time_in_millis()}
    if "requestContext" in event:  # through the function URL
        return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(answer)}
    return answer
