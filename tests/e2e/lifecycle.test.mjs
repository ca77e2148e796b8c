// Clients come and go: whatever one of them had open, listened to or waited for is given back when it is disposed of, or
// when its start fails, and what it had not sent is sent.

import assert from 'node:assert/strict';
import { engine, NO_SERVER, openContext, openPage, Server, test } from './harness.mjs';
import { Proxy } from './proxy.mjs';

const SEED = { Task: [{ id: 'a', title: 'seed', rank: 0 }] };
/** Of 500 clients: half a kilobyte each, which is less than the smallest thing that one of them could leave behind. */
const HEAP_GROWTH_BYTES_MAX = 256 << 10;
/** One page of WebAssembly: how much is in use at once depends on how their lives overlap. 500 clients are many pages. */
const MODULE_GROWTH_BYTES_MAX = 64 << 10;
/** How many clients at once: their waiting overlaps. */
const AT_ONCE = 10;

/** In pages, before all other scripts: counts what is open. `held()` resolves to the counts. */
function instrument() {
  const open = { sockets: new Set(), channels: new Set(), databases: new Set(), timers: new Set() };
  const listeners = [];
  const { addEventListener: listen, removeEventListener: unlisten } = EventTarget.prototype;
  const isPage = (target) => [undefined, null, globalThis, document].includes(target);
  const forget = (entry) => listeners.includes(entry) && listeners.splice(listeners.indexOf(entry), 1);
  const find = (target, type, listener, options) => {
    const capture = Boolean(options?.capture ?? options);
    const same = [target ?? globalThis, type, listener, capture];
    return [same, listeners.find((entry) => entry.every((part, at) => part === same[at]))];
  };
  EventTarget.prototype.addEventListener = function (type, listener, options) {
    listen.call(this ?? globalThis, type, listener, options);
    if (!isPage(this) || options?.signal?.aborted) return;
    const [entry, there] = find(this, type, listener, options);
    if (there) return;
    listeners.push(entry);
    if (options?.signal) listen.call(options.signal, 'abort', () => forget(entry));
    if (options?.once) listen.call(this ?? globalThis, type, () => forget(entry), { once: true });
  };
  EventTarget.prototype.removeEventListener = function (type, listener, options) {
    unlisten.call(this ?? globalThis, type, listener, options);
    if (isPage(this)) forget(find(this, type, listener, options)[1]);
  };

  const { setTimeout: start, clearTimeout: stop } = globalThis;
  globalThis.setTimeout = (work, ...rest) => {
    const id = start((...args) => {
      open.timers.delete(id);
      work(...args);
    }, ...rest);
    open.timers.add(id);
    return id;
  };
  globalThis.clearTimeout = (id) => {
    open.timers.delete(id);
    stop(id);
  };
  const { setInterval: repeat, clearInterval: end } = globalThis;
  globalThis.setInterval = (...args) => {
    const id = repeat(...args);
    open.timers.add(id);
    return id;
  };
  globalThis.clearInterval = (id) => {
    open.timers.delete(id);
    end(id);
  };

  globalThis.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      open.sockets.add(this);
      listen.call(this, 'close', () => open.sockets.delete(this));
    }
  };
  globalThis.BroadcastChannel = class extends BroadcastChannel {
    constructor(...args) {
      super(...args);
      open.channels.add(this);
    }
    close() {
      open.channels.delete(this);
      super.close();
    }
  };
  const { open: openDatabase } = IDBFactory.prototype;
  IDBFactory.prototype.open = function (...args) {
    const request = openDatabase.apply(this, args);
    listen.call(request, 'success', () => open.databases.add(request.result));
    return request;
  };
  const { close } = IDBDatabase.prototype;
  IDBDatabase.prototype.close = function () {
    open.databases.delete(this);
    close.call(this);
  };

  const { instantiate, instantiateStreaming } = WebAssembly;
  let memory;
  const keep = async (promise) => {
    const made = await promise;
    memory = (made.instance ?? made).exports.memory;
    return made;
  };
  WebAssembly.instantiate = (...args) => keep(instantiate(...args));
  if (instantiateStreaming) WebAssembly.instantiateStreaming = (...args) => keep(instantiateStreaming(...args));

  globalThis.held = async () => {
    const counts = Object.entries(open).map(([name, set]) => [name, set.size]);
    const { held, pending } = await navigator.locks.query();
    return { ...Object.fromEntries(counts), listeners: listeners.length, locks: held.length, waiting: pending.length };
  };
  globalThis.memoryBytes = () => memory.buffer.byteLength;
}

