// Chromium, which Playwright drives.

import { readdir, readlink, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { chromium as playwright } from 'playwright-core';

const OPTIONS = {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
    ...['--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
  ],
};

let launched;
const dirs = new WeakMap();

export const chromium = {
  name: 'chromium',

  async newContext(options) {
    launched ??= playwright.launch(OPTIONS);
    return (await launched).newContext(options);
  },

  /** A browser of its own, with what `dir` has from earlier ones. */
  async openProfile(dir) {
    const context = await playwright.launchPersistentContext(dir, OPTIONS);
    dirs.set(context, dir);
    return context;
  },

  /** Ends a browser with a profile as a crash does, and waits until it is gone. */
  async kill(context) {
    const dir = dirs.get(context);
    const gone = new Promise((resolve) => context.once('close', resolve));
    // A link to `<host>-<process>`.
    const lock = await readlink(join(dir, 'SingletonLock'));
    process.kill(Number(lock.slice(lock.lastIndexOf('-') + 1)), 'SIGKILL');
    await gone;
    for (const name of await readdir(dir)) {
      if (name.startsWith('Singleton')) await rm(join(dir, name));
    }
  },

  /** Stops a page; what comes back lets it go on. */
  async freeze(page) {
    const devtools = await page.context().newCDPSession(page);
    const set = (state) => devtools.send('Page.setWebLifecycleState', { state });
    await set('frozen');
    return () => set('active');
  },

  /** What a test does to storage from outside. */
  async outside(page, origin) {
    const devtools = await page.context().newCDPSession(page);
    return {
      setQuota: (quotaSize) =>
        devtools.send('Storage.overrideQuotaForOrigin', { origin, ...(quotaSize && { quotaSize }) }),
      loseConnections: () => devtools.send('Storage.clearDataForOrigin', { origin, storageTypes: 'indexeddb' }),
    };
  },

  async close() {
    await (await launched)?.close();
  },
};
