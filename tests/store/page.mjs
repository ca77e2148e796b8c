// The world of `cases.mjs` in a browser: a page that `tests/e2e/store.test.mjs` bundles with the SDK's storage. It
// makes trouble with the browser's own means; what only the outside can do is asked of `globalThis.outside`.

import { hashName } from '../../sdk/src/indexeddb.ts';
import { BrowserStorage } from '../../sdk/src/store.ts';
import { cases, recorded } from './cases.mjs';

const STORES = ['journal', 'cache'];

/** Lets the browser do one task, again and again, until `condition` is true. */
async function until(condition) {
  while (!(await condition())) {
    await new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        resolve();
      };
      port2.postMessage(null);
    });
  }
}

/** What a request of IndexedDB comes to. */
function answer(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** A connection of somebody else: of its own making, and deaf to `versionchange`. */
async function connect(name, version) {
  return answer(indexedDB.open(await hashName(name), version));
}

async function upgrade(name, version) {
  (await connect(name, version)).close();
}

/** The value of a record as it is stored, replaced by what `change` makes of it. */
async function raw(name, store, key, change = (value) => value) {
  const connection = await connect(name);
  const objects = connection.transaction(STORES[store], 'readwrite').objectStore(STORES[store]);
  const value = await answer(objects.get(key));
  await answer(objects.put(change(value), key));
  connection.close();
  return value;
}

/** Timers that only `passTime` lets go off. */
const timers = [];
globalThis.setTimeout = (work, delay) => timers.push({ work, delay });

const transactions = [];
const aborting = [];
const MODES = { read: 'readonly', write: 'readwrite' };
const { transaction } = IDBDatabase.prototype;
IDBDatabase.prototype.transaction = function (names, mode, options) {
  const stores = [names].flat().map((name) => STORES.indexOf(name));
  transactions.push({ stores, mode, durability: options?.durability });
  const made = transaction.call(this, names, mode, options);
  if (MODES[aborting[0]] === mode) {
    aborting.shift();
    made.commit = () => made.abort();
    if (mode === 'readonly') queueMicrotask(() => made.abort());
  }
  return made;
};

const channels = [];
const Channel = globalThis.BroadcastChannel;
globalThis.BroadcastChannel = class extends Channel {
  constructor(name) {
    super(name);
    channels.push(name);
  }
};

function hide(object, name) {
  const own = Object.getOwnPropertyDescriptor(object, name);
  Object.defineProperty(object, name, { value: undefined, configurable: true, writable: true });
  return () => {
    delete object[name];
    if (own) Object.defineProperty(object, name, own);
  };
}

const FACILITIES = {
  indexedDB: () => hide(globalThis, 'indexedDB'),
  BroadcastChannel: () => hide(globalThis, 'BroadcastChannel'),
  locks: () => hide(navigator, 'locks'),
  subtle: () => hide(crypto, 'subtle'),
};

const makeKey = (extractable = false) =>
  crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, extractable, ['encrypt', 'decrypt']);

const tab = (encryption) => recorded((events) => new BrowserStorage(events, encryption));

/** For browsers from which nothing else takes what they store. */
async function deleteAll() {
  for (const { name } of await indexedDB.databases()) await answer(indexedDB.deleteDatabase(name));
}

const joined = new Map();

const world = {
  transactions,
  facilities: Object.keys(FACILITIES),
  tab,
  key: makeKey,
  upgrade,
  async hold(name, { deleting = false } = {}) {
    const connection = await connect(name);
    const deleted = deleting && answer(indexedDB.deleteDatabase(await hashName(name)));
    timers.length = 0;
    return async () => {
      connection.close();
      await deleted;
    };
  },
  async block(name) {
    const connection = await connect(name);
    const { open } = IDBFactory.prototype;
    IDBFactory.prototype.open = function (given) {
      IDBFactory.prototype.open = open;
      return open.call(this, given, 2);
    };
    return async () => {
      connection.close();
      await answer(indexedDB.deleteDatabase(await hashName(name)));
    };
  },
  async passTime(ms) {
    await until(() => timers.length > 0);
    for (const { work, delay } of timers.splice(0)) if (delay <= ms) work();
  },
  abortNext: (request) => aborting.push(request),
  setQuota: (bytes) => outside('setQuota', bytes),
  loseConnections: () => outside('loseConnections'),
  without: (facility) => FACILITIES[facility](),
  spoil: (name, store, key) => raw(name, store, key, (value) => value.with(-1, value.at(-1) ^ 1)),
  async queued(name, count) {
    const hashed = await hashName(name);
    const pending = async () => (await navigator.locks.query()).pending.filter((lock) => lock.name === hashed);
    await until(async () => (await pending()).length === count);
  },
  async joined(name) {
    const hashed = await hashName(name);
    const expected = (joined.get(name) ?? 0) + 1;
    joined.set(name, expected);
    await until(() => channels.filter((channel) => channel === hashed).length >= expected);
  },
};

Object.assign(globalThis, {
  // What storage rejects with is no Error, and would lose its text on the way out.
  runCase: (name) => cases[name](world).catch((failure) => {
    throw failure instanceof Error ? failure : new Error(JSON.stringify(failure));
  }),
  // For tests of more than one page.
  tab,
  raw,
  upgrade,
  hashName,
  queued: world.queued,
  joined: world.joined,
  makeKey,
  deleteAll,
});
