// The measurements that are made in the page. Each function is one round; run.mjs calls them and takes medians.

import * as sdk from '/pkg/index.js';
import makeSchema from './schema.js';

const KEY = { some: 'ek_test_some', small: 'ek_test_small', large: 'ek_test_large' };
const WRITER = { small: 'ek_test_small-writer', large: 'ek_test_large-writer' };
const PROJECTS = 20;
const TIMEOUT_MS = 60_000;
const schema = makeSchema(sdk);
const now = () => performance.now();

/** The memory of the module: taken where it is made. */
let memory;
const { instantiateStreaming } = WebAssembly;
WebAssembly.instantiateStreaming = async (...given) => {
  const result = await instantiateStreaming.apply(WebAssembly, given);
  memory = result.instance.exports.memory;
  return result;
};

/** The last message with at least `messageLength` characters, and when its handler began. */
let message = '';
let messageAt = 0;
let messageLength = 0;
globalThis.WebSocket = class extends WebSocket {
  set onmessage(handler) {
    super.onmessage =
      handler &&
      ((event) => {
        if (event.data.length >= messageLength) {
          message = event.data;
          messageAt = now();
        }
        handler.call(this, event);
      });
  }
  get onmessage() {
    return super.onmessage;
  }
};

function make(set, options) {
  return sdk.Ablo({ schema, baseURL: location.origin, apiKey: KEY[set], ...options });
}

async function open(set) {
  const ablo = make(set);
  await ablo.ready();
  await until(() => ablo.status.connection.state === 'connected');
  return ablo;
}

async function until(condition) {
  const end = now() + TIMEOUT_MS;
  while (!condition()) {
    if (now() > end) throw new Error(`never came: ${condition}`);
    await turn();
  }
}

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

/** What cannot be avoided: the bytes of the snapshot, and JSON.parse of them. */
async function floorOfReady(set) {
  const init = { headers: { authorization: `Bearer ${KEY[set]}` }, cache: 'no-store' };
  const url = '/api/sync/bootstrap?models=Task';
  const begin = now();
  const text = await (await fetch(url, init)).text();
  const rows = JSON.parse(text).models.Task.length;
  const viaText = now() - begin;
  const again = now();
  const bytes = await (await fetch(url, init)).arrayBuffer();
  JSON.parse(new TextDecoder().decode(bytes));
  return { ms: Math.min(viaText, now() - again), rows, bytes: bytes.byteLength };
}

async function ready(set) {
  const begin = now();
  const ablo = make(set);
  await ablo.ready();
  const ms = now() - begin;
  const count = ablo.tasks.getCount();
  await ablo.dispose();
  return { ms, count };
}

/** One round of everything that is measured on 10,000 rows. */
async function small() {
  const ablo = await open('small');
  const { tasks } = ablo;
  const result = {};
  const page = (project) => tasks.getAll({ where: { projectId: `project-${project}` }, orderBy: { rank: 'asc' }, limit: 50 });

  let begin = now();
  page(0);
  result.queryCold = now() - begin;
  begin = now();
  for (let project = 1; project < PROJECTS; project += 1) page(project);
  result.queryFirst = (now() - begin) / (PROJECTS - 1);
  const options = { where: { projectId: 'project-3' }, orderBy: { rank: 'asc' }, limit: 50 };
  result.queryAgain = perCall(200_000, () => tasks.getAll(options));

  const ids = tasks.getAll({ limit: 1000 }).map((row) => row.id);
  let at = 0;
  result.get = perCall(2_000_000, () => tasks.get(ids[(at = at === 999 ? 0 : at + 1)])) * 1e6;

  result.update = [];
  for (let round = 0; round < 10; round += 1) {
    const changes = ids.slice(round * 100, round * 100 + 100).map((id, index) => ({ id, data: { title: `changed ${round} ${index}` } }));
    const writes = [];
    begin = now();
    for (const change of changes) writes.push(tasks.update(change));
    result.update.push(((now() - begin) / changes.length) * 1000);
    await Promise.all(writes);
    await ablo.waitForFlush();
  }

  result.confirmed = [];
  for (let round = 0; round < 60; round += 1) {
    begin = now();
    await tasks.update({ id: ids[round], data: { rank: -round - Math.random() }, wait: 'confirmed' });
    result.confirmed.push(now() - begin);
  }
  result.roundTrip = await rawCommits('small', ids.slice(0, 60));
  await ablo.dispose();
  return result;
}

