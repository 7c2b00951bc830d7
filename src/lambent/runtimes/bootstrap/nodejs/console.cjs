"use strict";
// console.* in AWS's formats, text or JSON (fact sheet 5.3 and 5.4). One call is one line on standard output: line
// breaks inside a message travel as carriage returns, which the platform turns back, so that a message is one event.

const util = require("node:util");
const errors = require("./errors.cjs");

const LEVELS = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
// Whoever logs in other ways finds the request by this name.
const REQUEST_ID = Symbol.for("aws.lambda.runtime.requestId");
let tenant;
let json = false;

/** Replace the methods of `console`. Levels below AWS_LAMBDA_LOG_LEVEL are dropped. */
function install(environ) {
  json = environ.AWS_LAMBDA_LOG_FORMAT?.toUpperCase() === "JSON";
  const lowest = Math.max(0, LEVELS.indexOf(environ.AWS_LAMBDA_LOG_LEVEL?.toUpperCase()));
  for (const level of LEVELS) {
    const enabled = LEVELS.indexOf(level) >= lowest;
    console[level.toLowerCase()] = enabled ? (message, ...rest) => write(level, message, rest) : () => {};
  }
  console.log = console.info;
}

/** From now on records belong to this invocation. */
function setInvocation(requestId, tenantId) {
  globalThis[REQUEST_ID] = requestId;
  tenant = tenantId;
}

/** What the runtime itself says about a failure: `title` in text, the error alone in JSON. */
function logError(title, error) {
  if (json) console.error(errors.asError(error));
  else console.error(title, "\t" + errors.forLog(error));
}

function write(level, message, rest) {
  const time = new Date().toISOString();
  const line = json
    ? asJson(time, level, message, rest)
    : `${time}\t${globalThis[REQUEST_ID]}\t${level}\t${util.format(message, ...rest)}`;
  process.stdout.write(line.replaceAll("\n", "\r") + "\n");
}

function asJson(time, level, message, rest) {
  const record = { timestamp: time, level, requestId: globalThis[REQUEST_ID] };
  if (tenant) record.tenantId = tenant;
  if (rest.length === 0) {
    try {
      return JSON.stringify({ ...record, message }, showErrors);
    } catch {
      return JSON.stringify({ ...record, message: util.format(message) });
    }
  }
  record.message = util.format(message, ...rest);
  const error = rest.find((value) => value instanceof Error);
  return JSON.stringify(error ? { ...record, ...described(error) } : record);
}

function described(error) {
  return {
    errorType: error.constructor?.name ?? "UnknownError",
    errorMessage: error.message,
    stackTrace: typeof error.stack === "string" ? error.stack.split("\n") : [],
  };
}

const showErrors = (_key, value) => (value instanceof Error ? { ...described(value), ...value } : value);

module.exports = { install, logError, setInvocation };
