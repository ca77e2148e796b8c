// Rows and writes on the device: they outlive the tab, the browser and the server's absence, and are sent once each.

import assert from 'node:assert/strict';
import { atEnd, countRequests, engine, NO_SERVER, openClient, openContext, openPage, test } from './harness.mjs';
import { Profile, Server, servePages, unlessIn } from './harness.mjs';

const STORED = { persistence: 'indexeddb' };
const SEED = { Task: ['a', 'b', 'c'].map((id) => ({ id, title: `seed ${id}`, status: 'todo', rank: 0 })) };

const openStored = (t, server, context, options = {}) =>
  openClient(t, server, { context, options: { ...STORED, ...options }, expected: NO_SERVER });

/** A page without a client, to look at what others have stored. */
const openBare = (t, server, context) => openPage(t, server, { context, expected: NO_SERVER });

/** What the server did after `from`, oldest first, with the rows' titles as they are now. */
async function history(t, server, from) {
  const page = await openPage(t, server);
  const deltas = await page.evaluate((id) => deltasSince(id), from);
  return deltas.map(({ actionType, modelId, data }) => [actionType, modelId, data?.title]);
}

/** Waits until rows are on the disk. */
const cached = (page) => page.evaluate(() => until(async () => (await storedKeys('cache')).includes('meta')));

const offline = (page) => page.evaluate(async () => {
  await goOffline();
  return until(() => ablo.status.connection.state === 'offline');
});

const titles = (page) =>
  page.evaluate(() => Object.fromEntries(ablo.tasks.getAll().map(({ id, title }) => [id, title])));

const status = (page) => page.evaluate(() => ({ ...ablo.status, problem: ablo.status.storage.problem?.code ?? null }));

/** Waits until everything is confirmed, and nothing is left in the journal. */
const flushed = (page) => page.evaluate(async () => {
  await ablo.waitForFlush(60_000);
  await until(async () => (await storedKeys('journal')).length === 0);
});

test('after a crash rows are there without a server', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const profile = await Profile.open(t, server);
  let page = await openStored(t, server, profile.context);
  await cached(page);
  await server.commit({ action: 'update', model: 'tasks', id: 'a', data: { title: 'changed' } });
  await page.evaluate(() => until(() => ablo.tasks.get('a').title === 'changed'));
  await page.evaluate(() => until(async () => (await storedKeys('cache')).some((key) => key.includes('/g/'))));
  const before = (await status(page)).lastSyncId;
  await profile.kill();
  await server.stop();

  await profile.run(server);
  page = await openStored(t, server, profile.context);
  assert.deepEqual(await titles(page), { a: 'changed', b: 'seed b', c: 'seed c' });
  const { durability, participantId, lastSyncId, connection } = await status(page);
  assert.deepEqual([durability, participantId, lastSyncId], ['indexeddb', 'ada', before]);
  assert.notEqual(connection.state, 'connected');

  await server.run();
  await page.evaluate(() => ablo.nudgeReconnect());
  await server.commit({ action: 'update', model: 'tasks', id: 'b', data: { title: 'later' } });
  await page.evaluate(() => until(() => ablo.tasks.get('b').title === 'later'));
  assert.equal(countRequests(page, '/sync/bootstrap'), 0, 'it goes on from where it was');
});

