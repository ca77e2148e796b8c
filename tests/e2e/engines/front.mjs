// What stands between a driven browser and a server: answers for it where a test says so, puts the agent into pages,
// and can be cut off like a network. WebDriver has none of that. A context has one front for each origin it visits.

import { readFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';
import { extname } from 'node:path';

const AGENT = await readFile(new URL('agent.js', import.meta.url), 'utf8');
const TYPES = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};

/** `**` is anything, `*` anything but a slash. */
export function toPattern(glob) {
  const parts = glob.split(/(\*\*|\*)/).map((part) => {
    if (part === '**') return '.*';
    return part === '*' ? '[^/]*' : part.replace(/[.+?^${}()|[\]\\]/g, '\\$&');
  });
  return new RegExp(`^${parts.join('')}$`);
}

export class Front {
  /** What pages see. */
  origin;
  #target;
  #context;
  #server;
  #sockets = new Set();

  /** @param context `find(url)` is the handler of a route, `scripts` run first, `saw(path, from)` and `sawSocket(path)` hear of requests */
  static async start(target, context) {
    const front = new Front();
    front.#target = new URL(target);
    front.#context = context;
    front.#server = createServer((incoming, outgoing) => void front.#answer(incoming, outgoing));
    front.#server.on('upgrade', (incoming, socket, head) => front.#upgrade(incoming, socket, head));
    front.#server.on('connection', (socket) => front.#keep(socket));
    await new Promise((resolve) => front.#server.listen(0, '127.0.0.1', resolve));
    const { hostname } = front.#target;
    front.origin = `http://${hostname === 'localhost' ? '127.0.0.1' : hostname}:${front.#server.address().port}`;
    return front;
  }

  /** Cuts all connections, without a word. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close() {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #keep(socket) {
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#sockets.delete(socket));
  }

  async #answer(incoming, outgoing) {
    const url = new URL(incoming.url, this.#target);
    const isDocument = ['document', 'iframe'].includes(incoming.headers['sec-fetch-dest']);
    this.#context.saw(incoming.url, isDocument ? incoming.url : incoming.headers.referer);
    if (this.#context.isOffline) {
      incoming.destroy();
      return;
    }
    const handler = this.#context.find(url.href.replace(/\?tab=\d+$/, ''));
    if (handler === undefined) this.#pass(incoming, outgoing, isDocument);
    else await handler(new Route(url, outgoing, (text) => this.#withAgent(text)));
  }

  #pass(incoming, outgoing, isDocument) {
    const { method, url: path } = incoming;
    const headers = { ...incoming.headers };
    // It has to be read here.
    if (isDocument) delete headers['accept-encoding'];
    const { hostname: host, port } = this.#target;
    const onward = request({ host, port, method, path, headers }, async (answer) => {
      if (!isDocument) {
        outgoing.writeHead(answer.statusCode, answer.headers);
        answer.pipe(outgoing);
        answer.on('error', () => outgoing.destroy());
        return;
      }
      const chunks = await answer.toArray();
      const text = this.#withAgent(Buffer.concat(chunks).toString());
      outgoing.writeHead(answer.statusCode, { ...answer.headers, 'content-length': Buffer.byteLength(text) });
      outgoing.end(text);
    });
    onward.on('error', () => outgoing.destroy());
    incoming.pipe(onward);
  }

  #upgrade(incoming, socket, head) {
    const { hostname: host, port } = this.#target;
    this.#context.sawSocket(incoming.url);
    if (this.#context.isOffline) {
      socket.destroy();
      return;
    }
    const onward = connect({ host, port }, () => {
      const headers = Object.entries(incoming.headers).map(([name, value]) => `${name}: ${value}\r\n`);
      onward.write(`GET ${incoming.url} HTTP/1.1\r\n${headers.join('')}\r\n`);
      onward.write(head);
      socket.pipe(onward).pipe(socket);
    });
    this.#keep(onward);
    onward.on('close', () => socket.destroy());
    socket.on('close', () => onward.destroy());
  }

  #withAgent(html) {
    // A function, as the scripts may have `$` in them.
    return html.replace(/<head>|<meta |^/, (start) => {
      const scripts = [AGENT, ...this.#context.scripts].map((text) => `<script>${text}</script>`);
      return start === '<head>' ? start + scripts.join('') : `<!doctype html>${scripts.join('')}${start}`;
    });
  }
}

/** A request that a test answers, with the words of Playwright. */
class Route {
  #url;
  #outgoing;
  #finish;

  constructor(url, outgoing, finish) {
    this.#url = url;
    this.#outgoing = outgoing;
    this.#finish = finish;
  }

  request() {
    return { url: () => this.#url.href };
  }

  async fulfill({ status = 200, headers = {}, contentType, body = '', path }) {
    let content = body;
    let type = contentType;
    if (path !== undefined) {
      content = await readFile(path).catch(() => undefined);
      type ??= TYPES[extname(path)];
    }
    if (content === undefined) {
      this.#outgoing.writeHead(404).end();
      return;
    }
    // A page's own word for it may come too late, behind the agent.
    const charset = type?.startsWith('text/') ? '; charset=utf-8' : '';
    if (type === 'text/html') content = this.#finish(String(content));
    this.#outgoing.writeHead(status, { ...(type && { 'content-type': type + charset }), ...headers });
    this.#outgoing.end(content);
  }

  async abort() {
    this.#outgoing.destroy();
  }
}
