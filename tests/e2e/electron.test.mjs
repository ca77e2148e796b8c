// The page of an Electron window: the preload script of the package in a world of its own, and a real client beside it.

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { DEMO, NO_SERVER, openClient, openPage, ROOT, Server, test } from './harness.mjs';

const { forwardPowerEvents, preloadPath } = createRequire(import.meta.url)(join(ROOT, 'pkg/electron.cjs'));

/** Long enough that an attempt that comes now was not due. */
const LONG_MS = 2_000;

/**
 * What `webPreferences.preload` does under context isolation: before the page's own scripts, the file runs in an isolated
 * world, with the `require` of the sandbox. Returns the web contents as the main process sees them.
 */
async function preload(page) {
  const devtools = await page.context().newCDPSession(page);
  const worlds = [];
  devtools.on('Runtime.executionContextCreated', ({ context: { name, id } }) => name === 'preload' && worlds.push(id));
  await devtools.send('Page.enable');
  await devtools.send('Runtime.enable');
  await devtools.send('Page.addScriptToEvaluateOnNewDocument', {
    worldName: 'preload',
    source: `{
      const listeners = [];
      const ipcRenderer = { on: (channel, listener) => listeners.push([channel, listener]) };
      globalThis.receive = (channel) => {
        for (const [name, listener] of listeners) if (name === channel) listener({ sender: ipcRenderer });
      };
      const load = (name) => {
        if (name !== 'electron') throw new Error('module not found: ' + name);
        return { ipcRenderer };
      };
      ((require) => {${await readFile(preloadPath, 'utf8')}})(load);
    }`,
  });
  await page.reload();
  const send = async (channel) => {
    const expression = `receive(${JSON.stringify(channel)})`;
    const { exceptionDetails } = await devtools.send('Runtime.evaluate', { expression, contextId: worlds.at(-1) });
    assert.equal(exceptionDetails, undefined);
  };
  const sent = [];
  return { isDestroyed: () => false, send: (channel) => sent.push(send(channel)), arrived: () => Promise.all(sent) };
}

/** The main process with this window. */
function mainProcess(contents) {
  const powerMonitor = new EventEmitter();
  forwardPowerEvents({ powerMonitor, webContents: { getAllWebContents: () => [contents] } });
  return async (...events) => {
    for (const event of events) powerMonitor.emit(event);
    await contents.arrived();
  };
}

test('the page hears an event from the world of the preload script, and gets nothing else from it', async (t) => {
  const server = await Server.start(t);
  const page = await openPage(t, server);
  const tell = mainProcess(await preload(page));
  await page.evaluate(() => {
    globalThis.heard = [];
    addEventListener('ablo:wake', ({ constructor, detail, target }) => {
      heard.push([constructor === Event, detail ?? null, target === window]);
    });
  });
  await tell('resume');
  assert.deepEqual(await page.evaluate(() => heard), [[true, null, true]]);
  await tell('unlock-screen', 'resume');
  assert.equal(await page.evaluate(() => heard.length), 3);
  assert.deepEqual(await page.evaluate(() => [typeof receive, typeof require]), ['undefined', 'undefined']);
});

test('a client that waits tries at once, once, and is connected when the server answers', async (t) => {
  const server = await Server.start(t);
  const page = await openPage(t, server, { expected: NO_SERVER });
  const contents = await preload(page);
  await page.waitForFunction(() => globalThis.isLoaded);
  const tell = mainProcess(contents);
  await page.evaluate(async () => {
    globalThis.ablo = make();
    await ablo.ready();
    await until(() => ablo.status.connection.state === 'connected');
  });
  await server.stop('SIGKILL');
  await page.waitForFunction((least) => {
    const { state, nextAttemptAt } = ablo.status.connection;
    return state === 'waiting' && nextAttemptAt - Date.now() > least;
  }, LONG_MS);
  let attempts = 0;
  let answer;
  const answered = new Promise((resolve) => (answer = resolve));
  await page.route('**/api/**', async (route) => {
    attempts += 1;
    await answered;
    await route.continue();
  });
  const asked = page.waitForRequest('**/api/**');
  await tell('resume', 'unlock-screen', 'resume');
  await asked;
  await page.waitForFunction(() => ablo.status.connection.state === 'probing');
  assert.equal(attempts, 1, 'three wake-ups, one attempt');

  await server.run();
  answer();
  await page.waitForFunction(() => ablo.status.connection.state === 'connected');
});

test('an open connection survives a wake-up', async (t) => {
  const server = await Server.start(t);
  const page = await openClient(t, server);
  const contents = await preload(page);
  await page.waitForFunction(() => globalThis.isLoaded);
  await page.evaluate(async () => {
    globalThis.ablo = make();
    await ablo.ready();
    await until(() => ablo.status.connection.state === 'connected');
  });
  await mainProcess(contents)('resume', 'unlock-screen');
  const state = await page.evaluate(async () => {
    await ablo.tasks.create({ id: 'a', data: { title: 'x' }, wait: 'confirmed' });
    return ablo.status.connection.state;
  });
  assert.equal(state, 'connected');
});

test('the page of the example shows the connection and the wake-ups', async (t) => {
  const args = [...DEMO.args.slice(0, 4), '--static', join(ROOT, 'examples/electron/page')];
  const server = await Server.start(t, { args });
  const ready = () => globalThis.ablo?.status.connection.state === 'connected';
  const page = await openPage(t, server, { path: '/', ready });
  const tell = mainProcess(await preload(page));
  await page.locator('#state', { hasText: 'connected' }).waitFor();
  await tell('resume');
  await page.locator('#wakes', { hasText: 'once' }).waitFor();
  await page.locator('#add').click();
  await page.locator('#projects', { hasText: 'Project 1' }).waitFor();
});