test('a thousand writes made offline survive a crash and arrive once each, in order', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const profile = await Profile.open(t, server);
  let page = await openStored(t, server, profile.context);
  await cached(page);
  const start = (await status(page)).lastSyncId;
  await server.stop();
  await page.evaluate(async () => {
    const create = (at) => ablo.tasks.create({ id: `n${at}`, data: { title: `marker ${at}` } });
    await Promise.all(Array.from({ length: 950 }, (_, at) => create(at)));
    for (let at = 950; at < 1000; at += 1) await create(at);
  });
  await profile.kill();

  await profile.run(server);
  page = await openStored(t, server, profile.context);
  const shown = await page.evaluate(() => [ablo.tasks.getCount(), ablo.tasks.get('n999').title]);
  assert.deepEqual([...shown, (await status(page)).pendingWrites], [1003, 'marker 999', 1000]);
  const second = await openStored(t, server, profile.context);
  await second.evaluate(async () => {
    await ablo.tasks.update({ id: 'n999', data: { rank: 7 } });
    await ablo.tasks.create({ id: 'm', data: { title: 'more' } });
    await ablo.tasks.delete({ id: 'b' });
  });
  await page.evaluate(() => until(() => ablo.tasks.get('n999').rank === 7 && !ablo.tasks.get('b')));

  await server.run();
  await page.evaluate(() => ablo.nudgeReconnect());
  await second.evaluate(() => ablo.nudgeReconnect());
  await flushed(second);
  await flushed(page);
  const markers = Array.from({ length: 1000 }, (_, at) => ['I', `n${at}`, `marker ${at}`]);
  const more = [['U', 'n999', 'marker 999'], ['I', 'm', 'more'], ['D', 'b', undefined]];
  assert.deepEqual(await history(t, server, start), [...markers, ...more]);
  for (const tab of [page, second]) assert.equal(await tab.evaluate(() => ablo.tasks.getCount()), 1003);
  assert.deepEqual((await status(page)).problem, null);
});

test('a browser that is killed while it sends loses and repeats nothing', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const profile = await Profile.open(t, server);
  const safe = [];
  let start;
  let next = 0;
  for (let round = 0; round < 4; round += 1) {
    const page = await openStored(t, server, profile.context);
    start ??= (await status(page)).lastSyncId;
    await page.exposeFunction('tell', (at) => safe.push(at));
    const gone = page.evaluate(async (first) => {
      for (let at = first; ; at += 1) {
        void ablo.tasks.create({ id: `n${at}`, data: { title: `marker ${at}` } }).then(() => tell(at));
        if (at % 7 === 0) await turn();
        while (ablo.status.pendingWrites > 60) await turn();
      }
    }, next).catch(() => undefined);
    const busy = (enough) => until(() => ablo.status.lastSyncId > enough && ablo.status.pendingWrites > 20);
    await page.evaluate(busy, round * 50 + 20);
    await profile.kill();
    await gone;
    next = (round + 1) * 100_000;
    await profile.run(server);
  }
  const page = await openStored(t, server, profile.context);
  await flushed(page);
  const created = await history(t, server, start);
  const numbers = created.map(([, id]) => Number(id.slice(1)));
  assert.ok(created.every(([action]) => action === 'I'), 'only creates');
  assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b), 'once each and in order');
  assert.ok(safe.length > 100, `${safe.length} writes were reported`);
  assert.deepEqual(safe.filter((at) => !numbers.includes(at)), [], 'what was reported safe has arrived');
});

test('tabs share what is written offline, and one of them sends it', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  const tabs = [await openStored(t, server, context), await openStored(t, server, context)];
  const start = (await status(tabs[0])).lastSyncId;
  for (const tab of tabs) await offline(tab);
  await tabs[0].evaluate(() => ablo.tasks.create({ id: 'n', data: { title: 'first tab' } }));
  await tabs[1].evaluate(() => until(() => ablo.tasks.get('n')?.title === 'first tab'));
  await tabs[1].evaluate(() => {
    globalThis.confirmed = ablo.tasks.update({ id: 'n', data: { title: 'second tab' }, wait: 'confirmed' });
  });
  await tabs[0].evaluate(() => until(() => ablo.tasks.get('n').title === 'second tab'));
  assert.deepEqual((await server.rows('Task')).length, 3);
  for (const tab of tabs) await tab.evaluate(() => ablo.setOffline(false));
  assert.equal(await tabs[1].evaluate(async () => (await confirmed).title), 'second tab');
  for (const tab of tabs) await flushed(tab);
  assert.deepEqual(await history(t, server, start), [['I', 'n', 'second tab'], ['U', 'n', 'second tab']]);
});

