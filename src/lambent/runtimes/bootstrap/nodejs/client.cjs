"use strict";
// The Runtime API over one kept connection, at socket level: requests are rendered in one write, and a response is
// sent together with the question for the next invocation, which saves a round trip of every warm call.
// It expects what our platform sends (Content-Length on every answer), not any HTTP server.

const net = require("node:net");

const API = "/2018-06-01/runtime";
const HEAD_END = Buffer.from("\r\n\r\n");
const LINE_END = Buffer.from("\r\n");
const ERROR_TYPE = "Lambda-Runtime-Function-Error-Type";
const ERROR_BODY = "Lambda-Runtime-Function-Error-Body";

class RuntimeClient {
  #host;
  #socket = null;
  #waiting = []; // one function per request on the wire, in order
  #received = null; // bytes that are not a whole head yet
  #answer = null; // { status, headers, body, filled } while a body is coming in
  #onInvocation;
  #next;
  #streaming = null; // the streamed response that has begun and not ended

  /** `onInvocation(headers, body)` is called for each invocation; the process ends when the platform is gone. */
  constructor(address, onInvocation) {
    this.#host = address;
    this.#onInvocation = onInvocation;
    this.#next = `GET ${API}/invocation/next HTTP/1.1\r\nHost: ${address}\r\nUser-Agent: lambent-nodejs\r\n\r\n`;
  }

  /** Ask for the next invocation. */
  next() {
    this.#send(this.#next, [this.#invoked]);
  }

  /** Send a result (JSON text) and ask for the next invocation. */
  respond(id, json) {
    const path = `${API}/invocation/${id}/response`;
    this.#send(this.#post(path, json, "") + this.#next, [ignore, this.#invoked]);
  }

  /**
   * Begin a streamed response: `write(chunk, done)` and `end(done)` follow, `done` is called once bytes are on their way.
   * After `fail` they do nothing.
   */
  stream(id, contentType) {
    const response = {};
    const send = (data, done) => (this.#streaming === response ? this.#socket.write(data, done) : done());
    response.write = (chunk, done) => {
      const head = Buffer.from(`${chunk.length.toString(16)}\r\n`);
      if (chunk.length === 0) done(); // an empty chunk would be the end
      else send(Buffer.concat([head, chunk, LINE_END]), done);
    };
    response.end = (done) => {
      if (this.#streaming === response) this.#waiting.push(ignore);
      send("0\r\n\r\n", done);
      this.#streaming = null;
    };
    this.#streaming = response;
    this.#socket.write(
      `POST ${API}/invocation/${id}/response HTTP/1.1\r\nHost: ${this.#host}\r\nUser-Agent: lambent-nodejs\r\n` +
        `Content-Type: ${oneLine(contentType)}\r\nTransfer-Encoding: chunked\r\n` +
        `Lambda-Runtime-Function-Response-Mode: streaming\r\nTrailer: ${ERROR_TYPE}, ${ERROR_BODY}\r\n\r\n`,
    );
    return response;
  }

  /** Send a handler's error and ask for the next invocation. */
  fail(id, json, cause) {
    this.#send(this.#error(id, json, cause) + this.#next, [ignore, this.#invoked]);
  }

  /** Send an error after which this process ends; `then` is called when it has arrived. */
  failFinally(id, json, cause, then) {
    this.#send(this.#error(id, json, cause), [then]);
  }

  /** Report that Init failed; `then` is called when it has arrived. */
  failInit(type, json, then) {
    const extra = `Lambda-Runtime-Function-Error-Type: ${oneLine(type)}\r\n`;
    this.#send(this.#post(`${API}/init/error`, json, extra), [then]);
  }

  #error(id, json, cause) {
    if (this.#streaming !== null) { // the response has begun: its trailers tell
      this.#streaming = null;
      const type = oneLine(JSON.parse(json).errorType);
      return `0\r\n${ERROR_TYPE}: ${type}\r\n${ERROR_BODY}: ${Buffer.from(json).toString("base64")}\r\n\r\n`;
    }
    const extra = cause ? `Lambda-Runtime-Function-XRay-Error-Cause: ${cause}\r\n` : "";
    return this.#post(`${API}/invocation/${id}/error`, json, extra);
  }

  #post(path, json, extra) {
    return (
      `POST ${path} HTTP/1.1\r\nHost: ${this.#host}\r\nUser-Agent: lambent-nodejs\r\n` +
      `Content-Type: application/json\r\n${extra}Content-Length: ${Buffer.byteLength(json)}\r\n\r\n${json}`
    );
  }

  #send(text, answered) {
    if (this.#socket === null) this.#connect();
    this.#socket.ref();
    this.#waiting.push(...answered);
    this.#socket.write(text);
  }

  #connect() {
    const colon = this.#host.lastIndexOf(":");
    const socket = net.connect({
      host: this.#host.slice(0, colon), port: Number(this.#host.slice(colon + 1)), noDelay: true,
    });
    socket.on("data", (chunk) => this.#read(chunk));
    socket.on("error", () => {}); // "close" follows
    socket.on("close", () => process.exit(1)); // nothing can be served without the platform
    this.#socket = socket;
  }

  #read(chunk) {
    let rest = this.#received === null ? chunk : Buffer.concat([this.#received, chunk]);
    this.#received = null;
    while (rest.length > 0) {
      if (this.#answer === null) {
        const end = rest.indexOf(HEAD_END);
        if (end < 0) {
          this.#received = rest;
          return;
        }
        this.#answer = parseHead(rest.toString("utf8", 0, end));
        rest = rest.subarray(end + 4);
      }
      const answer = this.#answer;
      const part = rest.subarray(0, answer.length - answer.filled);
      if (answer.body === null && part.length === answer.length) answer.body = part; // whole, no copy
      else {
        answer.body ??= Buffer.allocUnsafe(answer.length);
        part.copy(answer.body, answer.filled);
      }
      answer.filled += part.length;
      rest = rest.subarray(part.length);
      if (answer.filled < answer.length) return;
      this.#answer = null;
      this.#waiting.shift()(answer);
    }
  }

  #invoked = (answer) => {
    if (answer.status !== 200) process.exit(1); // the platform is ending this environment
    this.#socket.unref(); // while the handler runs, only its own work keeps the event loop alive
    this.#onInvocation(answer.headers, answer.body.toString("utf8"));
  };
}

function parseHead(text) {
  const lines = text.split("\r\n");
  const headers = {};
  for (let index = 1; index < lines.length; index++) {
    const colon = lines[index].indexOf(":");
    headers[lines[index].slice(0, colon).toLowerCase()] = lines[index].slice(colon + 1).trim();
  }
  const length = Number(headers["content-length"] ?? 0);
  return { status: Number(lines[0].split(" ")[1]), headers, length, body: length === 0 ? Buffer.alloc(0) : null, filled: 0 };
}

// A response may be refused (too large, too late): the platform has told the caller, and the loop goes on.
function ignore() {}

const oneLine = (text) => String(text).replace(/[^\x20-\x7e]/g, " ");

module.exports = { RuntimeClient };
