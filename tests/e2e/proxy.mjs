// A proxy before the real server that can be told to misbehave: answers with rubbish, swallows what the server says.

import { createHash } from 'node:crypto';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';
import { atEnd } from './harness.mjs';

const WEBSOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

export class Proxy {
  /** Answers requests below /api instead of the server: `(path) => ({ status, headers, body })` or undefined to pass. */
  answer = () => undefined;
  /** Text frames for sockets that are opened from now on, instead of the server's. */
  frames = undefined;
  /** While true, nothing that the server says on sockets comes through. */
  isMute = false;
  url;
  #server;
  #sockets = new Set();

  static async start(t, target) {
    const proxy = new Proxy();
    proxy.#server = createServer((incoming, outgoing) => proxy.#pass(target(), incoming, outgoing));
    proxy.#server.on('upgrade', (incoming, socket, head) => proxy.#upgrade(target(), incoming, socket, head));
    await new Promise((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    proxy.url = `http://127.0.0.1:${proxy.#server.address().port}`;
    atEnd(t, () => {
      proxy.cut();
      proxy.#server.closeAllConnections();
      return new Promise((resolve) => proxy.#server.close(resolve));
    });
    return proxy;
  }

  /** Cuts every socket, without a closing handshake. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  #pass(target, incoming, outgoing) {
    const { pathname } = new URL(incoming.url, this.url);
    const made = pathname.startsWith('/api/') ? this.answer(pathname) : undefined;
    if (made !== undefined) {
      outgoing.writeHead(made.status ?? 200, { 'content-type': 'application/json', ...made.headers });
      outgoing.end(made.body);
      return;
    }
    const { method, url: path, headers } = incoming;
    const onward = request({ port: target, host: '127.0.0.1', method, path, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on('error', () => outgoing.destroy());
    incoming.pipe(onward);
  }

  #upgrade(target, incoming, socket, head) {
    this.#keep(socket);
    if (this.frames !== undefined) {
      socket.write(handshake(incoming.headers['sec-websocket-key']));
      for (const text of this.frames) socket.write(frame(text));
      return;
    }
    const onward = connect(target, '127.0.0.1', () => {
      const headers = Object.entries(incoming.headers).map(([name, value]) => `${name}: ${value}\r\n`);
      onward.write(`GET ${incoming.url} HTTP/1.1\r\n${headers.join('')}\r\n`);
      onward.write(head);
      socket.pipe(onward);
    });
    onward.on('data', (chunk) => this.isMute || socket.write(chunk));
    onward.on('close', () => socket.destroy());
    socket.on('close', () => onward.destroy());
    this.#keep(onward);
  }

  #keep(socket) {
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#sockets.delete(socket));
  }
}

function handshake(key) {
  const accept = createHash('sha1').update(key + WEBSOCKET_GUID).digest('base64');
  const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade', `Sec-WebSocket-Accept: ${accept}`];
  return `${[...lines, 'Sec-WebSocket-Protocol: ablo.sync.v1'].join('\r\n')}\r\n\r\n`;
}

function frame(text) {
  const body = Buffer.from(text);
  const length = body.length < 126 ? Buffer.from([body.length]) : Buffer.from([126, body.length >> 8, body.length & 255]);
  return Buffer.concat([Buffer.from([0x81]), length, body]);
}
