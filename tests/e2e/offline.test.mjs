// The network goes away, really and by the client's own switch: nothing is lost, nothing pretends to be saved.

import assert from 'node:assert/strict';
import { countRequests, NO_SERVER, openClient, openContext, Server, test, unlessIn } from './harness.mjs';

test('confirmed writes wait for the network, queued ones do not', async (t) => {
  const server = await Server.start(t, { seed: { Project: [{ id: 'p', name: 'there before' }] } });
  const page = await openClient(t, server);
  const during = await page.evaluate(async () => {
    await goOffline();
    await until(() => ablo.status.connection.state !== 'connected');
    globalThis.confirmed = false;
    globalThis.write = ablo.tasks.create({ id: 'a', data: { title: 'offline' }, wait: 'confirmed' }).then((row) => {
      confirmed = true;
      return row.title;
    });
    await ablo.tasks.create({ id: 'b', data: { title: 'queued' } });
    for (let at = 0; at < 50; at += 1) await turn();
    return { confirmed, titles: ablo.tasks.getAll().map((row) => row.title), pending: ablo.status.pendingWrites };
  });
  assert.deepEqual(during, { confirmed: false, titles: ['offline', 'queued'], pending: 2 });
  assert.deepEqual(await server.rows('Task'), []);
  const after = await page.evaluate(async () => {
    ablo.setOffline(false);
    const title = await write;
    await ablo.waitForFlush(30_000);
    return { title, pending: ablo.status.pendingWrites };
  });
  assert.deepEqual(after, { title: 'offline', pending: 0 });
  assert.deepEqual((await server.rows('Task')).map((row) => row.id).sort(), ['a', 'b']);
  assert.equal(countRequests(page, '/sync/bootstrap'), 1);
});

const untold = unlessIn(['chromium', 'firefox'], 'the browser can be told that it has no network');

test('the network of the browser goes and comes back', { skip: untold }, async (t) => {
  const server = await Server.start(t);
  const context = await openContext(t);
  const page = await openClient(t, server, { context, expected: NO_SERVER });
  await context.setOffline(true);
  await page.evaluate(async () => {
    await until(() => !navigator.onLine);
    for (let at = 0; at < 5; at += 1) await ablo.tasks.create({ id: `n${at}`, data: { title: `${at}` } });
    await ablo.tasks.update({ id: 'n0', data: { title: 'zero' } });
  });
  await context.setOffline(false);
  await page.evaluate(() => ablo.waitForFlush(30_000));
  const titles = (await server.rows('Task')).map((row) => row.title).sort();
  assert.deepEqual(titles, ['1', '2', '3', '4', 'zero']);
  await page.evaluate(() => until(() => ablo.status.connection.state === 'connected'));
});

test('status tells of the way there and back', async (t) => {
  const server = await Server.start(t);
  const page = await openClient(t, server);
  const facts = await page.evaluate(async () => {
    const seen = [];
    const stop = ablo.onStatus(({ connection, pendingWrites }) => seen.push([connection.state, pendingWrites]));
    const first = ablo.status;
    const steady = ablo.status === first;
    await goOffline();
    await until(() => ablo.status.connection.state === 'offline');
    const { syncStatus } = ablo;
    await ablo.tasks.create({ id: 'a', data: { title: 'x' } });
    ablo.setOffline(false);
    await ablo.waitForFlush(30_000);
    await until(() => ablo.status.connection.state === 'connected' && ablo.status.pendingWrites === 0);
    stop();
    const states = seen.map(([state]) => state);
    return {
      steady,
      frozen: Object.isFrozen(first) && Object.isFrozen(first.connection),
      offline: states.includes('offline'),
      pending: seen.some(([state, count]) => state === 'offline' && count === 1),
      last: seen.at(-1),
      sync: [syncStatus.state, syncStatus.offlineSince instanceof Date, ablo.syncStatus.state],
      durability: first.durability,
    };
  });
  assert.deepEqual(facts, {
    steady: true,
    frozen: true,
    offline: true,
    pending: true,
    last: ['connected', 0],
    sync: ['offline', true, 'idle'],
    durability: 'memory',
  });
});
