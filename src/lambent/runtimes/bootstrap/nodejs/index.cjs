"use strict";
// The managed Node.js runtime: loads the handler, asks the platform for invocations, reports what becomes of them.
// Rules: fact sheet 17.2. CommonJS, since an ES module as the first program costs 5 ms more at every start.

const fs = require("node:fs");
const { RuntimeClient } = require("./client.cjs");
const { Invocation, NEVER_SETTLED } = require("./invocation.cjs");
const { awslambda } = require("./streaming.cjs");
const errors = require("./errors.cjs");
const handlers = require("./handler.cjs");
const log = require("./console.cjs");

const EXIT_UNHANDLED_REJECTION = 128;
const EXIT_UNCAUGHT_EXCEPTION = 129;
const EXIT_NEVER_SETTLED = 13; // Node.js's own code for a main module that never settles

process.mainModule = undefined; // `require.main` of the function's modules: on AWS the first program is an ES module

const environ = process.env;
if (environ.LAMBENT_PARKED) waitForOrders();
let handler = null;
let invocation = null; // the one that is running
let idle = false; // waiting for an invocation
let ending = false;

/** A parked blank goes no further until it is known whose runtime it is: its input then brings the environment. */
function waitForOrders() {
  const orders = fs.readFileSync(0, "utf8");
  if (!orders) process.exit(0); // nobody will need this one
  fs.closeSync(0);
  fs.openSync("/dev/null", "r"); // takes the number that has just become free
  const rows = new Map(orders.split("\0").map((row) => [row.slice(0, row.indexOf("=")), row.slice(row.indexOf("=") + 1)]));
  for (const name of Object.keys(environ)) if (!rows.has(name)) delete environ[name];
  // Only what differs: setting TZ, to whatever, takes V8 tens of milliseconds.
  for (const [name, value] of rows) if (environ[name] !== value) environ[name] = value;
  process.chdir(environ.LAMBDA_TASK_ROOT);
  const { uptime } = process;
  const waited = uptime();
  process.uptime = () => uptime() - waited; // instrumentation takes an old process for one that AWS made ahead
}

const client = new RuntimeClient(environ.AWS_LAMBDA_RUNTIME_API, (headers, payload) => {
  idle = false;
  const traceId = headers["lambda-runtime-trace-id"];
  if (traceId) environ._X_AMZN_TRACE_ID = traceId;
  else delete environ._X_AMZN_TRACE_ID;
  invocation = new Invocation(headers, finish, (id, contentType) => client.stream(id, contentType));
  log.setInvocation(invocation.id, headers["lambda-runtime-aws-tenant-id"]);
  invocation.run(handler, payload);
});

function finish(kind, value) {
  if (ending) return;
  const { id } = invocation;
  if (kind === "result") {
    let json;
    try {
      json = JSON.stringify(value) ?? "null";
    } catch {
      const message = "Unable to stringify response body";
      return finish("error", handlers.MAJOR >= 24 ? errors.runtimeError("JSONStringifyError", message) : new Error(message));
    }
    idle = true;
    client.respond(id, json);
  } else if (kind === "streamed") {
    idle = true;
    client.next();
  } else if (kind === "error") {
    log.logError("Invoke Error", value);
    idle = true;
    client.fail(id, JSON.stringify(errors.forCaller(value)), errors.forTrace(value));
  } else {
    end("Invoke Error", value, EXIT_NEVER_SETTLED);
  }
}

/** Say what happened, report it to whoever waits, and leave. */
function end(title, error, code) {
  if (ending) return;
  ending = true;
  log.logError(title, error);
  const shown = errors.forCaller(error);
  const leave = () => process.exit(code);
  if (idle) leave(); // between invocations nobody waits
  else if (invocation === null) client.failInit(shown.errorType, JSON.stringify(shown), leave);
  else client.failFinally(invocation.id, JSON.stringify(shown), errors.forTrace(error), leave);
}

log.install(environ);

process.on("uncaughtException", (error) => end("Uncaught Exception", error, EXIT_UNCAUGHT_EXCEPTION));
process.on("unhandledRejection", (reason, promise) => {
  const message = reason instanceof Error ? String(reason) : errors.asError(reason).message;
  const error = errors.runtimeError("UnhandledPromiseRejection", message, { reason, promise });
  end("Unhandled Promise Rejection", error, EXIT_UNHANDLED_REJECTION);
});
process.on("beforeExit", () => {
  if (ending || idle) return;
  if (invocation !== null) invocation.loopIsEmpty();
  else end("Uncaught Exception", errors.runtimeError("NodeJsExit", NEVER_SETTLED), EXIT_NEVER_SETTLED); // top-level await
});

if (!["1", "true"].includes(environ.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA)) globalThis.awslambda = awslambda;

handlers.load(environ.LAMBDA_TASK_ROOT, environ._HANDLER).then(
  (loaded) => {
    handler = loaded;
    setImmediate(() => { // rejections of the module's own code are reported first: they are errors of Init
      if (ending) return;
      idle = true;
      client.next();
    });
  },
  (error) => end("Uncaught Exception", error, EXIT_UNCAUGHT_EXCEPTION),
);