/** Commits on a bare socket, each after the answer to the one before: what the server and the network take. */
async function rawCommits(set, ids) {
  const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/api/sync/ws?cursor=`, [`ablo.bearer.${KEY[set]}`, 'ablo.sync.v1']);
  await new Promise((resolve) => (socket.onopen = resolve));
  const times = [];
  for (const id of ids) {
    const operations = [{ type: 'UPDATE', model: 'task', id, input: { rank: Math.random() } }];
    const begin = now();
    socket.send(JSON.stringify({ type: 'commit', payload: { operations, clientTxId: crypto.randomUUID() } }));
    await new Promise((resolve) => {
      socket.onmessage = ({ data }) => data.includes('mutation_result') && resolve();
    });
    times.push(now() - begin);
  }
  socket.close();
  return times;
}

/** A catch-up of `count` changes arrives as one message under one live view. */
async function deltas(count) {
  const ablo = await open('small');
  let told = 0;
  ablo.tasks.onChange(() => (told = now()), { where: { status: 'todo' }, orderBy: { rank: 'asc' }, limit: 50 });
  const ids = ablo.tasks.getAll({ limit: count }).map((row) => row.id);
  ablo.setOffline(true);
  await until(() => ablo.status.connection.state !== 'connected');
  const mark = Math.random();
  message = '';
  const head = await commitAsOther('small', ids, (at) => ({ title: `moved ${at}`, rank: mark + at, status: 'todo' }));
  messageLength = 100_000;
  messageAt = 0;
  ablo.setOffline(false);
  await until(() => ablo.status.lastSyncId >= head && messageAt > 0);
  await turn();
  const us = ((told - messageAt) / count) * 1000;
  await ablo.dispose();
  // What cannot be avoided: the frame is JSON, and each row in it is JSON in a string.
  const begin = now();
  for (const delta of JSON.parse(message).payload.deltas) JSON.parse(delta.data);
  return { us, floor: ((now() - begin) / count) * 1000 };
}

/** Updates rows over HTTP as another user; the highest sync id of it. */
async function commitAsOther(set, ids, data) {
  let last = 0;
  for (let from = 0; from < ids.length; from += 1000) {
    const operations = ids.slice(from, from + 1000).map((id, at) => ({ action: 'update', model: 'tasks', id, data: data(from + at) }));
    const clientTxId = crypto.randomUUID();
    const response = await fetch('/api/v1/commits', {
      method: 'POST',
      headers: { authorization: `Bearer ${WRITER[set]}`, 'content-type': 'application/json', 'idempotency-key': clientTxId },
      body: JSON.stringify({ clientTxId, idempotencyKey: clientTxId, operations }),
    });
    last = (await response.json()).lastSyncId;
  }
  return last;
}

/** One row changes under a live list of 100,000 sorted rows: by a write of ours, and by a delta. */
async function large() {
  const ablo = await open('large');
  const result = {};
  const count = ablo.tasks.getCount();
  for (const [name, limit] of [['Window', 50], ['Whole', 0]]) {
    let told = 0;
    let length = 0;
    const begin = now();
    const stop = ablo.tasks.onChange(
      (rows) => {
        told = now();
        length = rows.length;
      },
      { orderBy: { rank: 'asc' }, limit },
    );
    result[`open${name}`] = now() - begin;
    const [first] = ablo.tasks.getAll({ orderBy: { rank: 'asc' }, limit: 1 });
    result[`local${name}`] = [];
    for (let round = 0; round < 20; round += 1) {
      const at = now();
      const write = ablo.tasks.update({ id: first.id, data: { rank: -1 - Math.random() } });
      await turn();
      result[`local${name}`].push(told - at);
      await write;
      await ablo.waitForFlush();
    }
    result[`remote${name}`] = [];
    messageLength = 0;
    for (let round = 0; round < 20; round += 1) {
      const before = told;
      const head = await commitAsOther('large', [first.id], () => ({ rank: -1 - Math.random() }));
      await until(() => told !== before && ablo.status.lastSyncId >= head);
      result[`remote${name}`].push(told - messageAt);
    }
    if (length !== (limit || count)) throw new Error(`the list has ${length} rows`);
    stop();
  }
  await ablo.dispose();
  return result;
}

/** Opens 100,000 rows and keeps them; run.mjs then weighs the page. */
let kept;
async function hold() {
  kept = await open('large');
  return memory.buffer.byteLength;
}

function readAll() {
  kept.rows = kept.tasks.getAll();
  return memory.buffer.byteLength;
}

const stored = { persistence: 'indexeddb' };

/** Whether a row cache has been written: its last record is the one that says what the others are. */
async function isCached() {
  for (const { name } of await indexedDB.databases()) {
    const database = await new Promise((resolve) => {
      indexedDB.open(name).onsuccess = (event) => resolve(event.target.result);
    });
    const key = await new Promise((resolve) => {
      database.transaction('cache').objectStore('cache').getKey('meta').onsuccess = (event) => resolve(event.target.result);
    });
    database.close();
    if (key !== undefined) return true;
  }
  return false;
}

/** The first start: `ready()` with nothing stored, in turns with the same in memory. */
async function firstStart() {
  const result = { memory: [], indexeddb: [] };
  for (const persistence of ['memory', 'indexeddb', 'memory', 'indexeddb', 'memory', 'indexeddb']) {
    const begin = now();
    const ablo = make('some', { persistence });
    await ablo.ready();
    result[persistence].push(now() - begin);
    if (ablo.tasks.getCount() !== 5000) throw new Error(`${ablo.tasks.getCount()} rows`);
    await ablo.purge();
  }
  return result;
}

/** Leaves 100,000 rows on the device. */
async function store() {
  const ablo = make('large', stored);
  await ablo.ready();
  while (!(await isCached())) await turn();
  await ablo.dispose();
}

/** Loads the module and compiles it. */
async function load() {
  const other = make('some');
  other.setOffline(true);
  await other.waitForFlush();
  await other.dispose();
}

/** From nothing but the module to the first row. */
async function warmStart() {
  const begin = now();
  const ablo = make('large', stored);
  await ablo.ready();
  const row = ablo.tasks.get('task-00077777-4f1c-9d2a');
  const ms = now() - begin;
  const count = ablo.tasks.getCount();
  if (row?.rank === undefined || count !== 100_000) throw new Error(`${count} rows, ${JSON.stringify(row)}`);
  await ablo.dispose();
  return ms;
}

/** 1,000 writes without a network, until the last is on the disk. */
async function journal() {
  const ablo = make('some', stored);
  await ablo.ready();
  await until(() => ablo.status.connection.state === 'connected');
  ablo.setOffline(true);
  const times = [];
  for (let round = 0; round < 4; round += 1) {
    const ids = ablo.tasks.getAll({ limit: 1000, offset: round * 1000 }).map(({ id }) => id);
    const begin = now();
    await Promise.all(ids.map((id, at) => ablo.tasks.update({ id, data: { title: `offline ${at}` }, wait: 'queued' })));
    // The first compiles.
    if (round > 0) times.push(now() - begin);
  }
  if (ablo.outbox.list({ stage: 'journaled' }).length === 0) throw new Error('nothing is journaled');
  await ablo.purge();
  return times;
}

/** Milliseconds of one call, in a loop that has warmed up. */
function perCall(times, work) {
  for (let at = 0; at < times / 10; at += 1) work();
  const begin = now();
  for (let at = 0; at < times; at += 1) work();
  return (now() - begin) / times;
}

globalThis.bench = { floorOfReady, ready, small, deltas, large, hold, readAll, firstStart, store, load, warmStart, journal };