test('when the tab that sends is closed another takes over, with what that had not sent', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  const first = await openStored(t, server, context);
  const second = await openStored(t, server, context);
  for (const tab of [first, second]) await offline(tab);
  await first.evaluate(() => ablo.tasks.create({ id: 'n', data: { title: 'of the first' } }));
  await first.close();
  const ms = await second.evaluate(async () => {
    ablo.setOffline(false);
    await until(() => ablo.status.connection.state === 'connected');
    const start = performance.now();
    await ablo.tasks.update({ id: 'a', data: { title: 'of the second' }, wait: 'confirmed' });
    return Math.round(performance.now() - start);
  });
  t.diagnostic(`taken over after ${ms} ms`);
  await flushed(second);
  assert.deepEqual((await server.rows('Task')).map(({ id, title }) => [id, title]).sort(), [
    ...[['a', 'of the second'], ['b', 'seed b'], ['c', 'seed c'], ['n', 'of the first']],
  ]);
});

test('a tab without a connection leaves the sending to one that has it', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  const first = await openStored(t, server, context);
  const second = await openStored(t, server, context);
  await offline(first);
  await first.evaluate(() => {
    globalThis.confirmed = ablo.tasks.create({ id: 'n', data: { title: 'of the first' }, wait: 'confirmed' });
  });
  // It is not before what the second writes until the second knows of it.
  await second.evaluate(() => until(() => ablo.tasks.get('n')));
  const update = () => ablo.tasks.update({ id: 'a', data: { title: 'of the second' }, wait: 'confirmed' });
  assert.equal((await second.evaluate(update)).title, 'of the second');
  assert.deepEqual((await server.rows('Task')).map(({ id }) => id).sort(), ['a', 'b', 'c', 'n']);
  await first.evaluate(async () => {
    ablo.setOffline(false);
    await confirmed;
  });
  for (const tab of [first, second]) await flushed(tab);
});

const freezable = unlessIn(['chromium', 'firefox'], 'tabs can be frozen');

test('a tab that is frozen loses its turn to send', { skip: freezable }, async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  const first = await openStored(t, server, context);
  const second = await openStored(t, server, context);
  const thaw = await engine.freeze(first, [second]);
  atEnd(t, thaw);
  const title = await second.evaluate(async () => {
    return (await ablo.tasks.update({ id: 'a', data: { title: 'of the second' }, wait: 'confirmed' })).title;
  });
  assert.equal(title, 'of the second');
  await thaw();
  await first.evaluate(() => until(() => ablo.tasks.get('a').title === 'of the second'));
  await first.evaluate(() => ablo.tasks.update({ id: 'b', data: { title: 'of the first' }, wait: 'confirmed' }));
  for (const tab of [first, second]) await flushed(tab);
});

test('ten tabs write at once', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  const tabs = await Promise.all(Array.from({ length: 10 }, () => openStored(t, server, context)));
  const start = (await status(tabs[0])).lastSyncId;
  await Promise.all(tabs.map((tab, no) => tab.evaluate(async (name) => {
    for (let at = 0; at < 5; at += 1) await ablo.tasks.create({ id: `${name}-${at}`, data: { title: `${at}` } });
    await ablo.waitForFlush(60_000);
  }, no)));
  for (const tab of tabs) {
    await tab.evaluate(() => until(() => ablo.tasks.getCount() === 53 && ablo.status.pendingWrites === 0));
  }
  const created = await history(t, server, start);
  assert.equal(created.length, 50);
  for (let no = 0; no < 10; no += 1) {
    const own = created.filter(([, id]) => id.startsWith(`${no}-`)).map(([, , title]) => title);
    assert.deepEqual(own, ['0', '1', '2', '3', '4'], `tab ${no}: once each and in order`);
  }
});

