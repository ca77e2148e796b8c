/** What the entry for sources decides by itself: frames, signatures, pauses, the endpoint; and every example of it. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { transform } from 'esbuild';

import { bundle, connector, KEY, ROOT, Server, settled, source, StandIn } from './source-world.mjs';

const READY = { type: 'ready', protocolVersion: 1 };

test('frames come back as they went', () => {
  const frames = [
    { type: 'register', protocolVersion: 1, client: 'my-app@1.0.0' },
    { type: 'ready', protocolVersion: 1, sourceId: 'src_1', organizationId: 'acme', environment: 'sandbox' },
    { type: 'request', id: 'r1', method: 'POST', url: 'https://source.invalid/', headers: { a: 'b' }, body: '{"é":1}' },
    { type: 'response', id: 'r1', status: 200, headers: {}, body: '' },
    { type: 'error', id: 'r1', code: 'x', message: '' },
    { type: 'error', code: 'x', message: 'y' },
  ];
  for (const frame of frames) {
    const text = source.encodeFrame(frame);
    assert.deepEqual(source.decodeFrame(text), frame);
    assert.deepEqual(source.decodeFrame(new TextEncoder().encode(text)), frame);
    assert.deepEqual(source.decodeFrame(new TextEncoder().encode(text).buffer), frame);
  }
  assert.deepEqual(source.decodeFrame('{"type":"ready","protocolVersion":1,"more":2}'), READY);
});

test('what is no frame is an error that says why', () => {
  const request = { type: 'request', id: 'r', method: 'POST', url: 'https://a.invalid/', headers: {}, body: '' };
  for (const [frame, why] of [
    ['', /not JSON/],
    [new Uint8Array([0xff]), /not JSON/],
    ['null', /not a JSON object/],
    ['[]', /not a JSON object/],
    [{}, /type of a frame is undefined/],
    [{ type: 'toString' }, /type of a frame is "toString", but must be one of register, ready/],
    [{ type: 'ready' }, /protocolVersion in a frame of type ready must be an integer/],
    [{ ...READY, protocolVersion: 1.5 }, /must be an integer/],
    [{ ...READY, environment: 'test' }, /environment .* production, sandbox or absent/],
    [{ ...READY, sourceId: null }, /sourceId in a frame of type ready must be a string or absent/],
    [{ ...request, id: '' }, /id in a frame of type request must be a non-empty string/],
    [{ ...request, method: 'GET' }, /method in a frame of type request must be POST/],
    [{ ...request, url: '/relative' }, /absolute URL/],
    [{ ...request, headers: { a: 1 } }, /headers .* object of strings/],
    [{ ...request, body: {} }, /body .* a string/],
    [{ type: 'error', message: '' }, /code in a frame of type error must be a non-empty string/],
  ]) {
    const data = typeof frame === 'string' || ArrayBuffer.isView(frame) ? frame : JSON.stringify(frame);
    const check = (error) =>
      error instanceof source.ConnectorProtocolError && error.code === 'protocol_violation' && why.test(error.message);
    assert.throws(() => source.decodeFrame(data), check, String(data));
  }
});

const SIGNED = { apiKey: KEY, id: 'msg_1', body: '{"type":"load","model":"tasks","id":"té"}', now: 1782900000999 };

test('the key of a signature is the API key as it stands', async () => {
  // Computed by `openssl dgst -sha256 -hmac sk_test_backend -binary | base64`; the server's tests have the same.
  const signature = 'I61kzqXRhkRn7ZcYjrdM51Jk7gLOiGnm3nHt+ofAr5Y=';
  const headers = await source.signAbloSourceRequest(SIGNED);
  assert.deepEqual(headers, {
    'webhook-id': 'msg_1',
    'webhook-timestamp': '1782900000',
    'webhook-signature': `v1,${signature}`,
  });
  assert.deepEqual(Object.values(source.ABLO_SOURCE_HEADERS), Object.keys(headers));
  await assert.rejects(source.signAbloSourceRequest({ ...SIGNED, apiKey: '' }), { code: 'apikey_missing' });
});

test('signatures are checked in the order of the protocol', async () => {
  const headers = await source.signAbloSourceRequest(SIGNED);
  const [id, timestamp, signature] = Object.keys(headers);
  const good = headers[signature];
  const check = async (change, more = {}) => {
    const result = await source.verifyAbloSourceRequest({ ...SIGNED, headers: { ...headers, ...change }, ...more });
    if (result.ok) return 'ok';
    assert.ok(result.error instanceof source.SourceSignatureError && result.error instanceof source.AbloError);
    assert.deepEqual([result.error.httpStatus, result.error.name], [401, 'SourceSignatureError']);
    assert.ok(!JSON.stringify([result.error, result.error.message]).includes(KEY));
    return result.error.code;
  };
  const at = (seconds) => ({ now: (1782900000 + seconds) * 1000 });
  for (const [expected, change, more] of [
    ['ok', {}],
    ['ok', {}, { headers: new Headers(headers) }],
    ['ok', { [signature]: `v2,x v1,AAAA v1,${'!'} ${good}` }],
    ['ok', {}, at(300)],
    ['ok', {}, at(-300)],
    ['ok', {}, { ...at(8), toleranceMs: 7001 }],
    ['source_id_missing', { [id]: undefined, [timestamp]: undefined }],
    ['source_timestamp_missing', { [timestamp]: '', [signature]: '' }],
    ['source_timestamp_invalid', { [timestamp]: 'soon' }],
    ['source_timestamp_invalid', { [timestamp]: '1782900000.5' }],
    ['source_timestamp_invalid', { [timestamp]: '9'.repeat(30) }],
    ['source_timestamp_expired', { [signature]: '' }, at(301)],
    ['source_timestamp_expired', {}, at(-301)],
    ['source_timestamp_expired', {}, { ...at(9), toleranceMs: 7001 }],
    ['source_signature_missing', { [signature]: undefined }],
    ['source_signature_missing', { [signature]: good.replace('v1', 'v1a') }],
    ['source_signature_invalid', { [signature]: 'v1,' }],
    ['source_signature_invalid', { [signature]: good.slice(0, -5) }],
    ['source_signature_invalid', { [id]: 'msg_2' }],
    ['source_signature_invalid', { [timestamp]: '1782900001' }],
    ['source_signature_invalid', {}, { body: `${SIGNED.body} ` }],
    ['source_signature_invalid', {}, { apiKey: `${KEY}2` }],
  ])
    assert.equal(await check(change, more), expected, JSON.stringify({ change, more }));
});

test('pauses grow with failures in a row, up to the last of the schedule', () => {
  const { afterConnection, DEFAULT_RECONNECT_SCHEDULE: schedule, NO_ATTEMPTS, pauseBefore } = source;
  const pauses = (...connections) =>
    [NO_ATTEMPTS, ...connections].map((_, count) =>
      pauseBefore(connections.slice(0, count).reduce(afterConnection, NO_ATTEMPTS), schedule, 0.1, 0.5),
    );
  const never = undefined;
  assert.deepEqual(pauses(never, never, never, never, never, never), [0, 1000, 2000, 5000, 10_000, 30_000, 30_000]);
  assert.deepEqual(pauses(never, never, 60_000, never), [0, 1000, 2000, 0, 1000], 'what worked starts over');
  assert.deepEqual(pauses(60_000, 60_000, 60_000), [0, 0, 0, 0]);
  assert.deepEqual(pauses(10, 10, 10, 10), [0, 0, 1000, 2000, 5000], 'in and out is no way to work');
  assert.deepEqual(pauses(10, never, 10, 5000, 10), [0, 0, 1000, 1000, 0, 0]);
  const jittered = (random) => pauseBefore({ failures: 2, brief: 0 }, schedule, 0.1, random);
  assert.deepEqual([0, 0.5, 1].map(jittered), [1800, 2000, 2200]);
  assert.equal(pauseBefore({ failures: 9, brief: 0 }, [7], 0, 0.9), 7);
});

test('options that cannot work are named, and a key is never quoted', () => {
  const good = { apiKey: KEY, handler() {}, webSocket() {} };
  const make = (change) => () => source.createSourceConnector({ ...good, ...change });
  make({})();
  for (const apiKey of [undefined, '', 7]) assert.throws(make({ apiKey }), { code: 'apikey_missing', param: 'apiKey' });
  const spaced = (error) => error.param === 'apiKey' && !`${error.message}${error.stack}`.includes('sk_live');
  assert.throws(make({ apiKey: 'sk_live_ä b' }), spaced);
  for (const [param, value] of [
    ['handler', undefined],
    ['webSocket', 'ws'],
    ['onStatus', 1],
    ['client', 1],
    ['jitter', 1.1],
    ['jitter', NaN],
    ['reconnectSchedule', []],
    ['reconnectSchedule', [0, Infinity]],
    ['baseURL', 'sync.example.com'],
    ['baseURL', 'https://user:pass@sync.example.com'],
    ['baseURL', 'https://sync.example.com?token=x'],
    ['baseUrl', 'https://sync.example.com'],
  ])
    assert.throws(make({ [param]: value }), { code: 'invalid_options', param, name: 'AbloValidationError' }, param);
});

/** A connector whose sockets are stand-ins. */
function standIns(t, options) {
  const sockets = [];
  const webSocket = (...args) => {
    sockets.push(new StandIn(...args));
    return sockets.at(-1);
  };
  return { sockets, ...connector(t, { webSocket, ...options }) };
}

