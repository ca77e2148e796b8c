/** The source connector with a real server: what goes through, and what becomes of it when the line does not hold. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { connector, KEY, OTHER_KEY, Proxy, Server, source } from './source-world.mjs';

const LOAD = { type: 'load', model: 'tasks', id: 't1' };
/** Pauses that no test waits for. */
const AT_ONCE = { reconnectSchedule: [0], jitter: 0 };

const tasks = { load: ({ id }) => (id === 't1' ? { id, title: 'Call back ☎' } : null) };

test('a request reaches the handler signed with the key, and its answer comes back', async (t) => {
  const server = await Server.start(t);
  const requests = [];
  const answer = source.dataSource({ apiKey: KEY, models: { tasks } });
  const handler = async (request) => {
    requests.push(request.clone());
    return answer(request);
  };
  const { until, statuses, errors, stop } = connector(t, { baseURL: `${server.url}//`, handler, client: 'test@1' });
  await until('ready');
  assert.deepEqual(await server.ask(LOAD), { status: 200, body: { row: { id: 't1', title: 'Call back ☎' } } });
  assert.deepEqual(await server.ask({ ...LOAD, id: 'ü' }), { status: 200, body: { row: null } });
  assert.equal((await server.ask('{')).body.error, 'invalid_json');
  const unknown = { status: 404, body: { error: 'source_load_not_configured', model: 'decks' } };
  assert.deepEqual(await server.ask({ ...LOAD, model: 'decks' }), unknown);
  assert.equal(await requests[0].text(), JSON.stringify(LOAD), 'byte for byte');
  const [one, two] = requests.map(({ headers }) => headers.get('webhook-id'));
  assert.notEqual(one, two);
  await stop();
  assert.deepEqual(statuses, ['connecting', 'ready', 'disconnected']);
  assert.deepEqual(errors, []);
  assert.equal((await server.ask(LOAD)).body.code, 'source_network_error', 'nobody listens any more');
});

test('a handler with another key finds every signature wrong', async (t) => {
  const server = await Server.start(t);
  const handler = source.dataSource({ apiKey: 'sk_test_other', models: { tasks } });
  await connector(t, { baseURL: server.url, handler }).until('ready');
  const { status, body } = await server.ask(LOAD);
  assert.deepEqual([status, body.error], [401, 'source_signature_invalid']);
});

test('requests are served at the same time, and answered in any order', async (t) => {
  const server = await Server.start(t);
  const order = [];
  let release;
  const second = new Promise((resolve) => (release = resolve));
  const handler = async (request) => {
    const { n } = await request.json();
    if (n === 1) await second;
    order.push(n);
    if (n === 2) release();
    return Response.json({ n }, { status: n > 2 ? 200 : 200 + n });
  };
  await connector(t, { baseURL: server.url, handler }).until('ready');
  const first = server.ask({ n: 1 });
  const answers = await Promise.all([first, server.ask({ n: 2 })]);
  assert.deepEqual(order, [2, 1]);
  assert.deepEqual(answers, [{ status: 201, body: { n: 1 } }, { status: 202, body: { n: 2 } }]);
  const many = await Promise.all(Array.from({ length: 100 }, (_, n) => server.ask({ n: n + 3, pad: 'x'.repeat(9999) })));
  assert.deepEqual(many.map(({ body }) => body.n), many.map((_, n) => n + 3));
});

test('a handler that throws is status 500, without the key, and the next request is served', async (t) => {
  const server = await Server.start(t);
  const handler = async (request) => {
    const { bad } = await request.json();
    if (bad) throw new Error(`the database refused ${KEY}`);
    return bad === false ? undefined : new Response('{"fine":true}');
  };
  const { until, errors } = connector(t, { baseURL: server.url, handler });
  await until('ready');
  const failed = { error: 'source_connector_handler_error', message: 'the database refused [key]' };
  assert.deepEqual(await server.ask({ bad: true }), { status: 500, body: failed });
  assert.equal((await server.ask({ bad: false })).body.error, 'source_connector_handler_error', 'no Response at all');
  assert.deepEqual(await server.ask({}), { status: 200, body: { fine: true } });
  assert.deepEqual(errors, []);
});

test('a request that is lost with its connection is aborted here, and comes again with the same id', async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, server);
  const seen = [];
  let arrived;
  const first = new Promise((resolve) => (arrived = resolve));
  const handler = async (request) => {
    seen.push(request);
    if (seen.length > 1) return Response.json({ try: seen.length });
    arrived();
    await new Promise((resolve) => request.signal.addEventListener('abort', resolve));
    return Response.json({ late: true });
  };
  const { until, statuses, errors } = connector(t, { baseURL: proxy.url, handler });
  await until('ready');
  const asked = server.ask(LOAD);
  await first;
  proxy.cut();
  assert.deepEqual(await asked, { status: 200, body: { try: 2 } });
  assert.deepEqual(statuses, ['connecting', 'ready', 'disconnected', 'connecting', 'ready'], 'at once, without a pause');
  assert.ok(seen[0].signal.aborted && !seen[1].signal.aborted);
  assert.equal(seen[0].headers.get('webhook-id'), seen[1].headers.get('webhook-id'));
  assert.deepEqual(errors.map(({ code, retryable }) => [code, retryable]), [['source_network_error', true]]);
});

