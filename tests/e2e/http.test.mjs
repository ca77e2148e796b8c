// The stateless client in a page: loaded when it is first used, without the module, and allowed across origins.

import assert from 'node:assert/strict';
import { countLoads, openClient, openPage, Server, test } from './harness.mjs';

/** Makes a stateless client in the page, as `window.desk`. */
const openDesk = (page, options) =>
  page.evaluate(async (given) => {
    const [{ Ablo, ...sdk }, { default: makeSchema }] = await Promise.all([import('ablo-wasm'), import('/e2e/schema.js')]);
    globalThis.desk = Ablo({ schema: makeSchema(sdk), transport: 'http', apiKey: 'ek_test_ada', ...given });
  }, options);

test('a page loads the stateless client with its first call, and no module', async (t) => {
  const server = await Server.start(t);
  const page = await openPage(t, server);
  await openDesk(page, { baseURL: server.url });
  assert.equal(await countLoads(page, '/http.js'), 0);
  const read = await page.evaluate(async () => {
    const receipt = await desk.tasks.create({ id: 'one', data: { title: 'From a page', status: 'todo' } });
    const { data, stamp } = await desk.tasks.retrieve({ id: 'one' });
    return [receipt.status, data.title, data.createdAt instanceof Date, stamp >= receipt.lastSyncId];
  });
  assert.deepEqual(read, ['confirmed', 'From a page', true, true]);
  assert.deepEqual([await countLoads(page, '/http.js'), await countLoads(page, '.wasm')], [1, 0]);
});

test('a claim of a stateless client keeps a live one out, and its write shows there', async (t) => {
  const server = await Server.start(t);
  const live = await openClient(t, server, { options: { apiKey: 'ek_test_grace' } });
  await live.evaluate(() => ablo.tasks.create({ id: 'one', data: { title: 'Call back', status: 'todo' }, wait: 'confirmed' }));
  const page = await openPage(t, server);
  await openDesk(page, { baseURL: server.url });
  await page.evaluate(async () => (globalThis.claim = await desk.tasks.claim({ id: 'one', reason: 'triaging', ttl: '5m' })));
  const refused = await live.evaluate(async () => {
    const error = await ablo.tasks.update({ id: 'one', data: { title: 'mine' }, wait: 'confirmed' }).catch((error) => error);
    return [error.type, error.code];
  });
  assert.deepEqual(refused, ['AbloClaimedError', 'entity_claimed']);
  await page.evaluate(async () => {
    await desk.tasks.update({ id: 'one', data: { title: `${claim.data.title}, urgent` }, claim });
    await claim.release();
  });
  await live.evaluate(() => until(() => ablo.tasks.get('one').title === 'Call back, urgent', 'the write'));
  await live.evaluate(() => ablo.tasks.update({ id: 'one', data: { status: 'done' }, wait: 'confirmed' }));
});

test('it works from a page of another origin, with every verb', async (t) => {
  const [here, there] = [await Server.start(t), await Server.start(t)];
  const page = await openPage(t, here, { expected: [/404/] });
  await openDesk(page, { baseURL: there.url, defaultHeaders: { 'x-trace': 'page' } });
  const seen = await page.evaluate(async () => {
    await desk.tasks.create({ id: 'one', data: { title: 'one', status: 'todo' } });
    await desk.tasks.update({ id: 'one', data: { title: 'uno' }, claim: { reason: 'renaming' } });
    const [row] = await desk.tasks.list({ where: { title: 'uno' } });
    await desk.commits.create({ operation: { action: 'archive', model: 'tasks', id: 'one' } });
    await desk.tasks.delete({ id: 'one' });
    const error = await desk.tasks.retrieve({ id: 'one' }).catch((error) => error);
    return [row.id, error.code, typeof error.requestId];
  });
  assert.deepEqual(seen, ['one', 'model_not_found', 'string']);
});

test('a secret key does not get into a page', async (t) => {
  const server = await Server.start(t);
  const page = await openPage(t, server);
  await assert.rejects(openDesk(page, { apiKey: 'sk_test_backend' }), /a secret key \(sk_\) must not reach a browser/);
});
