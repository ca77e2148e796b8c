// Writes that say what they were based on: each mode, each kind of premise, each way to the server.

import assert from 'node:assert/strict';
import { openClient, openPage, Server, test } from './harness.mjs';

const MODES = ['reject', 'overwrite', 'notify'];

/**
 * What the writer has looked at. `change` is what somebody else does to that row meanwhile, and `guard` says of the write
 * what it was based on; `isStale` whether the one touches the other.
 */
const PREMISES = {
  'the field that is written': {
    row: 'own',
    change: { title: 'theirs' },
    guard: (readAt, onStale) => ({ readAt, onStale }),
    isStale: true,
  },
  'another field of the row': {
    row: 'own',
    change: { rank: 7 },
    guard: (readAt, onStale) => ({ readAt, onStale }),
    isStale: false,
  },
  'a row that was read': {
    row: 'read',
    change: { rank: 7 },
    guard: (readAt, onStale, id) => ({ reads: [{ model: 'tasks', id, readAt, onStale }] }),
    isStale: true,
  },
  'a field that was read': {
    row: 'read',
    change: { title: 'theirs' },
    guard: (readAt, onStale, id) => ({ reads: [{ model: 'tasks', id, readAt, fields: ['title'], onStale }] }),
    isStale: true,
  },
  'another field than was read': {
    row: 'read',
    change: { rank: 7 },
    guard: (readAt, onStale, id) => ({ reads: [{ model: 'tasks', id, readAt, fields: ['title'], onStale }] }),
    isStale: false,
  },
  'a group that was read': {
    row: 'read',
    change: { rank: 7 },
    guard: (readAt, onStale, id) => ({ reads: [{ group: `tasks:${id}`, readAt, onStale }] }),
    isStale: true,
  },
};

/** One case for each mode, premise, and whether somebody else writes meanwhile; with rows of its own. */
const CASES = MODES.flatMap((mode) =>
  Object.entries(PREMISES).flatMap(([name, premise]) =>
    [true, false].map((isChanged) => ({ name: `${mode}: ${name}${isChanged ? ' has changed' : ''}`, mode, isChanged, ...premise })),
  ),
).map((one, at) => ({ ...one, ids: { own: `own${at}`, read: `read${at}` } }));

/** What becomes of a write. */
const fateOf = ({ isChanged, isStale, mode }) => (isChanged && isStale && mode !== 'overwrite' ? mode : 'written');

const seed = () => ({
  Task: CASES.flatMap(({ ids }) => Object.values(ids).map((id) => ({ id, title: 'before', rank: 0 }))),
});

/** Somebody else changes what the writers have looked at. */
async function change(server) {
  const operations = CASES.filter(({ isChanged }) => isChanged).map(({ row, ids, change }) => {
    return { action: 'update', model: 'tasks', id: ids[row], data: change };
  });
  return server.commit(...operations);
}

/** What the server has, and what the writer was told. */
async function check(server, told) {
  const titles = new Map((await server.rows('Task')).map((row) => [row.id, row.title]));
  for (const one of CASES) {
    const { name, ids, row, mode } = one;
    const fate = fateOf(one);
    const theirs = one.isChanged && row === 'own' ? (one.change.title ?? 'before') : 'before';
    assert.equal(titles.get(ids.own), fate === 'written' ? 'mine' : theirs, name);
    assert.deepEqual(told.get(ids.own), fate === 'written' ? 'written' : fate === 'reject' ? 'stale_context' : 'held', `${mode}, ${name}`);
  }
}

/** The writes, as options of `update`. */
const writes = (readAt) => CASES.map(({ ids, row, guard, mode }) => ({ id: ids.own, ...guard(readAt, mode, ids[row]) }));

/** In the page: writes, and tells what each came to. Held writes reject, and are notified. */
const write = (page, list) =>
  page.evaluate(async (all) => {
    const held = [];
    ablo.on('conflict:notified', ({ notifications }) => held.push(...notifications));
    const told = await Promise.all(
      all.map(async (options) => {
        const { code, message } = await outcome(ablo.tasks.update({ ...options, data: { title: 'mine' }, wait: 'confirmed' }));
        if (code === undefined) return [options.id, 'written'];
        return [options.id, message.includes('held') ? 'held' : code];
      }),
    );
    return { told, held, shown: all.map(({ id }) => [id, ablo.tasks.get(id).title]), letters: ablo.outbox.list({ stage: 'rejected' }).length };
  }, list);

