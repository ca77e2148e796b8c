// Encryption of what a client stores: with a key of the device and with one of the application.

import assert from 'node:assert/strict';
import { countLoads, NO_SERVER, openContext, openPage, Server, test } from './harness.mjs';

const SECRET = 'the plan of which nobody may know';

/** A page whose client, `window.ablo`, stores encrypted. `filling` makes a key of the application. */
async function openClient(t, server, context, { filling } = {}) {
  const page = await openPage(t, server, { context, expected: NO_SERVER });
  await start(page, filling);
  return page;
}

async function start(page, filling) {
  await page.evaluate(async (fill) => {
    const raw = new Uint8Array(32).fill(fill);
    const own = () => crypto.subtle.importKey('raw', raw, 'AES-GCM', false, ['encrypt', 'decrypt']);
    const key = fill === undefined ? 'device' : await own();
    globalThis.ablo = make({ persistence: 'indexeddb', encryption: { key } });
    await ablo.ready();
  }, filling);
}

/** Everything that this browser stores for the page, as text. */
function everythingStored(page) {
  return page.evaluate(async () => {
    const answer = (request) =>
      new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    const texts = [];
    for (const { name } of await indexedDB.databases()) {
      const connection = await answer(indexedDB.open(name));
      for (const store of connection.objectStoreNames) {
        const objects = connection.transaction(store).objectStore(store);
        const [keys, values] = [objects.getAllKeys(), objects.getAll()];
        texts.push(name, ...(await answer(keys)));
        for (const value of await answer(values)) {
          if (value instanceof Uint8Array) texts.push(new TextDecoder('latin1').decode(value));
        }
      }
      connection.close();
    }
    return texts.join('\n');
  });
}

test('rows and unsent writes come back after a reload, and are stored encrypted', async (t) => {
  const server = await Server.start(t);
  const context = await openContext(t);
  const page = await openClient(t, server, context);
  await page.evaluate(async (title) => {
    await ablo.tasks.create({ id: 'sent', data: { title }, wait: 'confirmed' });
    await goOffline();
    await ablo.tasks.create({ id: 'waiting', data: { title }, wait: 'queued' });
  }, SECRET);
  const stored = await everythingStored(page);
  assert.ok(stored.length > 200, stored);
  // Words that neither a hash nor chance makes.
  for (const word of [SECRET, 'acme', 'waiting', '"title"']) assert.ok(!stored.includes(word), `"${word}" can be read`);
  await page.route('**/api/**', (route) => route.abort());
  await page.reload();
  await page.waitForFunction(() => globalThis.isLoaded);
  await start(page);
  const titles = await page.evaluate(() => ablo.tasks.getAll().map(({ id, title }) => [id, title]));
  assert.deepEqual(titles.sort(), [['sent', SECRET], ['waiting', SECRET]]);
});

test('another key opens nothing, destroys no unsent write, and the client works', async (t) => {
  const server = await Server.start(t);
  const context = await openContext(t);
  const first = await openClient(t, server, context, { filling: 1 });
  await first.evaluate(async (title) => {
    await goOffline();
    await ablo.tasks.create({ id: 'waiting', data: { title }, wait: 'queued' });
  }, SECRET);
  await first.close();
  const second = await openClient(t, server, context, { filling: 2 });
  const facts = await second.evaluate(async () => {
    await ablo.tasks.create({ id: 'other', data: { title: 'x' }, wait: 'confirmed' });
    const { durability, storage } = ablo.status;
    return { rows: ablo.tasks.getAll().map(({ id }) => id), durability, problem: storage.problem?.message };
  });
  const problem = 'the key opens none of the records';
  assert.deepEqual(facts, { rows: ['other'], durability: 'memory', problem });
  await second.close();
  const third = await openClient(t, server, context, { filling: 1 });
  await third.evaluate(() => until(() => ablo.status.pendingWrites === 0 && ablo.tasks.get('waiting')));
});

test('what encrypts is loaded by clients that encrypt; where it cannot be, the client works and what is stored stays', async (t) => {
  const server = await Server.start(t);
  const context = await openContext(t);
  const plain = await openPage(t, server, { context });
  await plain.evaluate(async () => {
    globalThis.ablo = make({ persistence: 'indexeddb' });
    await ablo.ready();
    await until(() => ablo.status.connection.state === 'connected');
    await ablo.purge();
  });
  assert.equal(await countLoads(plain, '/encryption.js'), 0);
  const first = await openClient(t, server, context);
  assert.equal(await countLoads(first, '/encryption.js'), 1);
  await first.evaluate(async (title) => {
    await goOffline();
    await ablo.tasks.create({ id: 'waiting', data: { title }, wait: 'queued' });
  }, SECRET);
  await first.close();
  const second = await openPage(t, server, { context, expected: NO_SERVER });
  await second.route('**/encryption.js', (route) => route.abort());
  await start(second);
  const facts = await second.evaluate(() => [ablo.status.durability, ablo.status.storage.problem?.code]);
  assert.deepEqual(facts, ['memory', 'storage_failed']);
  await second.unroute('**/encryption.js');
  await second.close();
  const third = await openClient(t, server, context);
  await third.evaluate(() => until(() => ablo.status.pendingWrites === 0 && ablo.tasks.get('waiting')));
});
