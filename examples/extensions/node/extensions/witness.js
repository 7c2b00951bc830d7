#!/usr/bin/env node
// An external extension that says what it is told, one line for each event of the environment's life.
// It needs nothing but Node.js 18 or newer, whose fetch it uses.

const { basename } = require("node:path");

const name = basename(__filename); // the platform knows an external extension by its file name
const base = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2020-01-01/extension`;
const say = (what, more) => console.log(`${name}: ${what} ${JSON.stringify(more)}`);

async function register() {
  const reply = await fetch(`${base}/register`, {
    method: "POST",
    headers: { "Lambda-Extension-Name": name, "Content-Type": "application/json" },
    body: JSON.stringify({ events: ["INVOKE", "SHUTDOWN"] }),
  });
  if (!reply.ok) throw new Error(await reply.text());
  say("registered", { function: (await reply.json()).functionName });
  return reply.headers.get("lambda-extension-identifier");
}

async function main() {
  const identity = { "Lambda-Extension-Identifier": await register() };
  for (;;) {
    // The platform answers when there is something to do, and freezes this process until then.
    const reply = await fetch(`${base}/event/next`, { headers: identity });
    const event = await reply.json();
    if (event.eventType === "SHUTDOWN") {
      say("shutdown", { reason: event.shutdownReason, left_ms: event.deadlineMs - Date.now() });
      return;
    }
    say("invoke", { request: event.requestId });
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
