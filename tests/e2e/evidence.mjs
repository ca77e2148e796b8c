// What a run of the end-to-end tests leaves behind: what servers and pages said, asked for and stored, as text. When it
// is over, `secrets.mjs` looks for tokens in it.
//
// `cargo xtask e2e` names the directory in ABLO_EVIDENCE; without it nothing is recorded. A line of a page begins with its
// kind. Tokens themselves are in the file `tokens`, one per line, which is not searched.

import { appendFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const DIR = process.env.ABLO_EVIDENCE;
/** Longer than any dump takes. Of a page that hangs, or is gone, there is none, and its test is none the worse. */
const DUMP_MS = 5_000;
/** With these words a page tells what it was given to sign in with. */
const TOKEN = 'witness token ';
const WITNESS = 'witness ';

export const isRecording = DIR !== undefined;

const run = `${basename(process.argv[1] ?? 'test', '.test.mjs')}-${process.pid}`;
let servers = 0;
let pages = 0;

/** Where what a server prints goes. */
export function recordServer(child) {
  if (!isRecording) return;
  const file = join(DIR, `${run}-server-${(servers += 1)}.txt`);
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => appendFileSync(file, chunk));
}

/** Remembers what must not be found. */
export function recordTokens(...tokens) {
  if (isRecording) appendFileSync(join(DIR, 'tokens'), tokens.map((token) => `${token}\n`).join(''));
}

/** The tokens that an answer of the server has in it. */
export function recordMinted(text) {
  if (isRecording) recordTokens(...[...text.matchAll(/"token":"([^"]+)"/g)].map(([, token]) => token));
}

const prepared = new WeakSet();

/** Records what a page says and asks for, from its beginning. */
export async function watch(page) {
  if (!isRecording) return;
  const context = page.context();
  if (!prepared.has(context)) {
    prepared.add(context);
    await context.addInitScript(witness);
  }
  const file = join(DIR, `${run}-pages.txt`);
  const number = (pages += 1);
  page.record = (kind, text) => appendFileSync(file, `[${kind}] ${number} ${text}\n`);
  page.record('page', 'opened');
  page.on('request', (request) => page.record('url', request.url()));
  page.on('websocket', (socket) => page.record('socket', socket.url()));
  page.on('pageerror', (error) => page.record('pageerror', error.stack ?? String(error)));
  page.on('console', (message) => {
    const text = message.text();
    if (text.startsWith(TOKEN)) recordTokens(text.slice(TOKEN.length));
    else if (text.startsWith(WITNESS)) page.record('told', text.slice(WITNESS.length));
    else page.record('console', `${message.type()} ${text}`);
  });
}

/** Records what the page's origin has stored, and the state of its client. */
export async function dump(page) {
  if (page.record === undefined) return;
  const late = new AbortController();
  const given = page.evaluate(collect).catch(() => []);
  const lines = await Promise.race([given, pause(DUMP_MS, [], { signal: late.signal, ref: false })]);
  late.abort();
  for (const [kind, text] of lines) page.record(kind, text);
}

/**
 * Before all other scripts of a page: writes events of the window to the console, and has words for the SDK's pages to
 * tell it of clients (`lab.js`).
 */
function witness() {
  const told = new Set();
  const tell = (kind, text) => {
    // Once for each shape: a status differs from the next in numbers only.
    const shape = kind + text.replace(/\d+/g, '0');
    if (told.has(shape)) return;
    told.add(shape);
    console.debug(`witness ${kind} ${text}`);
  };
  const dispatch = EventTarget.prototype.dispatchEvent;
  const describe = ({ type, detail }) => tell('event', `${type} ${JSON.stringify(detail ?? null)}`);
  EventTarget.prototype.dispatchEvent = function (event) {
    if (String(event?.type).startsWith('ablo:')) describe(event);
    return dispatch.call(this, event);
  };
  // From the world of a preload script it comes another way.
  addEventListener('ablo:wake', describe);

  const token = (given) => {
    const text = given?.token ?? given;
    if (typeof text === 'string' && text.trim() !== '') console.debug(`witness token ${text}`);
  };
  /** What it is without its message, its stack and its JSON is of no use to anybody. */
  const error = (given) => {
    const { message, stack, code, cause } = given;
    const own = JSON.stringify({ ...given, ...given.toJSON?.() });
    tell('error', `${code} ${String(given)} ${message} ${own} ${stack} ${String(cause)} ${cause?.stack}`);
  };
  globalThis.witness = {
    /** Hears of every error that the SDK makes, wherever it goes. */
    sdk({ AbloError }) {
      class Witnessed extends Error {
        constructor(...args) {
          super(...args);
          // It is not complete yet.
          queueMicrotask(() => error(this));
        }
      }
      Object.setPrototypeOf(AbloError, Witnessed);
    },
    /** What a client is made with. */
    options(options) {
      const { apiKey, authToken } = options;
      token(authToken);
      if (typeof apiKey !== 'function') {
        token(apiKey);
        return options;
      }
      const heard = (...args) => {
        const given = apiKey(...args);
        Promise.resolve(given).then(token, () => undefined);
        return given;
      };
      return { ...options, apiKey: heard };
    },
    client(client) {
      client.onStatus((status) => tell('status', JSON.stringify(status)));
      client.on('sync:error', (payload) => tell('sync:error', JSON.stringify(payload)));
      client.on('session:ended', (payload) => tell('session:ended', JSON.stringify(payload)));
      client.on('storage:problem', (payload) => tell('storage:problem', JSON.stringify(payload)));
      client.on('write:rejected', (payload) => tell('write:rejected', JSON.stringify(payload)));
      return client;
    },
  };
}

/** In the page, at its end: lines of everything stored. Bytes are latin1, so that text in any encoding can be found. */
async function collect() {
  const lines = [];
  const add = (kind, text) => lines.push([kind, text]);
  const answer = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onupgradeneeded = request.onblocked = () => reject(request.error);
  });
  const latin1 = new TextDecoder('latin1');
  const text = (value) => {
    if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return latin1.decode(value);
    return typeof value === 'string' ? value : JSON.stringify(value);
  };
  const works = [
    () => add('status', JSON.stringify(ablo.status)),
    () => add('outbox', JSON.stringify(ablo.outbox.list())),
    () => add('localStorage', JSON.stringify({ ...localStorage })),
    () => add('sessionStorage', JSON.stringify({ ...sessionStorage })),
    () => add('cookie', document.cookie),
    async () => {
      for (const { name } of await indexedDB.databases()) {
        const connection = await answer(indexedDB.open(name));
        connection.onversionchange = () => connection.close();
        for (const store of connection.objectStoreNames) {
          const objects = connection.transaction(store).objectStore(store);
          const [keys, values] = await Promise.all([objects.getAllKeys(), objects.getAll()].map(answer));
          keys.forEach((key, at) => add('record', `${name} ${store} ${text(key)} ${text(values[at])}`));
        }
        connection.close();
      }
    },
  ];
  for (const work of works) {
    try {
      await work();
    } catch {
      // There is no client, or no storage: on an empty page, for one.
    }
  }
  return lines;
}
