"""Web frameworks behind function URLs, from PyPI and npm: Mangum with Starlette, apig-wsgi with Flask, and Hono, which
also streams. And an internal extension that others wrote, by which a function is told of its end.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from . import agents
from .harness import PYTHON, Answer, Server

pytestmark = pytest.mark.slow

ASGI_REQUIREMENTS = "mangum==0.22.0\nstarlette==1.10.0\n"
ASGI = """
from mangum import Mangum
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

async def echo(request):
    body = await request.body()
    response = Response(body, 201, media_type=request.headers["content-type"])
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response

async def item(request):
    return JSONResponse({"item": request.path_params["item"], "query": request.query_params.multi_items(),
                         "cookies": request.cookies, "ip": request.client.host, "method": request.method})

async def boom(request):
    raise ValueError("boom")

handler = Mangum(Starlette(routes=[
    Route("/items/{item}", item), Route("/echo", echo, methods=["POST"]), Route("/boom", boom)]), lifespan="off")
"""

WSGI_REQUIREMENTS = "apig-wsgi==2.20.0\nflask==3.1.3\n"
WSGI = """
from apig_wsgi import make_lambda_handler
from flask import Flask, jsonify, make_response, request

app = Flask(__name__)

@app.post("/echo")
def echo():
    response = make_response(request.get_data(), 201)
    response.content_type = request.content_type
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response

@app.get("/items/<item>")
def item(item):
    return jsonify(item=item, query=list(request.args.items(multi=True)), cookies=request.cookies,
                   ip=request.remote_addr, method=request.method)

@app.get("/boom")
def boom():
    raise ValueError("boom")

handler = make_lambda_handler(app)
"""

HONO = """
import { Hono } from 'hono';
import { handle, streamHandle } from 'hono/aws-lambda';
import { getCookie, setCookie } from 'hono/cookie';
import { streamSSE } from 'hono/streaming';

const app = new Hono();
app.post('/echo', async (c) => {
  setCookie(c, 'a', '1');
  setCookie(c, 'b', '2');
  return c.body(await c.req.arrayBuffer(), 201, { 'content-type': c.req.header('content-type') });
});
app.get('/items/:item', (c) => c.json({
  item: c.req.param('item'), query: Object.entries(c.req.queries()).flatMap(([k, all]) => all.map((v) => [k, v])),
  cookies: getCookie(c), ip: c.env.requestContext.http.sourceIp, method: c.req.method }));
app.get('/boom', () => { throw new Error('boom'); });
app.get('/away', (c) => c.redirect('/elsewhere'));
app.get('/events', (c) => streamSSE(c, async (stream) => {
  for (const data of ['one', 'two']) await stream.writeSSE({ data });
}));
export const handler = handle(app);
export const streamed = streamHandle(app);
"""
HONO_PACKAGE = json.dumps({"type": "module", "dependencies": {"hono": "4.13.19"}})

MANNERED = """
import signal, sys
import lambda_sigterm

lambda_sigterm.register()

def stop(number, frame):
    print("the function says goodbye")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)

def handler(event, context):
    return event
"""

#: Files, runtime, handler, mode of the URL.
FUNCTIONS_OF_OTHERS: dict[str, tuple[dict[str, str], str, str, str]] = {
    "mangum": ({"app.py": ASGI, "requirements.txt": ASGI_REQUIREMENTS}, PYTHON, "app.handler", "BUFFERED"),
    "apig-wsgi": ({"app.py": WSGI, "requirements.txt": WSGI_REQUIREMENTS}, PYTHON, "app.handler", "BUFFERED"),
    "hono": ({"index.mjs": HONO, "package.json": HONO_PACKAGE}, "nodejs20.x", "index.handler", "BUFFERED"),
    "hono-streams": ({"index.mjs": HONO, "package.json": HONO_PACKAGE}, "nodejs20.x", "index.streamed",
                     "RESPONSE_STREAM"),
}  # fmt: skip


def deploy(server: Server, folder: Path, name: str) -> str:
    """The host of the function's URL."""
    files, runtime, handler, mode = FUNCTIONS_OF_OTHERS[name]
    if "package.json" in files:
        agents.tool("npm")
    agents.deploy(server, folder / name, files, "--handler", handler, "--runtime", runtime, "--memory", "1769",
                  "--timeout", "20")  # fmt: skip
    return server.open_url(name, InvokeMode=mode)


def cookies(answer: Answer) -> list[str]:
    return sorted(value.partition(";")[0] for name, value in answer.headers if name.lower() == "set-cookie")


@pytest.mark.parametrize("name", FUNCTIONS_OF_OTHERS)
def test_a_web_framework_behind_a_url(server: Server, tmp_path: Path, name: str) -> None:
    host = deploy(server, tmp_path, name)
    got = server.http("GET", "/items/a%20b?x=1&x=2&y=%C3%A9&z=", host=host, headers=[("Cookie", "c=1; d=2")])
    assert (got.status, got.json()) == (200, {
        "item": "a b", "query": [["x", "1"], ["x", "2"], ["y", "\u00e9"], ["z", ""]], "cookies": {"c": "1", "d": "2"},
        "ip": "127.0.0.1", "method": "GET"})  # fmt: skip
    for kind, body in (("text/plain; charset=utf-8", "h\u00e9".encode()), ("application/octet-stream", b"\0\xff\xfe")):
        echoed = server.http("POST", "/echo", host=host, body=body, headers=[("Content-Type", kind)])
        assert (echoed.status, echoed.body, echoed.header("Content-Type")) == (201, body, kind)
        assert cookies(echoed) == ["a=1", "b=2"]
    assert [server.http("GET", path, host=host).status for path in ("/boom", "/nowhere")] == [500, 404]
    if name == "hono-streams":
        events = server.http("GET", "/events", host=host)
        assert (events.header("Content-Type"), events.body) == ("text/event-stream", b"data: one\n\ndata: two\n\n")
        away = server.http("GET", "/away", host=host)
        assert (away.status, away.header("Location"), away.body) == (302, "/elsewhere", b"")


def test_a_function_that_registers_a_package_for_sigterm_is_told(server: Server, tmp_path: Path) -> None:
    """AWS gives the runtime of a function without any extension no time; this internal one does nothing else."""
    agents.deploy(server, tmp_path / "mannered", {
        "app.py": MANNERED, "requirements.txt": "lambda-sigterm==0.1.2\n"},
        "--handler", "app.handler", "--runtime", PYTHON)  # fmt: skip
    first, second = server.invoke("mannered", 1), server.invoke("mannered", 2)
    assert (second.payload, second.environment) == (2, first.environment)
    assert "EXTENSION\tName: lambda-sigterm\tState: Ready\tEvents: []\n" in first.log
    story = server.story(first.environment)
    server.retire(first.environment)
    found = server.logs.get_log_events(
        logGroupName=story["log_group"], logStreamName=story["log_stream"], startFromHead=True)  # fmt: skip
    assert found["events"][-1]["message"] == "the function says goodbye\n"
