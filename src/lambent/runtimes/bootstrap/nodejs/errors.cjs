"use strict";
// Errors as AWS shows them: what goes to the caller, what goes to the log, what goes to the trace.
// Shapes: fact sheet 5.3, 6.3 and 17.2.

// ASCII DEL cannot travel in these fields.
const clean = (text) => (typeof text === "string" ? text.replaceAll("\x7F", "%7F") : text);

/** An error of the runtime itself, such as Runtime.HandlerNotFound. Logs in JSON show the name of its class. */
function runtimeError(kind, message, fields) {
  const { [kind]: Kind } = { [kind]: class extends Error {} };
  const error = new Kind(message);
  Object.defineProperty(error, "name", { value: `Runtime.${kind}`, enumerable: false, configurable: true });
  Error.captureStackTrace(error, runtimeError);
  return Object.assign(error, fields);
}

function looksLikeError(value) {
  return (
    value instanceof Error ||
    (value !== null && typeof value === "object" &&
      ["name", "message", "stack"].every((field) => typeof value[field] === "string" && value[field] !== ""))
  );
}

/** The JSON object that the caller of the function receives. */
function forCaller(error) {
  try {
    if (looksLikeError(error)) {
      const trace = typeof error.stack === "string" ? clean(error.stack).split("\n") : [];
      return { errorType: clean(error.name), errorMessage: clean(error.message), trace };
    }
    return { errorType: typeof error, errorMessage: error.toString(), trace: [] };
  } catch {
    return {
      errorType: "handled",
      errorMessage:
        "callback called with Error argument, but there was a problem while retrieving one or more of its message, " +
        "name, and stack",
    };
  }
}

/** Errors inside of what is being serialised become objects with their own enumerable properties. */
function expandErrors(_key, value) {
  if (!(value instanceof Error)) return value;
  const shown = { errorType: value.name, errorMessage: value.message, code: value.code, ...value };
  if (typeof value.stack === "string") shown.stack = value.stack.split("\n");
  return shown;
}

/** One line of JSON for the text log; what is thrown without being an Error is wrapped into one. */
function forLog(error) {
  const shown = asError(error);
  try {
    return JSON.stringify(shown, expandErrors);
  } catch {
    return JSON.stringify(forCaller(shown)); // a property that cannot be serialised
  }
}

function asError(value) {
  if (value instanceof Error) return value;
  try {
    return new Error(value);
  } catch {
    return new Error("an error that cannot be shown as text was thrown");
  }
}

/** The X-Ray cause as JSON in ASCII, fit for a header; empty when there is none or it is too large. */
function forTrace(error) {
  try {
    const lines = clean(error.stack).split("\n").slice(1);
    const stack = lines.map((line) => {
      const [, label, path, number] = /^\s*at (?:(.*?) \()?(.*?):(\d+)(?::\d+)?\)?$/.exec(line) ?? [];
      return { path: path ?? line.trim(), line: Number(number ?? 0), label: label ?? "anonymous" };
    });
    const cause = JSON.stringify({
      working_directory: process.cwd(),
      exceptions: [{ type: clean(error.name), message: clean(error.message), stack }],
      paths: [...new Set(stack.map((entry) => entry.path))],
    });
    const ascii = cause.replace(/[^\x20-\x7e]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
    return ascii.length < 65536 ? ascii : "";
  } catch {
    return "";
  }
}

module.exports = { asError, forCaller, forLog, forTrace, runtimeError };