/** A client of an application that is ahead of the server: its schema has one more status. */
async function openAhead(t, server, context) {
  const page = await openBare(t, server, context);
  await page.evaluate(async (options) => {
    const status = sdk.field.enum(['todo', 'blocked']);
    const tasks = sdk.model({ title: sdk.field.string(), status, rank: sdk.field.number() }, {}, { typename: 'Task' });
    globalThis.ablo = make({ ...options, schema: sdk.defineSchema({ tasks }) });
    await ablo.ready();
  }, STORED);
  return page;
}

test('a refused write is kept with its reason until it is edited or discarded', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  let page = await openAhead(t, server, context);
  await offline(page);
  const told = await page.evaluate(async () => {
    const events = [];
    ablo.on('write:rejected', ({ transaction, error }) => events.push([transaction.modelId, error.code]));
    await ablo.tasks.update({ id: 'a', data: { title: 'mine', status: 'blocked' } });
    await ablo.tasks.update({ id: 'b', data: { status: 'blocked' } });
    await ablo.tasks.update({ id: 'c', data: { title: 'undisputed' } });
    ablo.setOffline(false);
    await until(() => ablo.status.rejectedWrites === 2 && ablo.status.pendingWrites === 0);
    return events;
  });
  assert.deepEqual(told.map(([id]) => id), ['a', 'b']);
  const [[, code]] = told;
  assert.deepEqual(await titles(page), { a: 'seed a', b: 'seed b', c: 'undisputed' });
  await page.evaluate(() => until(async () => (await storedKeys('journal')).length === 2));
  await page.close();

  page = await openAhead(t, server, context);
  const entries = await page.evaluate(() => ablo.outbox.list({ stage: 'rejected' }).map((entry) => [
    ...[entry.operations[0].id, entry.operations[0].data.status, entry.error.code, entry.currentValues.title],
    ...[entry.createdAt instanceof Date, entry.attempts > 0],
  ]));
  // Made in the same millisecond, perhaps.
  assert.deepEqual(entries.sort(), ['a', 'b'].map((id) => [id, 'blocked', code, `seed ${id}`, true, true]));
  const second = await openAhead(t, server, context);
  const counts = await page.evaluate(async () => {
    const counts = [];
    const stop = ablo.outbox.onChange((list) => counts.push(list.filter(({ stage }) => stage === 'rejected').length));
    const of = (id) => ablo.outbox.list({ stage: 'rejected' }).find(({ operations }) => operations[0].id === id);
    const [first, last] = [of('a'), of('b')];
    await ablo.outbox.edit(first.id, { status: 'todo' });
    await ablo.outbox.discard(last.id);
    await ablo.waitForFlush(30_000);
    await until(() => counts.at(-1) === 0);
    stop();
    return counts;
  });
  assert.ok(counts.includes(1), `one after the other: ${counts}`);
  await second.evaluate(() => until(() => ablo.status.rejectedWrites === 0 && ablo.tasks.get('a').title === 'mine'));
  await flushed(page);
  assert.deepEqual((await server.rows('Task')).map(({ title }) => title).sort(), ['mine', 'seed b', 'undisputed']);
});

test('purge leaves nothing behind', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  const page = await openStored(t, server, context);
  await cached(page);
  await offline(page);
  await page.evaluate(() => ablo.tasks.create({ id: 'n', data: { title: 'unsent' } }));
  const left = await page.evaluate(async () => {
    await ablo.purge();
    return (await indexedDB.databases()).map(({ name }) => name);
  });
  assert.deepEqual(left, []);
  assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length]), [0, 0]);
  const again = await openStored(t, server, context);
  assert.deepEqual(Object.keys(await titles(again)), ['a', 'b', 'c']);
});

