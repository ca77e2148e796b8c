/**
 * What tests of the source connector need: the entry as it is bundled, `ablo-server`, and a way to get between the two.
 * Everything that a test starts ends with it.
 */

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

import { bundle as bundled } from './bundle.mjs';
import { Server as AnyServer } from './server.mjs';

export { ROOT, settled } from './bundle.mjs';

const HOST = '127.0.0.1';

const contents = `
  export * from './source.js';
  export * from './source-schedule.js';
  export * from './batching.js';
  export { AbloError } from './index.js';
`;
/** The entry, with its schedule and the batch scheduler. */
export const bundle = await bundled(contents, 'stand-in-core.mjs');
export const source = await import(bundle);

/** The key of the project, and one of another kind. */
export const KEY = 'sk_test_backend';
export const OTHER_KEY = 'ek_test_ada';

const KEYS = [
  { token: KEY, participantKind: 'system', participantId: 'backend', organizationId: 'acme' },
  { token: OTHER_KEY, participantKind: 'user', participantId: 'ada', organizationId: 'acme' },
];

/** A server that asks sources. */
export class Server extends AnyServer {
  static start(t) {
    return super.start(t, { keys: KEYS });
  }

  /** Has the server ask the source; the answer's status and body. */
  async ask(body, key = KEY) {
    const headers = { authorization: `Bearer ${key}` };
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const response = await fetch(`${this.url}/v1/source/request`, { method: 'POST', headers, body: text });
    return { status: response.status, body: await response.json() };
  }
}

/** Passes TCP on to a server, until it is told otherwise. */
export class Proxy {
  /** What is made of the bytes that the server sends. */
  rewrite = (chunk) => chunk;
  /** While true, connections end as soon as they begin. */
  isClosed = false;
  /** How many connections there have been. */
  count = 0;
  url;
  #sockets = new Set();

  static async start(t, server) {
    const proxy = new Proxy();
    const listener = createServer((socket) => proxy.#pass(socket, server.port)).listen(0, HOST);
    await once(listener, 'listening');
    proxy.url = `http://${HOST}:${listener.address().port}`;
    t.after(() => {
      proxy.cut();
      listener.close();
    });
    return proxy;
  }

  /** Ends every connection, without a closing handshake. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  #pass(socket, port) {
    this.count += 1;
    if (this.isClosed) return socket.destroy();
    const onward = connect(port, HOST);
    for (const [one, other] of [[socket, onward], [onward, socket]]) {
      this.#sockets.add(one);
      one.on('error', () => {});
      one.on('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
    socket.pipe(onward);
    onward.on('data', (chunk) => socket.write(this.rewrite(chunk)));
  }
}

/** A socket that does what the test says. */
export class StandIn extends EventTarget {
  sent = [];
  closed;

  constructor(url, protocols) {
    super();
    Object.assign(this, { url, protocols });
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close(code, reason) {
    this.closed ??= [code, reason];
    queueMicrotask(() => this.end(code, reason));
  }
  open() {
    this.dispatchEvent(new Event('open'));
  }
  say(frame) {
    const data = typeof frame === 'object' && !ArrayBuffer.isView(frame) ? JSON.stringify(frame) : frame;
    this.dispatchEvent(Object.assign(new Event('message'), { data }));
  }
  end(code = 1006, reason = '') {
    this.dispatchEvent(Object.assign(new Event('close'), { code, reason }));
  }
}

/**
 * A connector that runs until the test ends, or `stop()`. `statuses` and `errors` are what it has told so far;
 * `until(status, count)` waits until it has told a status so many times.
 */
export function connector(t, options) {
  const statuses = [];
  const errors = [];
  const waiting = new Set();
  const onStatus = (status) => {
    statuses.push(status);
    for (const check of waiting) check();
  };
  const abort = new AbortController();
  const made = source.createSourceConnector({
    apiKey: KEY,
    handler: () => Response.json({}),
    onStatus,
    onError: (error) => errors.push(error),
    ...options,
  });
  const running = made.run(abort.signal);
  const stop = () => {
    abort.abort();
    return running;
  };
  t.after(stop);
  const until = (status, count = 1) =>
    new Promise((resolve) => {
      const check = () => {
        if (statuses.filter((told) => told === status).length < count) return;
        waiting.delete(check);
        resolve();
      };
      waiting.add(check);
      check();
    });
  return { statuses, errors, until, stop, abort, running };
}
