// WebKit, as WebKitGTK has it: its driver, a small browser of our own (`webkit-browser.py`), and a screen that nobody
// sees. A driver has one session, so each context is a browser with a profile of its own.

import { randomInt } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Context } from './driven.mjs';
import { COMMAND_MS, Group, Queue } from './processes.mjs';

const DRIVER = process.env.WEBKIT_DRIVER ?? '/usr/bin/WebKitWebDriver';
/** Not the first on the search path: the library is the system's, and known to the system's Python. */
const PYTHON = process.env.WEBKIT_PYTHON ?? '/usr/bin/python3';
const XVFB = process.env.XVFB ?? 'Xvfb';
const BROWSER = fileURLToPath(new URL('webkit-browser.py', import.meta.url));
/** It is in a container or a virtual machine that tests run, without the rights and the graphics that it asks for. */
const PLAIN = {
  WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1',
  WEBKIT_DISABLE_COMPOSITING_MODE: '1',
  LIBGL_ALWAYS_SOFTWARE: '1',
};

/**
 * A number at which nobody listens: the driver must be given one. Not of those that systems hand out by themselves, or
 * somebody may have got it before the driver has begun to listen.
 */
async function freePort() {
  for (;;) {
    const port = randomInt(20_000, 30_000);
    const server = createServer();
    const isFree = await new Promise((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    await new Promise((resolve) => server.close(resolve));
    if (isFree) return port;
  }
}

let screen;

async function openScreen() {
  const args = ['-displayfd', '3', '-screen', '0', '1280x800x24', '-nolisten', 'tcp'];
  const group = new Group(XVFB, args, { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] });
  let display;
  group.stdio[3]?.once('data', (text) => (display = `:${String(text).trim()}`));
  await group.until(async () => display);
  return { group, display };
}

class Session {
  #group;
  #address;
  #queue = new Queue();
  #current;
  #first;

  static async start(profile) {
    screen ??= openScreen();
    const { display } = await screen;
    const session = new Session();
    const port = await freePort();
    session.#group = new Group(DRIVER, [`--port=${port}`], { env: { ...PLAIN, DISPLAY: display } });
    session.#address = `http://127.0.0.1:${port}`;
    await session.#group.until(async () => session.#send('GET', '/status'));
    const capabilities = {
      'webkitgtk:browserOptions': { binary: PYTHON, args: [BROWSER, profile] },
      // The driver's limit is a timer of the page, which tests let go off at will; ours is COMMAND_MS.
      timeouts: { script: null },
    };
    const { sessionId } = await session.#send('POST', '/session', { capabilities: { alwaysMatch: capabilities } });
    session.#address += `/session/${sessionId}`;
    session.#first = await session.#send('GET', '/window');
    return session;
  }

  async open() {
    // New windows are of the browser that the current one is of: not one that may be closed.
    const made = await this.#at(this.#first, 0, () => this.#send('POST', '/window/new', { type: 'window' }));
    return made.handle;
  }

  navigate(handle, url) {
    return this.#at(handle, 0, () => this.#send('POST', '/url', { url }));
  }

  reload(handle) {
    return this.#at(handle, 0, () => this.#send('POST', '/refresh', {}));
  }

  /** The value of an expression, in the page's own world. */
  run(handle, frame, source) {
    const script = 'return window.eval(arguments[0])';
    return this.#at(handle, frame, () => this.#send('POST', '/execute/sync', { script, args: [source] }));
  }

  close(handle) {
    return this.#at(handle, 0, () => {
      this.#current = undefined;
      return this.#send('DELETE', '/window');
    });
  }

  /** The pages have no network then, but do not know it: the browser cannot be told. */
  async setOffline() {}

  kill() {
    return this.#group.kill();
  }

  #at(handle, frame, work) {
    return this.#queue.next(async () => {
      if (this.#current !== handle) {
        await this.#send('POST', '/window', { handle });
        this.#current = handle;
      }
      if (frame === 0) return work();
      await this.#send('POST', '/frame', { id: frame - 1 });
      try {
        return await work();
      } finally {
        await this.#send('POST', '/frame', { id: null });
      }
    });
  }

  async #send(method, path, body) {
    const signal = AbortSignal.timeout(COMMAND_MS);
    const response = await fetch(this.#address + path, { method, signal, body: body && JSON.stringify(body) });
    const { value } = await response.json();
    if (response.ok) return value;
    throw new Error(`${method} ${path}: ${value.error}: ${value.message}`);
  }
}

export const webkit = {
  name: 'webkit',

  async newContext() {
    const profile = await mkdtemp(join(tmpdir(), 'ablo-webkit-'));
    const session = await Session.start(profile);
    const end = async () => {
      await session.kill();
      await rm(profile, { recursive: true, force: true });
    };
    return new Context(session, { end });
  },

  /** A browser with what `dir` has from earlier ones. Addresses of pages stay what they were. */
  async openProfile(dir, earlier) {
    const session = await Session.start(dir);
    const end = () => session.kill();
    const context = earlier ?? new Context(session, { end });
    context.resume(session, end);
    return context;
  },

  async kill(context) {
    await context.end();
    context.abandon();
  },

  /** What a test does to storage from outside. */
  async outside() {
    return {};
  },

  async close() {
    await (await screen)?.group.kill();
  },
};