test('when the login ends what is stored goes before anybody is told', { timeout: 60_000 }, async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const page = await openBare(t, server);
  page.expected.push(/status of 401/);
  await page.route('**/api/auth/check', (route) => {
    return route.fulfill({ status: 401, headers: { 'X-Auth-Failure': 'apikey_expired' } });
  });
  const facts = await page.evaluate(async (options) => {
    let token = 'ek_test_ada';
    globalThis.ablo = make({ ...options, apiKey: async () => token });
    await ablo.ready();
    await until(async () => (await storedKeys('cache')).includes('meta'));
    const told = new Promise((resolve) => {
      ablo.on('session:ended', () => resolve(Promise.all([indexedDB.databases(), ablo.tasks.getCount()])));
    });
    token = null;
    ablo.setOffline(true);
    await until(() => ablo.status.connection.state === 'offline');
    ablo.setOffline(false);
    return told;
  }, STORED);
  assert.deepEqual(facts, [[], 0]);
});

test('a client that is disposed makes way for the next one of the page, two at once share', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const page = await openStored(t, server, await openContext(t));
  await cached(page);
  const facts = await page.evaluate(async (options) => {
    await ablo.dispose();
    const [one, two] = [make(options), make(options)];
    await Promise.all([one.ready(), two.ready()]);
    const write = two.tasks.update({ id: 'a', data: { title: 'of the second' }, wait: 'confirmed' });
    await until(() => one.tasks.get('a').title === 'of the second');
    await write;
    await one.dispose();
    await two.tasks.update({ id: 'a', data: { title: 'alone' }, wait: 'confirmed' });
    return [two.status.durability, two.tasks.get('a').title];
  }, STORED);
  assert.deepEqual(facts, ['indexeddb', 'alone']);
});

test('what a newer version has written is left alone', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  let page = await openStored(t, server, context);
  await cached(page);
  await page.close();
  const bare = await openBare(t, server, context);
  await bare.evaluate(() => store('cache', 'meta', '{"v":99}'));
  page = await openStored(t, server, context);
  await page.evaluate(() => ablo.tasks.update({ id: 'a', data: { title: 'mine' }, wait: 'confirmed' }));
  await flushed(page);
  const { problem, durability } = await status(page);
  assert.deepEqual([problem, durability], ['storage_newer_version', 'indexeddb']);
  const metas = await page.evaluate(async () => {
    const requests = await eachDatabase('readonly', (transaction) => transaction.objectStore('cache').get('meta'));
    return requests.map(({ result }) => new TextDecoder().decode(result));
  });
  assert.ok(metas.every((text) => text === '{"v":99}'), metas.join());
});

test('purge in one tab ends the session of the others, and nothing stays', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  const page = await openStored(t, server, context);
  const other = await openStored(t, server, context);
  await cached(page);
  await other.evaluate(() => {
    globalThis.ended = new Promise((resolve) => ablo.on('session:ended', ({ error }) => resolve(error.code)));
  });
  await page.evaluate(() => ablo.purge());
  assert.equal(await other.evaluate(() => ended), 'session_expired');
  assert.equal(await other.evaluate(() => ablo.tasks.getCount()), 0);
  await other.evaluate(() => until(async () => (await indexedDB.databases()).length === 0));
});

test('a purge before anything was loaded deletes all the same', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  const page = await openStored(t, server, context);
  await cached(page);
  await page.close();
  const bare = await openBare(t, server, context);
  await bare.evaluate((options) => make(options).purge(), STORED);
  assert.deepEqual(await bare.evaluate(() => indexedDB.databases()), []);
});