test('address, subprotocols and the first frame are as the protocol has them', async (t) => {
  const { sockets, statuses, stop } = standIns(t, { client: 'my-app@1.0.0' });
  assert.equal(sockets[0].url, 'wss://api.abloatai.com/v1/source/listen');
  assert.deepEqual(sockets[0].protocols, ['ablo.source.v1', `ablo.bearer.${KEY}`]);
  assert.deepEqual(sockets[0].sent, []);
  sockets[0].open();
  assert.deepEqual(sockets[0].sent, [{ type: 'register', protocolVersion: 1, client: 'my-app@1.0.0' }]);
  assert.deepEqual(statuses, ['connecting'], 'an open socket is not ready yet');
  sockets[0].say(READY);
  await stop();
  assert.deepEqual(sockets[0].closed, [1000, 'connector_aborted']);
  const { sockets: others, stop: stopOther } = standIns(t, { baseURL: 'http://localhost:8787/base//' });
  assert.equal(others[0].url, 'ws://localhost:8787/base/v1/source/listen');
  others[0].open();
  assert.deepEqual(others[0].sent, [{ type: 'register', protocolVersion: 1 }]);
  await stopOther();
});

test('frames that make no sense are reported and passed over, errors of the service are reported', async (t) => {
  const { sockets, errors, statuses, stop } = standIns(t, {});
  sockets[0].open();
  for (const frame of ['', '{', '7', '{"type":"novel"}', '{"type":"request","id":"r1"}', new Uint8Array([0xff])])
    sockets[0].say(frame);
  sockets[0].say({ type: 'register', protocolVersion: 1 });
  assert.deepEqual(new Set(errors.map(({ code }) => code)), new Set(['protocol_violation']));
  assert.equal(errors.length, 7);
  sockets[0].say({ type: 'error', id: 'r1', code: 'source_disabled', message: `${KEY} is not enabled` });
  assert.deepEqual([errors[7].code, errors[7].message], ['source_disabled', '[key] is not enabled (request r1)']);
  sockets[0].say(READY);
  sockets[0].say(READY);
  assert.deepEqual([statuses, sockets[0].closed], [['connecting', 'ready'], undefined]);
  await stop();
});

