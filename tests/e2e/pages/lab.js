// An empty page with the package on it, and a few words that tests use in `page.evaluate`.

import * as sdk from '/pkg/index.js';
import makeSchema from './schema.js';

const TIMEOUT_MS = 15_000;

/** Goes on whatever a test does to the clocks. */
const now = performance.now.bind(performance);

const schema = makeSchema(sdk);
// Where evidence is recorded (`evidence.mjs`).
const { witness } = globalThis;
witness?.sdk(sdk);

/** A client with the key of Ada. */
function make(options = {}) {
  const all = { schema, baseURL: location.origin, apiKey: 'ek_test_ada', ...options };
  return witness ? witness.client(sdk.Ablo(witness.options(all))) : sdk.Ablo(all);
}

/** Waits until `condition` is true, looking after every task of the browser. */
async function until(condition, what = String(condition)) {
  const end = now() + TIMEOUT_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (now() > end) throw new Error(`never came: ${what}`);
    await turn();
  }
}

/** Plays offline once the socket is open: browsers warn of one that is closed while it is being opened. */
async function goOffline() {
  await until(() => ablo.status.connection.state === 'connected');
  ablo.setOffline(true);
}

/**
 * Puts both clocks and the timers of the page into the hands of the test, which stay in step with the real ones until it
 * lets time pass.
 */
function takeClock() {
  const { setTimeout, clearTimeout } = globalThis;
  const wall = Date.now.bind(Date);
  let [passed, slept] = [0, 0];
  let last = 0;
  const timers = new Map();
  const arm = (id, timer) => {
    clearTimeout(timer.real);
    timer.real = setTimeout(() => fire(id), Math.max(0, timer.at - performance.now()));
  };
  const fire = (id) => {
    const { real, work } = timers.get(id);
    clearTimeout(real);
    timers.delete(id);
    work();
  };
  Date.now = () => wall() + passed + slept;
  performance.now = () => now() + passed;
  globalThis.setTimeout = (work, ms = 0, ...args) => {
    last += 1;
    timers.set(last, { at: performance.now() + ms, work: () => work(...args) });
    arm(last, timers.get(last));
    return last;
  };
  globalThis.clearTimeout = (id) => {
    clearTimeout(timers.get(id)?.real);
    timers.delete(id);
  };
  const clock = {
    /** Lets time pass: what is due goes off, in order, at its time. */
    pass(ms) {
      const end = performance.now() + ms;
      for (;;) {
        const [next] = [...timers].sort(([, a], [, b]) => a.at - b.at);
        if (next === undefined || next[1].at > end) break;
        passed += Math.max(0, next[1].at - performance.now());
        fire(next[0]);
      }
      passed += Math.max(0, end - performance.now());
      for (const [id, timer] of timers) arm(id, timer);
    },
    /** The machine sleeps: only the clock on the wall goes on. */
    sleep(ms) {
      slept += ms;
    },
  };
  return clock;
}

/** Lets the browser do one task. */
function turn() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/** What a promise came to, in a form that leaves the page. */
async function outcome(promise) {
  try {
    return { value: (await promise) ?? null };
  } catch (error) {
    return { name: error.name, code: error.code, param: error.param, message: error.message, isAblo: error instanceof sdk.AbloError };
  }
}

/** A socket of our own: collects the deltas after `from`, in the order in which the server tells them. */
async function deltasSince(from, token = 'ek_test_grace') {
  const address = location.origin.replace('http', 'ws');
  const socket = new WebSocket(`${address}/api/sync/ws?cursor=`, [`ablo.bearer.${token}`, 'ablo.sync.v1']);
  const answer = await new Promise((resolve, reject) => {
    socket.onerror = () => reject(new Error('the socket failed'));
    socket.onopen = () => socket.send(JSON.stringify({ type: 'sync_request', payload: { cursor: null, lastSyncId: from } }));
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.type === 'sync_response') resolve(frame.payload);
    };
  });
  socket.close();
  return (answer.deltas ?? []).map((delta) => ({ ...delta, data: typeof delta.data === 'string' ? JSON.parse(delta.data) : delta.data }));
}

/** Does something with a transaction over both stores of each database of the package. */
async function eachDatabase(mode, work) {
  const results = [];
  for (const { name } of await indexedDB.databases()) {
    const database = await new Promise((resolve, reject) => {
      const request = indexedDB.open(name);
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    const transaction = database.transaction(['journal', 'cache'], mode);
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    const result = work(transaction);
    await done;
    database.close();
    results.push(result);
  }
  return results;
}

/** The keys of the records that are stored in `journal` or `cache`, of all databases. */
async function storedKeys(store) {
  const requests = await eachDatabase('readonly', (transaction) => transaction.objectStore(store).getAllKeys());
  return requests.flatMap((request) => request.result);
}

/** Puts a record into each database. */
async function store(store, key, text) {
  const value = new TextEncoder().encode(text);
  await eachDatabase('readwrite', (transaction) => transaction.objectStore(store).put(value, key));
}

const own = { eachDatabase, storedKeys, store };
const words = { make, until, turn, outcome, goOffline, takeClock, deltasSince };
Object.assign(globalThis, { sdk, schema, ...words, ...own, isLoaded: true });