test('another login in the same browser sees and sends nothing of the first', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  await servePages(context, server);
  const ada = await openStored(t, server, context);
  await cached(ada);
  await offline(ada);
  await ada.evaluate(() => ablo.tasks.create({ id: 'n', data: { title: "ada's" } }));
  await ada.close();

  const grace = await openStored(t, server, context, { apiKey: 'ek_test_grace' });
  assert.deepEqual(Object.keys(await titles(grace)), ['a', 'b', 'c']);
  assert.deepEqual(await grace.evaluate(() => [ablo.status.pendingWrites, ablo.outbox.list().length]), [0, 0]);
  await grace.evaluate(() => ablo.tasks.create({ id: 'g', data: { title: "grace's" }, wait: 'confirmed' }));
  await grace.evaluate(() => ablo.purge());
  assert.deepEqual((await server.rows('Task')).map(({ id }) => id).sort(), ['a', 'b', 'c', 'g']);

  // Without the server there is nobody to say who a third key belongs to: no rows at all.
  await server.stop();
  const unknown = await openBare(t, server, context);
  const seen = await unknown.evaluate(async (options) => {
    globalThis.ablo = make({ ...options, apiKey: 'ek_test_somebody' });
    ablo.ready().catch(() => undefined);
    await until(() => ['waiting', 'offline'].includes(ablo.status.connection.state));
    return [ablo.tasks.getCount(), ablo.outbox.list().length, ablo.status.participantId];
  }, STORED);
  assert.deepEqual(seen, [0, 0, null]);
  await unknown.close();

  await server.run();
  const back = await openStored(t, server, context);
  await flushed(back);
  assert.deepEqual((await server.rows('Task')).map(({ id }) => id).sort(), ['a', 'b', 'c', 'g', 'n']);
});

for (const [what, code, script] of [
  ['there is no IndexedDB', 'storage_unavailable', () => {
    Object.defineProperty(globalThis, 'indexedDB', { value: undefined });
  }],
  ['opening is forbidden', 'storage_unavailable', () => {
    IDBFactory.prototype.open = () => {
      throw new DOMException('not here', 'SecurityError');
    };
  }],
  ['opening fails', 'storage_failed', () => {
    IDBFactory.prototype.open = () => {
      const request = {};
      queueMicrotask(() => {
        request.error = new DOMException('broken', 'UnknownError');
        request.onerror?.();
      });
      return request;
    };
  }],
  ['there are no locks', 'storage_unavailable', () => {
    Object.defineProperty(navigator, 'locks', { value: undefined });
  }],
]) {
  test(`where ${what} the client works in memory and says so`, async (t) => {
    const server = await Server.start(t, { seed: SEED });
    const context = await openContext(t);
    await context.addInitScript(script);
    const page = await openBare(t, server, context);
    const facts = await page.evaluate(async (options) => {
      globalThis.ablo = make(options);
      const problems = [];
      ablo.on('storage:problem', ({ error }) => problems.push(error.code));
      await ablo.ready();
      const row = await ablo.tasks.create({ id: 'n', data: { title: 'new' }, wait: 'confirmed' });
      const { durability, storage } = ablo.status;
      return { problems, title: row.title, durability, sync: ablo.syncStatus.durability, code: storage.problem?.code };
    }, STORED);
    assert.deepEqual(facts, { problems: [code], title: 'new', durability: 'memory', sync: 'memory', code });
  });
}

/** Makes `put` fail for the stores that `globalThis.full` lists. */
function fillable() {
  const { put } = IDBObjectStore.prototype;
  IDBObjectStore.prototype.put = function (...args) {
    if (globalThis.full?.includes(this.name)) throw new DOMException('full', 'QuotaExceededError');
    return put.apply(this, args);
  };
}

test('when space runs out the cache goes first, and the journal stays', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  await servePages(context, server);
  await context.addInitScript(fillable);
  let page = await openStored(t, server, context);
  await cached(page);
  await page.evaluate(() => (globalThis.full = ['cache']));
  await server.commit({ action: 'update', model: 'tasks', id: 'a', data: { title: 'theirs' } });
  await page.evaluate(() => until(() => ablo.status.storage.problem?.code === 'storage_quota_exceeded'));
  assert.equal((await status(page)).durability, 'indexeddb');
  await page.evaluate(() => until(async () => !(await storedKeys('cache')).includes('meta')));
  await offline(page);
  await page.evaluate(() => ablo.tasks.update({ id: 'b', data: { title: 'mine' } }));
  assert.equal(await page.evaluate(async () => (await storedKeys('journal')).length), 1);
  await page.close();
  page = await openStored(t, server, context);
  await flushed(page);
  assert.deepEqual(await titles(page), { a: 'theirs', b: 'mine', c: 'seed c' });
});