test('another version is answered with 1002, on sockets that can', async (t) => {
  const { sockets, errors, stop } = standIns(t, {});
  sockets[0].open();
  sockets[0].say({ ...READY, protocolVersion: 2 });
  assert.deepEqual(sockets[0].closed, [1002, 'protocol_version_mismatch']);
  assert.equal(errors[0].code, 'protocol_version_mismatch');
  await stop();
});

test('a service that never becomes ready is given up after 15 s, and tried again after a pause', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { sockets, errors, stop } = standIns(t, { jitter: 0 });
  sockets[0].open();
  t.mock.timers.tick(14_999);
  assert.equal(errors.length, 0);
  t.mock.timers.tick(1);
  assert.match(errors[0].message, /did not become ready within 15 s/);
  await settled();
  t.mock.timers.tick(999);
  await settled();
  assert.equal(sockets.length, 1);
  t.mock.timers.tick(1);
  await settled();
  assert.equal(sockets.length, 2);
  sockets[1].open();
  sockets[1].say(READY);
  t.mock.timers.tick(60_000);
  assert.equal(errors.length, 1, 'what is ready has no such limit');
  await stop();
});

test('a socket that cannot even be made is reported without the key, and tried again without starving others', async (t) => {
  let tries = 0;
  const webSocket = (url, protocols) => {
    tries += 1;
    throw new SyntaxError(`the subprotocol ${protocols[1]} is invalid`);
  };
  const { errors, until, stop } = connector(t, { webSocket, reconnectSchedule: [0] });
  await until('disconnected', 3);
  await stop();
  assert.ok(tries >= 3);
  assert.equal(errors[0].message, 'the socket cannot be opened: the subprotocol ablo.bearer.[key] is invalid');
  assert.equal(errors[0].cause, undefined);
});

