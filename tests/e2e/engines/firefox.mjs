// Firefox over Marionette, the protocol that geckodriver translates WebDriver to: the same commands without another
// program to build, and with access to the browser itself, which is how contexts (containers) are made here.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Context } from './driven.mjs';
import { COMMAND_MS, Group, Queue } from './processes.mjs';

const FIREFOX = process.env.FIREFOX ?? '/usr/bin/firefox-esr';

/** Beyond what Marionette sets by itself for tests: nothing that changes what a page can do. */
const PREFERENCES = {
  'marionette.port': 0,
  'network.dns.localDomains': 'insecure.test',
  // What the user says when a page asks for storage that lasts.
  'dom.storageManager.prompt.testing': true,
  'dom.storageManager.prompt.testing.allow': true,
  // Two tabs of a site are two processes, so that one of them can be stopped.
  'dom.ipc.processCount.webIsolated': 4,
  // Otherwise a navigation may end scripts of the page that it leads to, when they are busy at once.
  'dom.ipc.cancel_content_js_when_navigating': false,
  'app.normandy.enabled': false,
  'browser.startup.page': 0,
  'browser.startup.homepage_override.mstone': 'ignore',
  'browser.aboutwelcome.enabled': false,
  'datareporting.policy.dataSubmissionPolicyBypassNotification': true,
  'services.settings.server': 'data:,#remote-settings-dummy/v1',
  'dom.ipc.processPrelaunch.enabled': false,
  'extensions.systemAddon.update.enabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'toolkit.telemetry.enabled': false,
};

const OPEN = `
  const [container] = arguments;
  const triggeringPrincipal = Services.scriptSecurityManager.getSystemPrincipal();
  const tab = gBrowser.addTab('about:blank', { userContextId: container, triggeringPrincipal });
  const { NavigableManager } = ChromeUtils.importESModule('chrome://remote/content/shared/NavigableManager.sys.mjs');
  return NavigableManager.getIdForBrowser(tab.linkedBrowser);
`;
const PROCESS = `
  const { NavigableManager } = ChromeUtils.importESModule('chrome://remote/content/shared/NavigableManager.sys.mjs');
  const { linkedBrowser } = gBrowser.tabs.find((tab) => {
    return NavigableManager.getIdForBrowser(tab.linkedBrowser) === arguments[0];
  });
  return linkedBrowser.browsingContext.currentWindowGlobal.osPid;
`;
const CLEAR = `
  const [origin, container, done] = arguments;
  const { createContentPrincipalFromOrigin } = Services.scriptSecurityManager;
  const suffix = container === 0 ? '' : '^userContextId=' + container;
  const principal = createContentPrincipalFromOrigin(origin + suffix);
  Services.qms.clearStoragesForPrincipal(principal).callback = () => done(true);
`;

/** The connection: texts of JSON with their length before them. */
class Marionette {
  #socket;
  #received = Buffer.alloc(0);
  #waiting = new Map();
  #last = 0;

