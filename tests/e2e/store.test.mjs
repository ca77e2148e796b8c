// The SDK's storage on the browser's own IndexedDB, locks and channels: the cases that the one in memory passes too,
// and what only a browser can show.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { build } from 'esbuild';
import { cases } from '../store/cases.mjs';
import { engine, openContext, openPage, ROOT, test, unlessIn } from './harness.mjs';

// Nobody listens there: requests are answered by the test. Of localhost, browsers believe that it is secure.
const ORIGIN = 'http://localhost:9';

const bundle = await build({
  entryPoints: [join(ROOT, 'tests/store/page.mjs')],
  bundle: true,
  write: false,
  format: 'iife',
  target: 'es2022',
  logLevel: 'warning',
});
const head = '<!doctype html><meta charset="utf-8" /><link rel="icon" href="data:," />';
const body = `${head}<script>${bundle.outputFiles[0].text}</script>`;

/** A browser of somebody, with storage of its own. */
async function openProfile(t) {
  const context = await openContext(t);
  await context.route(`${ORIGIN}/**`, (route) => route.fulfill({ contentType: 'text/html', body }));
  return context;
}

async function openTab(t, context) {
  return openPage(t, ORIGIN, { path: '/', context, ready: () => globalThis.runCase });
}

/** What only the outside can do to a page, as far as this browser lets it. */
async function provideOutside(page) {
  const outside = await engine.outside(page, ORIGIN);
  await page.exposeFunction('outside', async (what, ...args) => void (await outside[what](...args)));
  return outside;
}

/** Needs a browser that has not been asked for space yet, as it remembers the answer for a while. */
const FULL_DISK = 'a full disk is told, and leaves nothing';
const endless = unlessIn(['chromium'], 'space can be made short');

test(FULL_DISK, { skip: endless }, async (t) => {
  const page = await openTab(t, await openProfile(t));
  await provideOutside(page);
  await page.evaluate((given) => runCase(given), FULL_DISK);
});

const LOST = 'a connection that the browser gives up is told';
const faithful = unlessIn(['chromium', 'firefox'], 'connections can be taken away');

test('cases', async (t) => {
  const page = await openTab(t, await openProfile(t));
  const { loseConnections } = await provideOutside(page);
  for (const name of Object.keys(cases).filter((other) => other !== FULL_DISK)) {
    await t.test(name, { timeout: 30_000, skip: name === LOST && faithful }, async () => {
      // Ends whatever a case has left open; then nothing is stored any more.
      await page.reload();
      await (loseConnections?.() ?? page.evaluate(() => deleteAll()));
      await page.evaluate((given) => runCase(given), name);
    });
  }
});

/** Two tabs of one profile. */
async function openTabs(t) {
  const context = await openProfile(t);
  return Promise.all([openTab(t, context), openTab(t, context)]);
}

/** Makes the page's storage, as `window.mine`, with its database open. */
async function openStorage(page, encryption) {
  await page.evaluate(async (given) => {
    globalThis.mine = tab(given);
    await mine.storage.open(1, 'a');
  }, encryption);
}

const put = (page, key, ...value) =>
  page.evaluate(([name, bytes]) => mine.storage.write(1, [[0, name, Uint8Array.from(bytes)]], true), [key, value]);

/** `['a', [1, 2], …]`: keys and values. */
const read = (page) =>
  page.evaluate(async () => {
    const records = await mine.storage.read(1, 0, '', 'z');
    return records.map((part) => (typeof part === 'string' ? part : [...part]));
  });

const next = (page) => page.evaluate(() => mine.next());

test('records outlive the tab that wrote them', async (t) => {
  const [first, second] = await openTabs(t);
  await openStorage(first);
  await put(first, 'a', 1, 2);
  await first.close();
  await openStorage(second);
  assert.deepEqual(await read(second), ['a', [1, 2]]);
  await second.reload();
  await openStorage(second);
  assert.deepEqual(await read(second), ['a', [1, 2]]);
});

test('a tab that deletes the database does not wait for another', async (t) => {
  const [first, second] = await openTabs(t);
  await openStorage(first);
  await openStorage(second);
  await put(first, 'a', 1);
  await first.evaluate(() => mine.storage.delete(1));
  assert.deepEqual(await next(second), ['storeClosed', 1]);
  await openStorage(second);
  assert.deepEqual(await read(second), []);
});

test('newer code in another tab gets the database', async (t) => {
  const [first, second] = await openTabs(t);
  await openStorage(first);
  await second.evaluate(() => upgrade('a', 99));
  assert.deepEqual(await next(first), ['storeClosed', 1]);
  const failure = await first.evaluate(() => mine.storage.open(1, 'a').catch(({ kind }) => kind));
  assert.equal(failure, 2);
});

test('the lock goes to another tab when the one that has it is closed', async (t) => {
  const [first, second] = await openTabs(t);
  const ask = (page) => page.evaluate(() => (globalThis.mine = tab()).storage.lock('l', false));
  await ask(first);
  assert.deepEqual(await next(first), ['lock', true]);
  await ask(second);
  await second.evaluate(() => queued('l', 1));
  assert.deepEqual(await second.evaluate(() => mine.told), []);
  await first.close();
  assert.deepEqual(await next(second), ['lock', true]);
});

