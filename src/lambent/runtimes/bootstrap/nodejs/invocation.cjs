"use strict";
// One invocation: the context object, and the ways in which a handler says that it is done (fact sheet 17.2).
// `finish` is told exactly once; when is decided here, what goes over the wire is not.

const { finished } = require("node:stream");
const { MAJOR } = require("./handler.cjs");
const { highWaterMark, ResponseStream, streams } = require("./streaming.cjs");
const { runtimeError } = require("./errors.cjs");

const NEVER_SETTLED =
  "The Lambda runtime client detected an unexpected Node.js exit code. This is most commonly caused by a Promise that " +
  "was never settled. For more information, see https://nodejs.org/docs/latest/api/process.html#exit-codes";

/** Takes what is written to a stream after its invocation is over. */
const NOBODY = { write: (_chunk, done) => done(), end: (done) => done() };

/** Its class and the two methods that call a handler are named as in the stack traces that AWS shows. */
const Invocation = class Runtime {
  #finish;
  #called = false; // the first of callback, succeed, fail and done counts, later ones do not
  #done = false;
  #waits = true; // callbackWaitsForEmptyEventLoop
  #whenEmpty; // what happens when the event loop runs empty

  #openStream;

  /**
   * `finish(kind, value)`: kind is "result", "streamed", "error" or "exit" (an error after which the process ends).
   * `openStream(id, contentType)` begins a streamed response.
   */
  constructor(headers, finish, openStream) {
    this.#openStream = openStream;
    this.id = headers["lambda-runtime-aws-request-id"];
    this.headers = headers;
    this.#finish = finish;
    this.#whenEmpty = () => this.#end("result", null); // a callback that is never called
  }

  /**
   * Call the handler, after an `await`: no stack trace shows our socket under it. Not by `then`, since tracing layers
   * replace that one.
   */
  run(handler, payload) {
    this.handler = handler;
    if (streams(handler)) this.handleOnceStreaming(payload);
    else this.handleOnceNonStreaming(payload);
  }

  async handleOnceNonStreaming(payload) {
    await null;
    const { handler } = this;
    try {
      const event = JSON.parse(payload);
      // Up to 22 only a function declared async must settle: what else leaves nothing to do has forgotten its callback.
      if (MAJOR < 24 && handler.constructor?.name === "AsyncFunction")
        this.#whenEmpty = () => this.#end("error", runtimeError("NodeJsExit", NEVER_SETTLED));
      const context = this.#context();
      const result = this.handler(event, context, this.#callback);
      if (typeof result?.then === "function") {
        if (MAJOR >= 24) {
          this.#whenEmpty = this.#neverSettled;
          result.then((value) => this.#settle(null, value, false), (error) => this.#settle(handled(error), null, false));
        } else {
          // What stands in the context now: tracing layers replace it to learn of the end, as Elastic's does.
          result.then(context.succeed, context.fail)?.catch?.(context.fail);
        }
      } else if (MAJOR >= 24) this.#end("result", result);
    } catch (error) {
      this.#settle(MAJOR >= 24 ? handled(error) : error, undefined, this.#waits);
    }
  }

  async handleOnceStreaming(payload) {
    await null;
    const open = (type) => (this.#done ? NOBODY : this.#openStream(this.id, type));
    const stream = new ResponseStream(open, highWaterMark(this.handler));
    try {
      const event = JSON.parse(payload);
      const { succeed, fail, done, ...context } = Object.getOwnPropertyDescriptors(this.#context());
      const result = this.handler(event, stream, Object.defineProperties({}, context));
      if (typeof result?.then !== "function") {
        const message = "Streaming does not support non-async handlers.";
        return this.#end("error", MAJOR >= 24 ? new Error(message) : message);
      }
      this.#whenEmpty = this.#neverSettled;
      const value = await result;
      if (value !== undefined) console.warn("Streaming handlers ignore return values.");
    } catch (error) {
      return this.#end("error", MAJOR >= 24 ? handled(error) : error);
    }
    // What was begun may go on, such as a pipe; a stream that nobody will end is ended when nothing is left to do.
    this.#whenEmpty = () => stream.end();
    finished(stream, (error) => (error ? this.#end("error", error) : this.#streamed()));
  }

  /** The caller has everything; like a callback, a streaming handler may leave work that is waited for. */
  #streamed() {
    if (MAJOR >= 24 || !this.#waits) this.#end("streamed");
    else this.#whenEmpty = () => this.#end("streamed");
  }

  #neverSettled = () => this.#end("exit", runtimeError("NodeJsExit", NEVER_SETTLED));

  /** The event loop has nothing left to do. */
  loopIsEmpty() {
    this.#whenEmpty();
  }

  #end(kind, value) {
    if (this.#done) return;
    this.#done = true;
    this.#finish(kind, value);
  }

  #callback = (error, value) => this.#settle(error, value, this.#waits);

  #settle(error, value, waits) {
    if (this.#called) return;
    this.#called = true;
    if (error !== undefined && error !== null) this.#end("error", error);
    else if (!waits) this.#end("result", value);
    else this.#whenEmpty = () => this.#end("result", value);
  }

  #context() {
    const invocation = this;
    const environ = process.env;
    const headers = this.headers;
    const deadline = Number(headers["lambda-runtime-deadline-ms"]);
    const context = MAJOR >= 24 ? { xRayTraceId: headers["lambda-runtime-trace-id"] } : {
      get callbackWaitsForEmptyEventLoop() {
        return invocation.#waits;
      },
      set callbackWaitsForEmptyEventLoop(value) {
        invocation.#waits = value;
      },
      succeed: (value) => invocation.#settle(null, value, false),
      fail: (error) => invocation.#settle(handled(error), null, false),
      done: (error, value) => invocation.#settle(error, value, false),
    };
    return Object.assign(Object.defineProperties({}, Object.getOwnPropertyDescriptors(context)), {
      functionVersion: environ.AWS_LAMBDA_FUNCTION_VERSION,
      functionName: environ.AWS_LAMBDA_FUNCTION_NAME,
      memoryLimitInMB: environ.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
      logGroupName: environ.AWS_LAMBDA_LOG_GROUP_NAME,
      logStreamName: environ.AWS_LAMBDA_LOG_STREAM_NAME,
      clientContext: parsed(headers["lambda-runtime-client-context"]),
      identity: parsed(headers["lambda-runtime-cognito-identity"]),
      invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
      awsRequestId: this.id,
      tenantId: headers["lambda-runtime-aws-tenant-id"],
      getRemainingTimeInMillis: () => deadline - Date.now(),
    });
  }
};

/** Rejecting with nothing is still a failure. */
function handled(error) {
  return error === undefined || error === null ? "handled" : error;
}

function parsed(header) {
  return header ? JSON.parse(header) : undefined;
}

module.exports = { Invocation, NEVER_SETTLED };
