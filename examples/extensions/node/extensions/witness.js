#!/usr/bin/env node
// An external extension that says what it is told: lifecycle events and telemetry, one line for each.
//
// It needs nothing but Node.js 18 or newer, whose fetch it uses. Variables of the function change what it does:
// WITNESS_TYPES (default `platform,function`; never `extension`, since it would be told of its own lines; empty for
// lifecycle events only) and WITNESS_PORT.

const { createServer } = require("node:http");
const { basename } = require("node:path");

const name = basename(__filename); // the platform knows an external extension by its file name
const host = `http://${process.env.AWS_LAMBDA_RUNTIME_API}`;
const types = (process.env.WITNESS_TYPES ?? "platform,function").split(",").filter(Boolean);
const port = Number(process.env.WITNESS_PORT ?? 8080);
const say = (what, more) => console.log(`${name}: ${what} ${JSON.stringify(more)}`);

let awaited; // the id of the latest invocation
let allTold = Promise.resolve(); // when its report has come, nothing is left to be told
let told = () => {};

function tell({ type, record }) {
  say("telemetry", { type, record });
  if (type === "platform.report" && record.requestId === awaited) told();
}

async function call(method, path, headers, body) {
  const reply = await fetch(host + path, {
    method,
    headers: { ...headers, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  if (!reply.ok) throw new Error(`${path} answers ${reply.status}: ${await reply.text()}`);
  return reply;
}

// Batches come as JSON arrays; a 200 says that this one need not be sent again.
async function listen() {
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    JSON.parse(Buffer.concat(parts)).forEach(tell);
    response.end();
  });
  // The listener must be up before subscribing, and on sandbox.localdomain, which is this environment alone.
  await new Promise((resolve) => server.listen(port, "sandbox.localdomain", resolve));
}

async function subscribe(identity) {
  await listen();
  const reply = await call("PUT", "/2022-07-01/telemetry", identity, {
    schemaVersion: "2022-12-13",
    types,
    buffering: { timeoutMs: 25 },
    destination: { protocol: "HTTP", URI: `http://sandbox.localdomain:${port}` },
  });
  if (reply.status !== 200) say("unsupported", await reply.text()); // 202: there is no telemetry here; life goes on
}

async function main() {
  const registered = await call("POST", "/2020-01-01/extension/register", { "Lambda-Extension-Name": name },
    { events: ["INVOKE", "SHUTDOWN"] });
  const identity = { "Lambda-Extension-Identifier": registered.headers.get("lambda-extension-identifier") };
  if (types.length) await subscribe(identity);
  say("registered", { function: (await registered.json()).functionName });
  for (;;) {
    // The platform answers when there is something to do, and freezes this process until then.
    const event = await (await call("GET", "/2020-01-01/extension/event/next", identity)).json();
    const left_ms = event.deadlineMs - Date.now();
    if (event.eventType === "SHUTDOWN") {
      say("shutdown", { reason: event.shutdownReason, left_ms });
      setTimeout(() => process.exit(0), left_ms - 100);
      await allTold; // the last telemetry is on its way
      process.exit(0);
    }
    if (types.includes("platform")) {
      awaited = event.requestId;
      allTold = new Promise((resolve) => (told = resolve));
    }
    say("invoke", { request: event.requestId, left_ms });
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
