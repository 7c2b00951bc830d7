"use strict";
// Handlers that stream their response (fact sheet 2.4 and 17.2): the marks that `awslambda` sets on them, and the stream
// that they write to. How bytes go over the wire is the client's; when an invocation is over is the invocation's.

const { Writable } = require("node:stream");
const { runtimeError } = require("./errors.cjs");

const STREAMED = Symbol("streamed response");
const PRELUDE_TYPE = "application/vnd.awslambda.http-integration-response";
const PRELUDE_END = "\0".repeat(8);

/** What a handler writes to. Nothing is sent before the first write or the end, so that a failure can still be one. */
class ResponseStream extends Writable {
  #open; // (contentType) => the response on the wire: write(chunk, done), end(done)
  #wire = null;
  #contentType = "application/octet-stream";
  #prelude = "";

  constructor(open, options) {
    super({ highWaterMark: options?.highWaterMark });
    this.#open = open;
  }

  setContentType(type) {
    if (this.#wire !== null)
      throw runtimeError("InvalidStreamingOperation", "The content type is set too late: the response has begun.");
    this.#contentType = String(type);
  }

  /** Begin with this text, whatever is written first. */
  startWith(contentType, text) {
    this.setContentType(contentType);
    this.#prelude = text;
  }

  _write(chunk, _encoding, done) {
    this.#begin().write(chunk, done);
  }

  _final(done) {
    this.#begin().end(done);
  }

  #begin() {
    if (this.#wire === null) {
      this.#wire = this.#open(this.#contentType);
      if (this.#prelude !== "") this.#wire.write(Buffer.from(this.#prelude), () => {});
    }
    return this.#wire;
  }
}

/** The global `awslambda`. */
const awslambda = {
  streamifyResponse(handler, options) {
    if (typeof handler !== "function")
      throw runtimeError("MalformedStreamingHandler", "awslambda.streamifyResponse takes a function.");
    handler[STREAMED] = options ?? {};
    return handler;
  },
  HttpResponseStream: class HttpResponseStream {
    /** Give the response a status, headers and cookies; the body is what is written to the stream. */
    static from(stream, metadata) {
      stream.startWith(PRELUDE_TYPE, JSON.stringify(metadata ?? {}) + PRELUDE_END);
      return stream;
    }
  },
};

/** The options of a handler that streams; undefined for any other. */
const streamOptions = (handler) => handler[STREAMED];

module.exports = { awslambda, ResponseStream, streamOptions };