test('the lock can be stolen by another tab, and waited for again', async (t) => {
  const [first, second] = await openTabs(t);
  await first.evaluate(() => (globalThis.mine = tab()).storage.lock('l', false));
  assert.deepEqual(await next(first), ['lock', true]);
  await second.evaluate(() => (globalThis.mine = tab()).storage.lock('l', true));
  assert.deepEqual(await next(second), ['lock', true]);
  assert.deepEqual(await next(first), ['lock', false]);
  await first.evaluate(() => mine.storage.lock('l', false));
  await first.evaluate(() => queued('l', 1));
  await second.close();
  assert.deepEqual(await next(first), ['lock', true]);
});

test('tabs hear each other, and texts only', async (t) => {
  const [first, second] = await openTabs(t);
  await first.evaluate(async () => {
    globalThis.mine = tab();
    mine.storage.channel('x');
    await joined('x');
  });
  await second.evaluate(async () => {
    const stranger = new BroadcastChannel(await hashName('x'));
    for (const noise of [{ text: 'no' }, 1, null, new Uint8Array(3)]) stranger.postMessage(noise);
    stranger.postMessage('from a stranger');
    globalThis.mine = tab();
    mine.storage.channel('x');
    mine.storage.post('from the second');
  });
  assert.deepEqual(await next(first), ['posted', 'from a stranger']);
  assert.deepEqual(await next(first), ['posted', 'from the second']);
  await first.evaluate(() => mine.storage.post('from the first'));
  assert.deepEqual(await next(second), ['posted', 'from the first']);
});

test('names tell nothing', async (t) => {
  const page = await openTab(t, await openProfile(t));
  const facts = await page.evaluate(async () => {
    globalThis.mine = tab();
    await mine.storage.open(0, 'https://sync.example.com ada');
    mine.storage.lock('https://sync.example.com ada', false);
    await mine.next();
    const databases = await indexedDB.databases();
    const { held } = await navigator.locks.query();
    return { databases: databases.map(({ name, version }) => [name, version]), locks: held.map(({ name }) => name) };
  });
  const name = `ablo-${createHash('sha256').update('https://sync.example.com ada').digest('hex')}`;
  assert.deepEqual(facts, { databases: [[name, 1]], locks: [name] });
});

test('what is stored with encryption tells nothing but its key', async (t) => {
  const page = await openTab(t, await openProfile(t));
  const facts = await page.evaluate(async () => {
    const encryption = { key: await makeKey() };
    globalThis.mine = tab(encryption);
    await mine.storage.open(1, 'a');
    const value = new TextEncoder().encode('{"title":"secret"}');
    const keep = () => mine.storage.write(1, [[0, 'a', value], [0, 'b', value]], true);
    await keep();
    const [a, b] = [await raw('a', 0, 'a'), await raw('a', 0, 'b')];
    await keep();
    const again = await raw('a', 0, 'a');
    // A value under the key of another record is no use.
    await raw('a', 0, 'b', () => again);
    const read = await mine.storage.read(1, 0, '', 'z');
    const texts = [a, b, again].map((bytes) => new TextDecoder().decode(bytes));
    return {
      readable: texts.some((text) => text.includes('secret')),
      different: new Set([...texts.map((text) => text.slice(0, 6)), ...texts]).size,
      overhead: a.length - value.length,
      swapped: [read[1].length === value.length, read[3].length],
    };
  });
  assert.deepEqual(facts, { readable: false, different: 6, overhead: 28, swapped: [true, 0] });
});

test('the key of the device is one for all tabs, and cannot be read', async (t) => {
  const [first, second] = await openTabs(t);
  await Promise.all([first, second].map((page) => openStorage(page, { key: 'device' })));
  await put(first, 'a', 1);
  await put(second, 'b', 2);
  for (const page of [first, second]) assert.deepEqual(await read(page), ['a', [1], 'b', [2]]);
  const facts = await first.evaluate(async () => {
    const connection = await new Promise((resolve) => {
      const request = indexedDB.open('ablo-keys');
      request.onsuccess = () => resolve(request.result);
    });
    const keys = await new Promise((resolve) => {
      const request = connection.transaction('keys').objectStore('keys').getAll();
      request.onsuccess = () => resolve(request.result);
    });
    return keys.map(({ extractable, algorithm }) => [extractable, algorithm.name, algorithm.length]);
  });
  assert.deepEqual(facts, [[false, 'AES-GCM', 256]]);
});

const kindOfOpen = (place) =>
  place.evaluate(() => tab().storage.open(1, 'a').then(() => 'opened', (failure) => failure.kind));

const local = unlessIn(['chromium', 'firefox'], 'names can be made up');

test('a page that is not secure has no storage', { skip: local }, async (t) => {
  const context = await openProfile(t);
  await context.route('http://insecure.test/**', (route) => route.fulfill({ contentType: 'text/html', body }));
  const page = await openPage(t, 'http://insecure.test', { path: '/', context, ready: () => globalThis.runCase });
  assert.equal(await kindOfOpen(page), 0);
});

test('a page without an origin has no storage', async (t) => {
  const page = await openTab(t, await openProfile(t));
  await page.evaluate(() => {
    const frame = document.createElement('iframe');
    frame.sandbox = 'allow-scripts';
    frame.src = '/frame';
    document.body.append(frame);
    return new Promise((resolve) => (frame.onload = resolve));
  });
  assert.equal(await kindOfOpen(page.frames()[1]), 0);
});