/** A page that counts. Its level of before is `window.level`. */
async function openCounting(t, server, expected = []) {
  const context = await openContext(t);
  await context.addInitScript(instrument);
  const page = await openPage(t, server, { context, expected });
  await page.evaluate(async () => {
    globalThis.level = await held();
    globalThis.isLevel = async () => JSON.stringify(await held()) === JSON.stringify(level);
  });
  return page;
}

/** Everything is given back: at once, but for sockets and the like, which take a moment to end. */
async function expectLevel(page) {
  const [level, now, left] = await page.evaluate(async () => {
    const now = await held();
    await until(isLevel).catch(() => undefined);
    return [level, now, await held()];
  });
  assert.deepEqual([now.timers, now.listeners], [level.timers, level.listeners], 'timers and listeners, at once');
  assert.deepEqual(left, level);
}

/** Makes, starts, uses and ends clients: several at once, and then the next ones. */
function comeAndGo(page, from, to, persistence, atOnce = AT_ONCE) {
  return page.evaluate(async ([first, end, persistence, atOnce]) => {
    const live = async (at) => {
      const client = make({ persistence });
      const stops = [client.onStatus(() => undefined), client.tasks.onChange(() => undefined)];
      await client.ready();
      const update = client.tasks.update({ id: 'a', data: { rank: at } });
      // Stored, one of the next clients sends it. Otherwise it may be on its way when the client ends.
      if (persistence === 'memory') update.catch(() => undefined);
      else await update;
      // A listener that is never removed must not hold the client either.
      if (at % 2 === 0) for (const stop of stops) stop();
      await client.dispose();
    };
    for (let at = first; at < end; at += atOnce) {
      await Promise.all(Array.from({ length: atOnce }, (_, more) => live(at + more)));
    }
  }, [from, to, persistence, atOnce]);
}

/** Bytes of live objects, where the browser tells. */
async function heapOf(page) {
  if (engine.name !== 'chromium') return 0;
  const devtools = await page.context().newCDPSession(page);
  await devtools.send('HeapProfiler.collectGarbage');
  const { usedSize } = await devtools.send('Runtime.getHeapUsage');
  await devtools.detach();
  return usedSize;
}

async function comeAndGoOften(t) {
  const server = await Server.start(t, { seed: SEED });
  const page = await openCounting(t, server, NO_SERVER);
  const measure = async () => {
    await expectLevel(page);
    return { heap: await heapOf(page), memory: await page.evaluate(() => memoryBytes()) };
  };
  await comeAndGo(page, 0, 500, 'memory');
  const half = await measure();
  await comeAndGo(page, 500, 1_000, 'memory');
  const whole = await measure();
  assert.ok(whole.memory - half.memory <= MODULE_GROWTH_BYTES_MAX, `${half.memory} bytes in the module, ${whole.memory}`);
  t.diagnostic(`module: ${whole.memory} bytes; heap: ${half.heap}, then ${whole.heap} bytes`);
  const growth = whole.heap - half.heap;
  assert.ok(growth <= HEAP_GROWTH_BYTES_MAX, `the heap grew by ${growth} bytes in 500 clients`);
}