test('it comes back to a service that was stopped and started again', async (t) => {
  const server = await Server.start(t);
  const handler = source.dataSource({ apiKey: KEY, models: { tasks } });
  const { until, errors } = connector(t, { baseURL: server.url, handler, ...AT_ONCE });
  await until('ready');
  await server.stop();
  await until('disconnected');
  assert.match(errors[0].message, /the connection was lost \(1012 service restart\)/);
  await server.start();
  await until('ready', 2);
  assert.equal((await server.ask(LOAD)).status, 200);
});

test('a service that is not there is asked time after time, until it is', async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, server);
  proxy.isClosed = true;
  const { until, statuses, errors } = connector(t, { baseURL: proxy.url, ...AT_ONCE });
  await until('disconnected', 5);
  assert.ok(!statuses.includes('ready'));
  assert.ok(errors.every((error) => error instanceof source.AbloError && error.code === 'source_network_error'));
  assert.match(errors[0].message, new RegExp(`^no connection with ws://127.0.0.1:\\d+/v1/source/listen`));
  proxy.isClosed = false;
  await until('ready');
});

test('a key of another kind, or of nobody, is refused and in no error', async (t) => {
  const server = await Server.start(t);
  for (const apiKey of [OTHER_KEY, 'sk_test_nobody']) {
    const { until, errors, stop, statuses } = connector(t, { baseURL: server.url, apiKey, ...AT_ONCE });
    await until('disconnected', 2);
    await stop();
    assert.ok(!statuses.includes('ready'));
    assert.match(errors[0].message, /is the address right, and the key a secret one that is in force/);
    assert.ok(!JSON.stringify(errors.map((error) => [error.message, error.stack, error])).includes(apiKey));
  }
  assert.deepEqual((await server.ask(LOAD, OTHER_KEY)).body.code, 'api_key_required');
});

test('another version is reported and the connection ended; it goes on once the versions fit', async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, server);
  const version = (to) => (chunk) =>
    Buffer.from(chunk.toString('latin1').replace('"protocolVersion":1', `"protocolVersion":${to}`), 'latin1');
  proxy.rewrite = version(2);
  const { until, statuses, errors } = connector(t, { baseURL: proxy.url, ...AT_ONCE });
  await until('disconnected', 2);
  assert.ok(!statuses.includes('ready'));
  assert.ok(errors[0] instanceof source.ConnectorProtocolError);
  assert.deepEqual([errors[0].code, errors[0].name], ['protocol_version_mismatch', 'ConnectorProtocolError']);
  assert.match(errors[0].message, /version 2 .* this package 1/);
  assert.equal(errors.length, 2, 'one error each time');
  proxy.rewrite = (chunk) => chunk;
  await until('ready');
});

test('aborting ends it at once, in whatever state, and takes requests along', async (t) => {
  const server = await Server.start(t);
  let request;
  let arrived;
  const first = new Promise((resolve) => (arrived = resolve));
  const handler = (asked) => {
    request = asked;
    arrived();
    return new Promise(() => {});
  };
  const busy = connector(t, { baseURL: server.url, handler });
  await busy.until('ready');
  // Nobody answers it: it ends with the server.
  void server.ask(LOAD).catch(() => {});
  await first;
  await busy.stop();
  assert.ok(request.signal.aborted);
  assert.deepEqual([busy.statuses.at(-1), busy.errors], ['disconnected', []]);

  const proxy = await Proxy.start(t, server);
  proxy.isClosed = true;
  const waiting = connector(t, { baseURL: proxy.url, reconnectSchedule: [0, 1e9] });
  await waiting.until('disconnected');
  await waiting.stop();
  assert.equal(proxy.count, 1);

  const aborted = source.createSourceConnector({ apiKey: KEY, handler, baseURL: proxy.url });
  await aborted.run(AbortSignal.abort());
  assert.equal(proxy.count, 1, 'it never dials');
});

test('of two connectors the later one is asked, and when it goes the other', async (t) => {
  const server = await Server.start(t);
  const as = (name) => ({ baseURL: server.url, handler: () => Response.json({ name }) });
  await connector(t, as('first')).until('ready');
  const second = connector(t, as('second'));
  await second.until('ready');
  assert.equal((await server.ask(LOAD)).body.name, 'second');
  await second.stop();
  assert.equal((await server.ask(LOAD)).body.name, 'first');
});
