/**
 * The entries for Electron, and the examples for them, with stand-ins for what Electron gives to a main process and to a
 * preload script. The page behind a preload script is tests/e2e/electron.test.mjs.
 */

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { isAbsolute, join, normalize } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const root = fileURLToPath(new URL('../..', import.meta.url));
const directory = await mkdtemp(join(tmpdir(), 'ablo-electron-'));
after(() => rm(directory, { recursive: true, force: true }));
// As in the package.
await build({
  entryPoints: ['electron', 'electron-preload'].map((name) => join(root, `sdk/src/${name}.ts`)),
  outdir: directory,
  outExtension: { '.js': '.cjs' },
  external: ['electron'],
  bundle: true,
  minify: true,
  format: 'cjs',
  platform: 'node',
});
const main = createRequire(import.meta.url)(join(directory, 'electron.cjs'));
const preload = await readFile(join(directory, 'electron-preload.cjs'), 'utf8');

/** A world with one `window`, in which preload scripts run as Electron runs them in the sandbox. */
class Page {
  ipcRenderer = new EventEmitter();
  window = new EventTarget();
  heard = [];

  constructor() {
    this.window.addEventListener('ablo:wake', (event) => this.heard.push(event));
  }

  run(code) {
    const load = (name) => {
      // In the sandbox there is no other package; a bundler has put ours into the file.
      if (name === 'ablo-wasm/electron/preload') return this.run(preload);
      assert.equal(name, 'electron', `a preload script in the sandbox cannot require ${name}`);
      return { ipcRenderer: this.ipcRenderer };
    };
    new Function('require', 'window', 'module', 'exports', code)(load, this.window, {}, {});
  }
}

/** What a main process gets from `require('electron')`. */
function electron() {
  const all = [];
  class WebContents extends EventEmitter {
    page = new Page();
    #destroyed = false;

    constructor() {
      super();
      all.push(this);
    }
    // What belongs to a window that was closed may still be listed, and every other method of it throws.
    isDestroyed() {
      return this.#destroyed;
    }
    destroy() {
      this.#destroyed = true;
    }
    setWindowOpenHandler() {}
    send(channel, ...data) {
      if (this.#destroyed) throw new TypeError('Object has been destroyed');
      this.page.ipcRenderer.emit(channel, { sender: this.page.ipcRenderer }, ...data);
    }
  }
  const registered = [];
  const files = { [normalize(main.preloadPath)]: preload };
  class BrowserWindow {
    webContents = new WebContents();

    constructor({ webPreferences: { preload: own } = {} } = {}) {
      for (const path of [...registered, own]) {
        if (path !== undefined) this.webContents.page.run(files[normalize(path)]);
      }
    }
    loadURL() {
      return Promise.resolve();
    }
  }
  const registerPreloadScript = ({ type, filePath }) => {
    assert.equal(type, 'frame');
    assert.ok(isAbsolute(filePath));
    registered.push(filePath);
  };
  return {
    app: Object.assign(new EventEmitter(), { whenReady: () => Promise.resolve() }),
    powerMonitor: new EventEmitter(),
    session: { defaultSession: { registerPreloadScript } },
    webContents: { getAllWebContents: () => [...all] },
    BrowserWindow,
  };
}

const open = (shell) => new shell.BrowserWindow({ webPreferences: { preload: main.preloadPath } }).webContents;
const counts = (...contents) => contents.map(({ page }) => page.heard.length);

test('pages hear that the computer resumed and that its screen was unlocked, until it is stopped', () => {
  const shell = electron();
  const first = open(shell);
  const stop = main.forwardPowerEvents(shell);
  shell.powerMonitor.emit('resume');
  assert.deepEqual(counts(first), [1]);
  const later = open(shell);
  shell.powerMonitor.emit('unlock-screen');
  assert.deepEqual(counts(first, later), [2, 1]);
  shell.powerMonitor.emit('suspend');
  shell.powerMonitor.emit('lock-screen');
  stop();
  stop();
  shell.powerMonitor.emit('resume');
  shell.powerMonitor.emit('unlock-screen');
  assert.deepEqual(counts(first, later), [2, 1]);
  assert.deepEqual(shell.powerMonitor.eventNames(), []);
});

test('what was closed, or closes meanwhile, keeps nobody else from hearing', () => {
  const shell = electron();
  const [closed, closing, other] = [open(shell), open(shell), open(shell)];
  main.forwardPowerEvents(shell);
  closed.destroy();
  closing.send = () => {
    throw new Error('Render frame was disposed before WebFrameMain could be accessed');
  };
  shell.powerMonitor.emit('resume');
  assert.deepEqual(counts(closed, closing, other), [0, 0, 1]);
});

test('a page without the preload script gets a message that nobody hears', () => {
  const shell = electron();
  const { webContents } = new shell.BrowserWindow();
  main.forwardPowerEvents(shell);
  shell.powerMonitor.emit('resume');
  assert.deepEqual(counts(webContents), [0]);
});

test('nothing crosses but that something happened', () => {
  const page = new Page();
  page.run(preload);
  const before = Reflect.ownKeys(page.window);
  page.ipcRenderer.emit('ablo:wake', { sender: page.ipcRenderer }, 'secret');
  const [event] = page.heard;
  assert.equal(Object.getPrototypeOf(event), Event.prototype);
  assert.equal(event.detail, undefined);
  assert.deepEqual(Reflect.ownKeys(page.window), before, 'the page gets no function');
});

test('the files are in the package as they are named here', async () => {
  const { exports } = JSON.parse(await readFile(join(root, 'pkg/package.json'), 'utf8'));
  assert.equal(normalize(main.preloadPath), join(directory, 'electron-preload.cjs'));
  assert.equal(exports['./electron/preload'].default, './electron-preload.cjs');
});

/** Examples: those of the guide say which file they are, the others are of the main process. */
async function examples() {
  const read = (path) => readFile(join(root, path), 'utf8');
  const [guide, source] = [await read('docs/electron.md'), await read('sdk/src/electron.ts')];
  const blocks = [...guide.matchAll(/```js\n\/\/ (\S+)\n(.*?)```/gs)];
  const comments = [...source.matchAll(/@example\n(.*?)\*\//gs)];
  return [
    ...blocks.map(([, file, code]) => ({ file, code })),
    ...comments.map(([, text]) => ({ file: 'main.js', code: text.replaceAll(/^ \* ?/gm, '') })),
    { file: 'main.js', code: await read('examples/electron/main.js') },
  ];
}

for (const [index, { file, code }] of (await examples()).entries()) {
  test(`example ${index + 1}, ${file}`, async () => {
    if (file === 'preload.js') {
      const page = new Page();
      page.run(code);
      page.ipcRenderer.emit('ablo:wake', {});
      return assert.equal(page.heard.length, 1);
    }
    const shell = electron();
    const modules = { electron: shell, 'ablo-wasm/electron': main };
    new Function('require', code)((name) => modules[name]);
    await new Promise(setImmediate);
    // Some show one half of it.
    const { powerMonitor, webContents } = shell;
    if (webContents.getAllWebContents().length === 0) open(shell);
    if (powerMonitor.listenerCount('resume') === 0) main.forwardPowerEvents(shell);
    powerMonitor.emit('resume');
    assert.deepEqual(counts(...webContents.getAllWebContents()), [1]);
  });
}

test('there are examples of both', async () => {
  const files = (await examples()).map(({ file }) => file);
  assert.deepEqual(files, ['main.js', 'main.js', 'preload.js', 'preload.js', 'main.js', 'main.js', 'main.js']);
});
