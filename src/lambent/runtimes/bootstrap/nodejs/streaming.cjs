"use strict";
// Handlers that stream their response (fact sheet 2.4 and 17.2): the marks that `awslambda` sets on them, and the stream
// that they write to. How bytes go over the wire is the client's; when an invocation is over is the invocation's.

const { Writable } = require("node:stream");
const { runtimeError } = require("./errors.cjs");

// Names that everybody can know: wrappers of handlers (tracing layers, say) read and set them themselves.
const STREAMED = Symbol.for("aws.lambda.runtime.handler.streaming");
const HIGH_WATER_MARK = Symbol.for("aws.lambda.runtime.handler.streaming.highWaterMark");
const RESPONSE = "response";
const PRELUDE_TYPE = "application/vnd.awslambda.http-integration-response";
const PRELUDE_END = "\0".repeat(8);

/** What a handler writes to. Nothing is sent before the first write or the end, so that a failure can still be one. */
class ResponseStream extends Writable {
  #open; // (contentType) => the response on the wire: write(chunk, done), end(done)
  #wire = null;
  #contentType = "application/octet-stream";
  #prelude = []; // what is written before anything else is

  constructor(open, highWaterMark) {
    super({ highWaterMark });
    this.#open = open;
  }

  /** Bytes and text go as they are, everything else as JSON. */
  write(chunk, ...more) {
    void chunk.length; // nothing has none: as on AWS that throws here, and does not travel as JSON
    for (const part of this.#prelude.splice(0)) super.write(part);
    const plain = typeof chunk === "string" || Buffer.isBuffer(chunk) || chunk?.constructor === Uint8Array;
    return super.write(plain ? chunk : JSON.stringify(chunk), ...more);
  }

  setContentType(type) {
    if (this.#wire !== null)
      throw runtimeError("InvalidStreamingOperation", "Cannot set content-type, too late.");
    this.#contentType = String(type);
  }

  /** Put these parts before what is written first. As on AWS `end` does not send them, not even `end` with a chunk. */
  startWith(contentType, ...parts) {
    this.setContentType(contentType);
    this.#prelude = parts;
  }

  _write(chunk, _encoding, done) {
    this.#begin().write(chunk, done);
  }

  _final(done) {
    this.#begin().end(done);
  }

  #begin() {
    this.#wire ??= this.#open(this.#contentType);
    return this.#wire;
  }
}

/** The global `awslambda`. */
const awslambda = {
  streamifyResponse(handler, options) {
    handler[STREAMED] = RESPONSE;
    if (typeof options?.highWaterMark === "number") handler[HIGH_WATER_MARK] = Math.trunc(options.highWaterMark);
    return handler;
  },
  HttpResponseStream: class HttpResponseStream {
    /**
     * Give the response a status, headers and cookies; the body is what is written to the stream. Without metadata the
     * first write throws, as on AWS.
     */
    static from(stream, metadata) {
      stream.startWith(PRELUDE_TYPE, JSON.stringify(metadata), PRELUDE_END);
      return stream;
    }
  },
};

/** Whether a handler streams its response. Throws for a mark that means nothing. */
function streams(handler) {
  const mark = handler[STREAMED];
  if (mark === undefined || mark === null || mark === false) return false;
  if (mark === RESPONSE) return true;
  throw runtimeError("MalformedStreamingHandler", "Only response streaming is supported.");
}

/** Bytes that a handler's stream may hold before `write` says to wait; undefined for Node.js's own figure. */
const highWaterMark = (handler) => Number(handler[HIGH_WATER_MARK] || NaN) || undefined;

module.exports = { awslambda, highWaterMark, ResponseStream, streams };