async function failToStart(t) {
  const server = await Server.start(t, { seed: SEED });
  const proxy = await Proxy.start(t, () => server.port);
  const page = await openCounting(t, proxy, [...NO_SERVER, /status of (401|404|500)/]);

  // The module is not there.
  const modules = await page.evaluate(async () => {
    const codes = new Set();
    for (let at = 0; at < 50; at += 1) {
      const client = make({ wasm: '/e2e/no-module.wasm' });
      codes.add((await outcome(client.ready())).code);
      codes.add((await outcome(client.ready())).code);
      await client.dispose();
    }
    return [...codes];
  });
  assert.deepEqual(modules, ['wasm_unavailable']);
  await expectLevel(page);

  // One client, whose key the server refuses: its timer is all that it may have.
  const refused = await page.evaluate(async () => {
    globalThis.ablo = make({ apiKey: 'ek_test_stranger' });
    const codes = new Set();
    let first;
    for (let at = 0; at < 50; at += 1) {
      codes.add((await outcome(ablo.ready())).code);
      first ??= await held();
    }
    return { codes: [...codes], first, last: await held() };
  });
  assert.deepEqual(refused.codes, ['apikey_invalid']);
  assert.deepEqual(refused.last, refused.first, 'the fiftieth failure leaves what the first did');
  const title = await page.evaluate(async () => {
    ablo.setAuthToken('ek_test_ada');
    await until(() => ablo.status.connection.state === 'connected');
    await ablo.ready();
    const { title } = ablo.tasks.get('a');
    await ablo.dispose();
    return title;
  });
  assert.equal(title, 'seed');
  await expectLevel(page);

  // A server that fails, or is not there: they try for a while before they say so.
  proxy.answer = () => ({ status: 500, body: '{}' });
  await page.evaluate(async () => {
    globalThis.clients = Array.from({ length: 50 }, (_, at) => make(at % 2 ? {} : { baseURL: 'http://127.0.0.1:1' }));
    globalThis.failed = (await Promise.all(clients.map((client) => outcome(client.ready())))).filter(({ code }) => code);
  });
  assert.equal(await page.evaluate(() => failed.length), 50);
  proxy.answer = () => undefined;
  await page.evaluate(async () => {
    const wellAgain = clients.filter((_, at) => at % 2);
    for (const client of wellAgain) client.nudgeReconnect();
    await Promise.all(wellAgain.map((client) => client.ready()));
    await Promise.all(clients.map((client) => client.dispose()));
  });
  await expectLevel(page);
}

async function comeAndGoStored(t) {
  const server = await Server.start(t, { seed: SEED });
  const page = await openCounting(t, server, NO_SERVER);
  const memory = [];
  for (const from of [0, 30]) {
    // One after the other: how many are there at once would decide how much memory they need.
    await comeAndGo(page, from, from + 30, 'indexeddb', 1);
    await expectLevel(page);
    memory.push(await page.evaluate(() => memoryBytes()));
  }
  assert.ok(memory[1] - memory[0] <= MODULE_GROWTH_BYTES_MAX, `${memory[0]} bytes in the module, ${memory[1]}`);
  await comeAndGo(page, 60, 100, 'indexeddb');
  await expectLevel(page);
  await page.evaluate(async () => {
    const client = make({ persistence: 'indexeddb' });
    await client.ready();
    await client.waitForFlush(30_000);
    await client.dispose();
  });
  await expectLevel(page);
  const [{ rank }] = await server.rows('Task');
  assert.ok(rank >= 100 - AT_ONCE, 'what the last ones wrote was sent');
}

async function sendAtTheEnd(t) {
  const server = await Server.start(t, { seed: SEED });
  const page = await openCounting(t, server, NO_SERVER);
  const waiting = await page.evaluate(async () => {
    globalThis.ablo = make();
    await ablo.ready();
    await until(() => ablo.status.connection.state === 'connected');
    for (let at = 0; at < 200; at += 1) void ablo.tasks.create({ id: `n${at}`, data: { title: `marker ${at}` } });
    const { pendingWrites } = ablo.status;
    await ablo.dispose();
    return pendingWrites;
  });
  assert.equal(waiting, 200, 'none was confirmed when the end began');
  assert.equal((await server.rows('Task')).length, 201);
  await expectLevel(page);
}

// The first waits for most of its time.
test('lifecycle', { concurrency: 2 }, async (t) => {
  await Promise.all([
    t.test('starts that fail leave nothing behind', failToStart),
    t.test('a thousand clients come and go, and nothing grows', comeAndGoOften),
    t.test('a hundred clients with storage come and go, and nothing stays open', comeAndGoStored),
    t.test('what a client has not sent yet is sent while it ends', sendAtTheEnd),
  ]);
});