test('listeners that throw disturb nothing, and without onError the console says it', async (t) => {
  const said = [];
  t.mock.method(console, 'error', (error) => said.push(error.message));
  t.mock.method(console, 'warn', (message) => said.push(message));
  const onStatus = () => {
    throw new Error('of the application');
  };
  const { sockets, stop } = standIns(t, { onStatus, onError: undefined });
  sockets[0].open();
  sockets[0].say('{');
  sockets[0].say(READY);
  await stop();
  assert.deepEqual(said.filter((text) => text !== 'of the application'), ['ablo source connector: a frame is not JSON']);
  assert.equal(said.length, 4);
});

test('the endpoint answers as the protocol has it', async () => {
  const calls = [];
  const note = (name, result) => (params) => {
    calls.push([name, params]);
    return result;
  };
  const commit = note('commit', { rows: [{ id: 't1' }] });
  const options = {
    apiKey: [KEY, { key: 'sk_test_reader', scopes: ['load'] }],
    models: {
      tasks: { load: async ({ id }) => (id === 't1' ? { id } : undefined), list: note('list', [{ id: 't1' }]), commit },
      decks: { list: async () => ({ rows: [], nextCursor: 'c2' }) },
    },
    events: note('events', { events: [], nextCursor: 'c1' }),
  };
  const post = async (asked, { apiKey = KEY, more = {}, method = 'POST' } = {}) => {
    const body = typeof asked === 'string' ? asked : JSON.stringify(asked);
    const headers = await source.signAbloSourceRequest({ apiKey, id: 'msg_1', body });
    const init = method === 'GET' ? {} : { method, headers, body };
    const response = await source.dataSource({ ...options, ...more })(new Request('https://source.invalid/', init));
    return [response.status, await response.json()];
  };
  const update = { type: 'UPDATE', model: 'tasks', id: 't1', input: {} };
  const write = (operations, more = {}) => ({ type: 'commit', operations, clientTxId: 'tx1', ...more });
  for (const [asked, status, answer, more] of [
    [{ type: 'load', model: 'tasks', id: 't1' }, 200, { row: { id: 't1' } }],
    [{ type: 'load', model: 'tasks', id: 't2' }, 200, { row: null }],
    [{ type: 'load', model: 'tasks', id: 't1' }, 200, { row: { id: 't1' } }, { apiKey: 'sk_test_reader' }],
    [{ type: 'list', model: 'tasks', query: { limit: 1 } }, 200, { rows: [{ id: 't1' }] }],
    [{ type: 'list', model: 'decks' }, 200, { rows: [], nextCursor: 'c2' }],
    [write([update]), 200, { rows: [{ id: 't1' }] }],
    [write([update, { ...update, model: 'decks' }]), 200, { rows: [{ id: 't1' }] }, { more: { commit } }],
    [{ type: 'events', cursor: 'c0' }, 200, { events: [], nextCursor: 'c1' }],
    ['', 405, { error: 'method_not_allowed' }, { method: 'GET' }],
    ['{', 400, { error: 'invalid_json' }],
    [[], 400, { error: 'unknown_source_request' }],
    [{ type: 'drop' }, 400, { error: 'unknown_source_request' }],
    [{ type: 'load', model: 'decks', id: 'd' }, 404, { error: 'source_load_not_configured', model: 'decks' }],
    [{ type: 'load', model: 'constructor', id: 'd' }, 404, { error: 'source_load_not_configured', model: 'constructor' }],
    [{ type: 'list', model: 'slides' }, 404, { error: 'source_list_not_configured', model: 'slides' }],
    [write([{ ...update, model: 'decks' }]), 404, { error: 'source_commit_not_configured', model: 'decks' }],
    [write([update, { ...update, model: 'decks' }]), 400, { error: 'source_commit_requires_single_model' }],
    [write([update], { clientTxId: '' }), 400, { error: 'source_commit_requires_client_tx_id' }],
    [write([]), 400, { error: 'source_commit_invalid' }],
    [write([{ ...update, type: 'UPSERT' }]), 400, { error: 'source_commit_invalid' }],
    [{ type: 'events' }, 404, { error: 'source_events_not_configured' }, { more: { events: undefined } }],
    [write([update]), 403, { error: 'source_forbidden', required: 'commit', granted: ['load'] }, { apiKey: 'sk_test_reader' }],
  ])
    assert.deepEqual(await post(asked, more), [status, answer], JSON.stringify(asked));
  const [status, { error }] = await post({ type: 'drop' }, { apiKey: 'sk_test_nobody' });
  assert.deepEqual([status, error], [401, 'source_signature_invalid'], 'nothing is told to whoever has no key');
  assert.equal((await post({ type: 'load' }, { more: { apiKey: '' } }))[1].error, 'source_api_key_missing');
  assert.deepEqual(calls.find(([name]) => name === 'events')[1], { cursor: 'c0', limit: 100, scope: { mode: 'production' } });
  assert.deepEqual(calls.find(([name]) => name === 'list')[1].query, { limit: 1 });
});