  static async connect(port) {
    const marionette = new Marionette();
    const socket = connect(port, '127.0.0.1');
    marionette.#socket = socket;
    socket.on('error', () => undefined);
    const greeting = new Promise((resolve, reject) => {
      marionette.#waiting.set(0, { resolve, reject });
    });
    socket.on('data', (chunk) => marionette.#receive(chunk));
    socket.on('close', () => marionette.#fail());
    await greeting;
    return marionette;
  }

  send(name, parameters = {}) {
    if (this.#socket.destroyed) return Promise.reject(new Error(`Firefox is gone: ${name}`));
    const id = (this.#last += 1);
    const text = JSON.stringify([0, id, name, parameters]);
    this.#socket.write(`${Buffer.byteLength(text)}:${text}`);
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${name}: no answer in ${COMMAND_MS} ms`)), COMMAND_MS);
      const settle = (how) => (value) => {
        clearTimeout(late);
        how(value);
      };
      this.#waiting.set(id, { resolve: settle(resolve), reject: settle(reject) });
    });
  }

  close() {
    this.#socket.destroy();
  }

  #receive(chunk) {
    this.#received = Buffer.concat([this.#received, chunk]);
    for (;;) {
      const colon = this.#received.indexOf(':');
      const end = colon + 1 + Number(this.#received.subarray(0, colon));
      if (colon < 0 || this.#received.length < end) return;
      const message = JSON.parse(this.#received.subarray(colon + 1, end));
      this.#received = this.#received.subarray(end);
      // The first is no answer.
      const [, id, error, result] = Array.isArray(message) ? message : [1, 0, null, message];
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) reject(new Error(`${error.error}: ${error.message}`));
      else resolve(result);
    }
  }

  #fail() {
    for (const { reject } of this.#waiting.values()) reject(new Error('Firefox is gone'));
    this.#waiting.clear();
  }
}

class Session {
  #group;
  #marionette;
  #queue = new Queue();
  #current;

  static async start(profile) {
    const session = new Session();
    const file = join(profile, 'MarionetteActivePort');
    await rm(file, { force: true });
    const line = ([name, value]) => `user_pref("${name}", ${JSON.stringify(value)});\n`;
    await writeFile(join(profile, 'user.js'), Object.entries(PREFERENCES).map(line).join(''));
    const args = ['--headless', '--marionette', '--remote-allow-system-access', '--no-remote', '--profile', profile];
    session.#group = new Group(FIREFOX, [...args, 'about:blank'], { env: { MOZ_CRASHREPORTER_DISABLE: '1' } });
    const port = await session.#group.until(async () => Number(await readFile(file, 'utf8')) || undefined);
    session.#marionette = await Marionette.connect(port);
    await session.#send('WebDriver:NewSession', {});
    return session;
  }

  open({ container }) {
    return this.#chrome(OPEN, container);
  }

  navigate(handle, url) {
    return this.#at(handle, 0, () => this.#send('WebDriver:Navigate', { url }));
  }

  reload(handle) {
    return this.#at(handle, 0, () => this.#send('WebDriver:Refresh'));
  }

  /** The value of an expression, in the page's own world. */
  run(handle, frame, source) {
    return this.#at(handle, frame, async () => {
      const parameters = { script: 'return window.eval(arguments[0])', args: [source], newSandbox: false };
      return (await this.#send('WebDriver:ExecuteScript', parameters)).value;
    });
  }

  close(handle) {
    return this.#at(handle, 0, () => {
      this.#current = undefined;
      return this.#send('WebDriver:CloseWindow');
    });
  }

  setOffline(isOffline) {
    return this.#chrome('Services.io.offline = arguments[0]', isOffline);
  }

  /** Deletes what an origin has stored; its open databases are closed by force. */
  clear(origin, { container }) {
    return this.#chrome(CLEAR, origin, container);
  }

  /** The process of a tab; others of the same site may be in it too. */
  processOf(handle) {
    return this.#chrome(PROCESS, handle);
  }

  async kill() {
    this.#marionette.close();
    await this.#group.kill();
  }

  #chrome(script, ...args) {
    return this.#queue.next(async () => {
      await this.#send('Marionette:SetContext', { value: 'chrome' });
      try {
        const command = script.includes('done') ? 'WebDriver:ExecuteAsyncScript' : 'WebDriver:ExecuteScript';
        return (await this.#send(command, { script, args })).value;
      } finally {
        await this.#send('Marionette:SetContext', { value: 'content' });
      }
    });
  }

  #at(handle, frame, work) {
    return this.#queue.next(async () => {
      if (this.#current !== handle) {
        await this.#send('WebDriver:SwitchToWindow', { handle, focus: false });
        this.#current = handle;
      }
      if (frame === 0) return work();
      await this.#send('WebDriver:SwitchToFrame', { id: frame - 1 });
      try {
        return await work();
      } finally {
        await this.#send('WebDriver:SwitchToFrame', { id: null });
      }
    });
  }

  #send(name, parameters) {
    return this.#marionette.send(name, parameters);
  }
}

let shared;
let containers = 0;

async function launch() {
  const profile = await mkdtemp(join(tmpdir(), 'ablo-firefox-'));
  const session = await Session.start(profile);
  return { session, profile };
}

export const firefox = {
  name: 'firefox',

  /** Containers of one browser: they share nothing that a page can see. */
  async newContext() {
    shared ??= launch();
    const { session } = await shared;
    const container = (containers += 1);
    return new Context(session, { options: { container } });
  },

  /** A browser of its own, with what `dir` has from earlier ones. Addresses of pages stay what they were. */
  async openProfile(dir, earlier) {
    const session = await Session.start(dir);
    const end = () => session.kill();
    const context = earlier ?? new Context(session, { options: { container: 0 }, end });
    context.resume(session, end);
    return context;
  },

  async kill(context) {
    await context.end();
    context.abandon();
  },

  /** Stops a page; what comes back lets it go on. */
  async freeze(page, others) {
    const stopped = await page.process();
    for (const other of others) assert.notEqual(await other.process(), stopped, 'they are frozen together');
    process.kill(stopped, 'SIGSTOP');
    return async () => process.kill(stopped, 'SIGCONT');
  },

  /** What a test does to storage from outside. */
  async outside(page, origin) {
    const context = page.context();
    return { loseConnections: async () => context.clear(await context.visible(origin)) };
  },

  async close() {
    if (shared === undefined) return;
    const { session, profile } = await shared;
    await session.kill();
    await rm(profile, { recursive: true, force: true });
  },
};