test('when there is no space at all writes go on in memory', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  await context.addInitScript(fillable);
  const page = await openStored(t, server, context);
  await cached(page);
  await offline(page);
  const facts = await page.evaluate(async () => {
    const problems = [];
    ablo.on('storage:problem', ({ error }) => problems.push(error.code));
    globalThis.full = ['cache', 'journal'];
    await ablo.tasks.update({ id: 'a', data: { title: 'mine' } });
    return { durability: ablo.status.durability, problems: [...new Set(problems)], title: ablo.tasks.get('a').title };
  });
  assert.deepEqual(facts, { durability: 'memory', problems: ['storage_quota_exceeded'], title: 'mine' });
  await page.evaluate(async () => {
    ablo.setOffline(false);
    await ablo.waitForFlush(30_000);
  });
  assert.equal((await server.rows('Task')).find(({ id }) => id === 'a').title, 'mine');
});

test('a record that cannot be read is set aside, and the rest works', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  await servePages(context, server);
  const page = await openStored(t, server, context);
  await cached(page);
  await offline(page);
  await page.evaluate(() => ablo.tasks.update({ id: 'a', data: { title: 'mine' } }));
  await page.close();
  const bare = await openBare(t, server, context);
  await bare.evaluate(() => store('journal', 'j/00000000000000aa', '{"v":1,"operations":'));
  await server.stop();
  const again = await openStored(t, server, context);
  assert.deepEqual(await titles(again), { a: 'mine', b: 'seed b', c: 'seed c' });
  assert.equal((await status(again)).problem, 'storage_record_unreadable');
  assert.equal((await status(again)).durability, 'indexeddb');
  assert.deepEqual(await again.evaluate(async () => (await ablo.storage.export({ records: true })).records), {
    'j/00000000000000aa': '{"v":1,"operations":',
  });
  await server.run();
  await again.evaluate(async () => {
    ablo.nudgeReconnect();
    await ablo.waitForFlush(30_000);
  });
  assert.equal((await server.rows('Task')).find(({ id }) => id === 'a').title, 'mine');
  const kept = await again.evaluate(() => until(async () => {
    const keys = (await storedKeys('journal')).filter((key) => key.startsWith('j/'));
    return keys.every((key) => key === 'j/00000000000000aa') && keys.length;
  }));
  assert.equal(kept, 2, 'one in each database, as they were');
});

test('rows that cannot be read are loaded again', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  let page = await openStored(t, server, context);
  await cached(page);
  await page.close();
  const bare = await openBare(t, server, context);
  await bare.evaluate(async () => {
    for (const key of await storedKeys('cache')) if (key.includes('/c/')) await store('cache', key, 'nonsense');
  });
  page = await openStored(t, server, context);
  assert.deepEqual(Object.keys(await titles(page)), ['a', 'b', 'c']);
  assert.equal((await status(page)).problem, 'storage_record_unreadable');
  assert.equal(countRequests(page, '/sync/bootstrap'), 1);
});

test('a database that is deleted under a running client is made anew, with what is unsent', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const context = await openContext(t);
  await servePages(context, server);
  let page = await openStored(t, server, context);
  await cached(page);
  await offline(page);
  await page.evaluate(() => ablo.tasks.update({ id: 'a', data: { title: 'before' }, idempotencyKey: 'k' }));
  const bare = await openBare(t, server, context);
  await bare.evaluate(async () => {
    for (const { name } of await indexedDB.databases()) {
      await new Promise((resolve, reject) => {
        const request = indexedDB.deleteDatabase(name);
        request.onsuccess = resolve;
        request.onerror = reject;
      });
    }
  });
  await page.evaluate(() => ablo.tasks.update({ id: 'b', data: { title: 'after' } }));
  assert.equal((await status(page)).durability, 'indexeddb');
  await page.close();
  page = await openStored(t, server, context);
  await flushed(page);
  assert.deepEqual(await titles(page), { a: 'before', b: 'after', c: 'seed c' });
});
