// The world of `cases.mjs` in memory.

import { recorded } from './cases.mjs';
import { KIND, MemoryBrowser, MemoryStorage } from './memory.mjs';

export function memoryWorld() {
  const browser = new MemoryBrowser();
  const until = async (condition) => {
    while (!condition()) await new Promise((resolve) => setImmediate(resolve));
  };
  return {
    transactions: browser.transactions,
    facilities: ['storage'],
    tab: (encryption) => recorded((events) => new MemoryStorage(browser, events, encryption)),
    key: () => Symbol('key'),
    upgrade: (name, version) => browser.upgrade(name, version),
    hold(name) {
      browser.hold(name);
      return () => browser.letGo(name);
    },
    block(name) {
      browser.failNext('open', KIND.BLOCKED);
      return () => browser.databases.delete(name);
    },
    async passTime() {
      await until(() => browser.waiting > 0);
      browser.passTime();
    },
    abortNext: (request) => browser.failNext(request, KIND.ABORTED),
    setQuota: (bytes = Infinity) => (browser.quota = bytes),
    loseConnections: () => browser.closeConnections(),
    without() {
      browser.available = false;
      return () => (browser.available = true);
    },
    spoil: (name, store, key) => browser.spoil(name, store, key),
    queued: (name, count) => until(() => (browser.locks.get(name)?.length ?? 0) === count + 1),
    joined: (name) => until(() => browser.channels.has(name)),
  };
}