/** Nothing that was not written is shown, and whoever was held back learns why. */
async function checkPage(server, { told, held, shown }) {
  await check(server, new Map(told));
  const titles = new Map((await server.rows('Task')).map((row) => [row.id, row.title]));
  for (const [id, title] of shown) assert.equal(title, titles.get(id), id);
  const notified = CASES.filter((one) => fateOf(one) === 'notify');
  assert.equal(held.length, notified.length);
  for (const { ids, row, guard } of notified) {
    const isGroup = guard(1, 'notify', '').reads?.[0].group !== undefined;
    const notice = held.find(({ id }) => id === (isGroup ? `tasks:${ids[row]}` : ids[row]));
    assert.ok(notice, ids[row]);
    assert.deepEqual(notice.writtenBy, { kind: 'agent', id: 'bot' });
    assert.equal(notice.group, isGroup ? `tasks:${ids[row]}` : undefined);
  }
}

test('on a socket', async (t) => {
  const server = await Server.start(t, { seed: seed() });
  const page = await openClient(t, server);
  const readAt = await page.evaluate(() => ablo.status.lastSyncId);
  const { lastSyncId } = await change(server);
  await page.evaluate((id) => until(() => ablo.status.lastSyncId >= id), lastSyncId);
  await checkPage(server, await write(page, writes(readAt)));
});

test('offline, sent from the journal by a page that was opened later', async (t) => {
  const server = await Server.start(t, { seed: seed() });
  const options = { persistence: 'indexeddb' };
  const page = await openClient(t, server, { options });
  const readAt = await page.evaluate(() => ablo.status.lastSyncId);
  await page.evaluate(async (all) => {
    await goOffline();
    await Promise.all(all.map((options) => ablo.tasks.update({ ...options, data: { title: 'mine' } })));
    await ablo.dispose();
  }, writes(readAt));
  await change(server);
  await page.reload();
  await page.waitForFunction(() => globalThis.isLoaded);
  const seen = await page.evaluate(async (given) => {
    globalThis.ablo = make(given);
    const held = [];
    const told = [];
    ablo.on('conflict:notified', ({ notifications }) => held.push(...notifications));
    ablo.on('write:rejected', ({ transaction, error }) => told.push([transaction.modelId, error.message.includes('held') ? 'held' : error.code]));
    await ablo.ready();
    await ablo.waitForFlush(30_000);
    const shown = ablo.tasks.getAll().map(({ id, title }) => [id, title]);
    const refused = ablo.outbox.list({ stage: 'rejected' }).length;
    return { held, told, shown, refused };
  }, options);
  const told = new Map(CASES.map(({ ids }) => [ids.own, 'written']));
  for (const [id, code] of seen.told) told.set(id, code);
  await checkPage(server, { ...seen, told: [...told] });
  assert.equal(seen.refused, CASES.filter((one) => fateOf(one) !== 'written').length, 'kept for the application to decide');
});

test('over HTTP', async (t) => {
  const server = await Server.start(t, { seed: seed() });
  const page = await openPage(t, server, { expected: [/status of 409/] });
  const { lastSyncId } = await server.commit({ action: 'update', model: 'tasks', id: 'own0', data: { note: 'the head' } });
  await change(server);
  const told = await page.evaluate(async (all) => {
    const send = async ({ id, reads, ...guard }) => {
      const clientTxId = crypto.randomUUID();
      const operations = [{ action: 'update', model: 'tasks', id, data: { title: 'mine' }, ...guard }];
      const response = await fetch('/api/v1/commits', {
        method: 'POST',
        headers: { authorization: 'Bearer ek_test_ada', 'content-type': 'application/json', 'idempotency-key': clientTxId },
        body: JSON.stringify({ clientTxId, idempotencyKey: clientTxId, operations, reads }),
      });
      const { error, code, notifications } = await response.json();
      return [id, response.ok ? (notifications ? 'held' : 'written') : (error?.code ?? code)];
    };
    return Promise.all(all.map(send));
  }, writes(lastSyncId));
  await check(server, new Map(told));
});
