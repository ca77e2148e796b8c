// Servers that answer with rubbish, keys that end, answers that get lost: errors have codes, nothing is wedged.

import assert from 'node:assert/strict';
import { NO_SERVER, openClient, openPage, Server, test } from './harness.mjs';
import { Proxy } from './proxy.mjs';

const RUBBISH = {
  'a page instead of JSON': { headers: { 'content-type': 'text/html' }, body: '<!doctype html><title>Sign in to the Wi-Fi</title>' },
  'half of an answer': { body: '{"type":"full","lastSyncId":3,"models":{"Task":[{"id":"a"' },
  'JSON of the wrong shape': { body: '{"type":"full","lastSyncId":"many","models":[]}' },
  'null': { body: 'null' },
  'an empty answer': { body: '' },
  'not there': { status: 404, headers: { 'content-type': 'text/html' }, body: '<h1>404</h1>' },
};

for (const [name, answer] of Object.entries(RUBBISH)) {
  test(`the snapshot is ${name}: a coded error, and later a good start`, async (t) => {
    const server = await Server.start(t, { seed: { Task: [{ id: 'a', title: 'real' }] } });
    const proxy = await Proxy.start(t, () => server.port);
    proxy.answer = (path) => (path.endsWith('/sync/bootstrap') ? answer : undefined);
    const page = await openPage(t, proxy, { expected: [...NO_SERVER, /status of 404/] });
    const failed = await page.evaluate(async () => {
      globalThis.ablo = make();
      return outcome(ablo.ready());
    });
    assert.ok(failed.isAblo && failed.code, `not a coded error: ${JSON.stringify(failed)}`);
    assert.equal(await page.evaluate(() => ablo.tasks.getCount()), 0);

    proxy.answer = () => undefined;
    const title = await page.evaluate(async () => {
      await ablo.ready();
      await ablo.tasks.create({ id: 'b', data: { title: 'works' }, wait: 'confirmed' });
      return ablo.tasks.get('a').title;
    });
    assert.equal(title, 'real');
  });
}

test('a gateway that fails for a while only delays the start', async (t) => {
  const server = await Server.start(t, { seed: { Task: [{ id: 'a', title: 'real' }] } });
  const proxy = await Proxy.start(t, () => server.port);
  let failures = 0;
  proxy.answer = (path) => {
    if (!path.endsWith('/sync/bootstrap') || failures === 2) return undefined;
    failures += 1;
    return { status: 502, headers: { 'content-type': 'text/html' }, body: '<h1>502</h1>' };
  };
  const page = await openClient(t, proxy, { expected: [...NO_SERVER, /status of 502/] });
  assert.equal(await page.evaluate(() => ablo.tasks.get('a').title), 'real');
  assert.equal(failures, 2);
});

test('rubbish on the socket does not wedge the client', async (t) => {
  const server = await Server.start(t, { seed: { Task: [{ id: 'a', title: 'real' }] } });
  const proxy = await Proxy.start(t, () => server.port);
  proxy.frames = [
    ...['', 'not json', '[]', 'null', '{}', '{"type":7}', '{"type":"delta"}', '{"type":"delta","payload":null}'],
    '{"type":"delta","payload":{"id":"x","actionType":"U","modelName":"Task","modelId":"a","data":"{broken"}}',
    '{"type":"delta","payload":{"deltas":[1,null,{"modelName":7}]}}',
    '{"type":"mutation_result","payload":{"clientTxId":"nobody","success":false}}',
    '{"type":"sync_response","payload":{"deltas":"many","currentSyncId":"high"}}',
  ];
  const page = await openPage(t, proxy, { expected: NO_SERVER });
  await page.evaluate(async () => {
    globalThis.ablo = make();
    // Whether this start succeeds is the client's choice; that it ends is not.
    await outcome(ablo.ready());
  });
  proxy.frames = undefined;
  proxy.cut();
  const facts = await page.evaluate(async () => {
    await outcome(ablo.ready());
    ablo.nudgeReconnect();
    await until(() => ablo.status.connection.state === 'connected');
    await ablo.tasks.update({ id: 'a', data: { note: 'still here' }, wait: 'confirmed' });
    return [ablo.tasks.get('a').title, ablo.tasks.get('a').note, ablo.status.pendingWrites];
  });
  assert.deepEqual(facts, ['real', 'still here', 0]);
  assert.equal((await server.rows('Task'))[0].note, 'still here');
});

test('a lost acknowledgement does not apply a write twice', async (t) => {
  const server = await Server.start(t, { seed: { Project: [{ id: 'p', name: 'there before' }] } });
  const proxy = await Proxy.start(t, () => server.port);
  const page = await openPage(t, proxy, { expected: NO_SERVER });
  await page.evaluate(async () => {
    globalThis.ablo = make();
    await ablo.ready();
    await until(() => ablo.status.connection.state === 'connected');
  });
  proxy.isMute = true;
  await page.evaluate(() => {
    globalThis.write = ablo.tasks.create({ id: 'once', data: { title: 'once' }, wait: 'confirmed' });
  });
  await waitFor(async () => (await server.rows('Task')).length === 1);
  proxy.isMute = false;
  proxy.cut();
  const title = await page.evaluate(async () => {
    ablo.nudgeReconnect();
    const row = await write;
    await ablo.waitForFlush(30_000);
    return row.title;
  });
  assert.equal(title, 'once');
  const deltas = await page.evaluate(() => deltasSince(1));
  assert.deepEqual(deltas.map((delta) => [delta.actionType, delta.modelId]), [['I', 'once']]);
});

test('a key that ends is renewed by one call, and the rows stay', async (t) => {
  const server = await Server.start(t, { seed: { Task: [{ id: 'a', title: 'kept' }] } });
  const mint = async (ttlSeconds) => JSON.parse(await server.fetch('/auth/ephemeral-keys', { body: { user: { id: 'ada' }, ttlSeconds } })).token;
  const page = await openPage(t, server, { expected: [...NO_SERVER, /status of 401/] });
  const tokens = [await mint(1), await mint(900)];
  const facts = await page.evaluate(async (list) => {
    let calls = 0;
    globalThis.ablo = make({ apiKey: async () => list[Math.min(calls++, list.length - 1)] });
    await ablo.ready();
    const row = ablo.tasks.get('a');
    const atStart = calls;
    const states = new Set();
    ablo.onStatus(({ connection }) => states.add(connection.state));
    await until(() => calls > atStart);
    await until(() => ablo.status.connection.state === 'connected');
    await ablo.tasks.update({ id: 'a', data: { note: 'after' }, wait: 'confirmed' });
    return { atStart, renewals: calls - atStart, row: row.title, ended: states.has('session_expired'), note: ablo.tasks.get('a').note };
  }, tokens);
  assert.deepEqual(facts, { atStart: 1, renewals: 1, row: 'kept', ended: false, note: 'after' });
});

test('no key at all is told plainly', async (t) => {
  const server = await Server.start(t);
  const page = await openPage(t, server, { expected: [/status of 401/, ...NO_SERVER] });
  const codes = await page.evaluate(async () => {
    const none = make({ apiKey: async () => null });
    const wrong = make({ apiKey: 'ek_test_stranger' });
    const results = [await outcome(none.ready()), await outcome(wrong.ready())];
    await Promise.all([none.dispose(), wrong.dispose()]);
    return results.map(({ code }) => code);
  });
  assert.deepEqual(codes, ['auth_no_credentials', 'apikey_invalid']);
});

async function waitFor(condition) {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}