/** Examples of documents and comments: `{ place, code }`. */
async function examples() {
  const read = (path) => readFile(join(ROOT, path), 'utf8');
  const found = [];
  for (const path of ['docs/source.md', 'docs/batching.md'])
    for (const [, code] of (await read(path)).matchAll(/```js\n(.*?)```/gs)) found.push({ place: path, code });
  for (const name of await readdir(join(ROOT, 'sdk/src'))) {
    if (!/^(source|batching)/.test(name)) continue;
    for (const [comment] of (await read(`sdk/src/${name}`)).matchAll(/\/\*\*.*?\*\//gs)) {
      const [, code] = /@example\n(.*)\*\//s.exec(comment) ?? [];
      if (code !== undefined) found.push({ place: name, code: code.replaceAll(/^ *\* ?/gm, '') });
    }
  }
  return found;
}

/** The example as a module that runs here, and how many values it promises. */
async function runnable(code, address) {
  const checked = code.replaceAll(/^(.*?);? \/\/ → (.*)$/gm, 'expectEqual($1, $2);');
  const module = checked
    .replaceAll(/'ablo-wasm\/(source|batching)'/g, JSON.stringify(bundle))
    .replaceAll(/baseURL: '.*?'/g, `baseURL: '${address}'`);
  const { code: js } = await transform(module, { loader: 'ts', format: 'esm' });
  return { js, promised: checked.split('expectEqual(').length - 1 };
}

const all = await examples();

test('there are examples', () => {
  const count = (end) => all.filter(({ place }) => place.endsWith(end)).length;
  assert.deepEqual([count('source.md'), count('batching.md'), count('.ts')], [2, 1, 5]);
});

for (const [index, { place, code }] of all.entries()) {
  test(`example ${index + 1}, ${place}`, async (t) => {
    const server = await Server.start(t);
    const { js, promised } = await runnable(code, server.url);
    if (code.startsWith('// source.js')) return runsAsProgram(t, js, server);
    let reached = 0;
    globalThis.expectEqual = (actual, expected) => {
      reached += 1;
      assert.deepEqual(actual, expected);
    };
    t.mock.method(console, 'warn', () => {});
    await import(`data:text/javascript,${encodeURIComponent(`${js}\n// ${index}`)}`);
    assert.equal(reached, promised);
  });
}

/** The program of the guide: it listens, answers what the guide says, and ends when it is told to. */
async function runsAsProgram(t, js, server) {
  const file = join(fileURLToPath(new URL('.', bundle)), 'program.mjs');
  await writeFile(file, js);
  const child = spawn(process.execPath, ['--experimental-websocket', '--no-warnings', file], {
    env: { ...process.env, ABLO_API_KEY: KEY },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const exited = once(child, 'exit');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => (await lines.next()).value;
  assert.deepEqual([await next(), await next()], ['connecting', 'ready']);
  const load = { type: 'load', model: 'tasks', id: 't1' };
  assert.deepEqual((await server.ask(load)).body, { row: { id: 't1', title: 'Call back' } });
  const update = { type: 'UPDATE', model: 'tasks', id: 't1', input: { title: 'Done' } };
  const commit = { type: 'commit', operations: [update], clientTxId: 'tx1' };
  for (let time = 0; time < 2; time++) {
    assert.deepEqual((await server.ask(commit)).body, { rows: [{ id: 't1', title: 'Done' }] });
  }
  assert.deepEqual((await server.ask({ type: 'list', model: 'tasks', query: {} })).body.rows.length, 1);
  child.kill('SIGTERM');
  assert.equal(await next(), 'disconnected');
  assert.deepEqual(await exited, [0, null]);
}
