// The server goes away and comes back: writes made meanwhile, or in flight, arrive once each and in order.

import assert from 'node:assert/strict';
import { countRequests, NO_SERVER, openClient, openPage, Server, test } from './harness.mjs';

/** What the server did after `from`, oldest first. */
async function history(t, server, from) {
  const page = await openPage(t, server);
  const deltas = await page.evaluate((id) => deltasSince(id), from);
  return deltas.map(({ actionType, modelId, data }) => [actionType, modelId, data?.title]);
}

for (const signal of ['SIGTERM', 'SIGKILL']) {
  test(`writes made while the server is gone (${signal}) arrive when it is back`, async (t) => {
    const server = await Server.start(t, { seed: { Task: [{ id: 'old', title: 'old' }] } });
    const page = await openClient(t, server, { expected: NO_SERVER });
    await page.evaluate(() => ablo.tasks.create({ id: 'before', data: { title: 'before' }, wait: 'confirmed' }));
    const start = await page.evaluate(() => ablo.status.lastSyncId);

    await server.stop(signal);
    const shown = await page.evaluate(async () => {
      await until(() => ablo.status.connection.state !== 'connected');
      for (let at = 0; at < 20; at += 1) await ablo.tasks.create({ id: `n${at}`, data: { title: `marker ${at}` } });
      await ablo.tasks.update({ id: 'old', data: { title: 'changed' } });
      await ablo.tasks.delete({ id: 'before' });
      return [ablo.tasks.getCount(), ablo.tasks.get('old').title, ablo.status.pendingWrites > 0];
    });
    assert.deepEqual(shown, [21, 'changed', true]);

    await server.run();
    await page.evaluate(async () => {
      ablo.nudgeReconnect();
      await ablo.waitForFlush(30_000);
    });
    const markers = Array.from({ length: 20 }, (_, at) => ['I', `n${at}`, `marker ${at}`]);
    assert.deepEqual(await history(t, server, start), [...markers, ['U', 'old', 'changed'], ['D', 'before', undefined]]);
    assert.deepEqual(
      (await server.rows('Task')).map((row) => row.title).sort(),
      [...markers.map(([, , title]) => title), 'changed'].sort(),
    );
    assert.equal(countRequests(page, '/sync/bootstrap'), 1, 'resumed without a second snapshot');
    assert.equal(await page.evaluate(() => ablo.status.connection.state), 'connected');
  });
}

test('a server that is killed with commits in flight loses and repeats nothing', async (t) => {
  const server = await Server.start(t, { seed: { Project: [{ id: 'p', name: 'there before' }] } });
  const page = await openClient(t, server, { expected: NO_SERVER });
  const start = await page.evaluate(() => ablo.status.lastSyncId);
  await page.evaluate(() => {
    globalThis.written = 0;
    globalThis.failures = [];
    globalThis.enough = false;
    ablo.onMutationFailure(({ error }) => failures.push(error.code));
    globalThis.writing = (async () => {
      for (; !enough || written < 400; written += 1) {
        await ablo.tasks.create({ id: `n${written}`, data: { title: `marker ${written}` } });
        // Never all at once: some are always on their way when the server dies.
        while (ablo.status.pendingWrites > 20) await turn();
      }
    })();
  });
  for (const at of [60, 160, 260, 330]) {
    await page.evaluate((count) => until(() => written > count && ablo.status.pendingWrites > 0), at);
    await server.stop('SIGKILL');
    await server.run();
    await page.evaluate(async () => {
      ablo.nudgeReconnect();
      await until(() => ablo.status.connection.state === 'connected');
    });
  }
  const [failures, count] = await page.evaluate(async () => {
    enough = true;
    await writing;
    await ablo.waitForFlush(30_000);
    return [failures, written];
  });
  assert.deepEqual(failures, []);
  const expected = Array.from({ length: count }, (_, at) => ['I', `n${at}`, `marker ${at}`]);
  assert.deepEqual(await history(t, server, start), expected);
  assert.equal(await page.evaluate(() => ablo.tasks.getCount()), count);
  assert.equal(countRequests(page, '/sync/bootstrap'), 1, 'resumed without a second snapshot');
});

test('changes by others while a client was away come with the catch-up', async (t) => {
  const seed = { Task: [{ id: 'a', title: 'one' }, { id: 'b', title: 'two' }] };
  const server = await Server.start(t, { seed });
  const page = await openClient(t, server, { expected: NO_SERVER });
  await page.evaluate(async () => {
    await goOffline();
    await until(() => ablo.status.connection.state !== 'connected');
    await ablo.tasks.update({ id: 'a', data: { note: 'mine' } });
  });
  await server.commit({ action: 'update', model: 'tasks', id: 'a', data: { title: 'theirs' } });
  await server.commit({ action: 'delete', model: 'tasks', id: 'b' });
  await server.commit({ action: 'create', model: 'tasks', id: 'c', data: { title: 'new', status: 'todo', rank: 0 } });
  const rows = await page.evaluate(async () => {
    const before = [ablo.tasks.get('a').title, ablo.tasks.get('a').note, ablo.tasks.getCount()];
    ablo.setOffline(false);
    await until(() => ablo.tasks.get('c') && !ablo.tasks.get('b'));
    await ablo.waitForFlush(30_000);
    return { before, after: ablo.tasks.getAll({ orderBy: { title: 'asc' } }).map(({ id, title, note }) => [id, title, note ?? null]) };
  });
  assert.deepEqual(rows, { before: ['one', 'mine', 2], after: [['c', 'new', null], ['a', 'theirs', 'mine']] });
  assert.equal(countRequests(page, '/sync/bootstrap'), 1);
});
