// Pages and contexts of a browser that speaks WebDriver, with those words of Playwright that the tests use: so a test
// is the same in every engine.

import { EventEmitter } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { Front, toPattern } from './front.mjs';

/** More than any test waits for a condition within the page. */
const EVALUATE_MS = 120_000;
const WAIT_MS = 30_000;
const POLL_MS_MAX = 16;
const LOADED = "typeof __agent === 'object' && document.readyState === 'complete'";

/** `undefined` as `agent.js` writes it. */
function decode(text) {
  const restore = (value) => {
    if (typeof value !== 'object' || value === null) return value;
    if (value.$undefined) return undefined;
    if (Array.isArray(value)) return value.map(restore);
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, restore(part)]));
  };
  return restore(JSON.parse(text));
}

async function until(condition, otherwise) {
  const end = Date.now() + WAIT_MS;
  for (let wait = 1; !(await condition()); wait = Math.min(wait * 2, POLL_MS_MAX)) {
    if (Date.now() > end) throw new Error(`${otherwise}, after ${WAIT_MS} ms`);
    await pause(wait);
  }
}

/** Pages that share storage. `session` drives the browser, `options` are for its windows. */
export class Context {
  scripts = [];
  isOffline = false;
  #session;
  #options;
  /** Ends its browser, where that is its own. */
  end;
  #routes = [];
  #fronts = new Map();
  #pages = new Map();
  #tabs = 0;

  constructor(session, { options, end }) {
    this.#session = session;
    this.#options = options;
    this.end = end;
  }

  async newPage() {
    const handle = await this.#session.open(this.#options);
    const number = (this.#tabs += 1);
    const page = new Page(this, this.#session, handle, number);
    this.#pages.set(number, page);
    page.once('close', () => this.#pages.delete(number));
    return page;
  }

  async route(glob, handler) {
    this.#routes.unshift({ glob, pattern: toPattern(glob), handler });
  }

  async unroute(glob) {
    this.#routes = this.#routes.filter((route) => route.glob !== glob);
  }

  async addInitScript(script) {
    this.scripts.push(`(${script})();`);
  }

  /** There is none to ask for. */
  async grantPermissions() {}

  async setOffline(isOffline) {
    this.isOffline = isOffline;
    if (isOffline) for (const front of this.#fronts.values()) (await front).cut();
    await this.#session.setOffline(isOffline);
  }

  /** Deletes what an origin has stored, where the session can. */
  clear(origin) {
    return this.#session.clear(origin, this.#options);
  }

  /** Goes on in another process of the same browser, after the end of the one before. */
  resume(session, end) {
    this.#session = session;
    this.end = end;
  }

  /** The browser is gone. */
  abandon() {
    for (const page of this.#pages.values()) page.abandon();
  }

  /** The address at which pages of this context see `origin`. */
  async visible(origin) {
    if (!this.#fronts.has(origin)) this.#fronts.set(origin, Front.start(origin, this));
    return (await this.#fronts.get(origin)).origin;
  }

  find(url) {
    return this.#routes.find(({ pattern }) => pattern.test(url))?.handler;
  }

  saw(path, from) {
    const tab = /[?&]tab=(\d+)/.exec(from ?? '');
    this.#pages.get(Number(tab?.[1]))?.emit('request', { url: () => `http://front${path}` });
  }

  /** Which page it was of, nobody tells: all of them. */
  sawSocket(path) {
    for (const page of this.#pages.values()) page.emit('websocket', { url: () => `ws://front${path}` });
  }

  async close() {
    for (const page of this.#pages.values()) await (this.end ? page.settle() : page.close());
    this.abandon();
    await this.end?.();
    for (const front of this.#fronts.values()) await (await front).close();
  }
}

class Page extends EventEmitter {
  #context;
  #session;
  #handle;
  #number;
  #origin;
  #exposed = new Map();
  #pending = new Map();
  #next = 0;
  #pumping;
  #isClosed = false;

  constructor(context, session, handle, number) {
    super();
    this.#context = context;
    this.#session = session;
    this.#handle = handle;
    this.#number = number;
  }

  context() {
    return this.#context;
  }

  /** The origin as the page sees it. */
  url() {
    return this.#origin;
  }

  async goto(address) {
    const { protocol, origin, pathname, search } = new URL(address);
    if (protocol === 'about:') {
      await this.settle();
      this.#origin = undefined;
      await this.#session.navigate(this.#handle, address);
      return;
    }
    this.#origin = await this.#context.visible(origin);
    const query = `${search}${search === '' ? '?' : '&'}tab=${this.#number}`;
    await this.#load(() => this.#session.navigate(this.#handle, `${this.#origin}${pathname}${query}`));
  }

  async reload() {
    await this.settle();
    await this.#load(() => this.#session.reload(this.#handle));
  }

  async #load(start) {
    this.#fail(new Error('the page was loaded anew'));
    await start();
    // A new window has an empty page first, and drivers take the end of that for the end of what was asked for.
    // A script in a page that is on its way out is ended, which Firefox calls NS_ERROR_OUT_OF_MEMORY.
    const isLoaded = () => this.#session.run(this.#handle, 0, LOADED).catch(() => false);
    await until(isLoaded, `${this.#origin} is not loaded`);
    for (const name of this.#exposed.keys()) await this.#tell('expose', name);
  }

  /** Runs a function in the page, and waits for what it promises. */
  evaluate(work, argument) {
    return this.#evaluate(0, work, argument);
  }

  /** The page itself and the frames in it, as they are numbered. */
  frames() {
    return Array.from({ length: 2 }, (_, frame) => ({
      evaluate: (work, argument) => this.#evaluate(frame, work, argument),
      url: () => `frame ${frame} of ${this.#origin}`,
    }));
  }

  async #evaluate(frame, work, argument) {
    if (this.#isClosed) throw new Error('the page is closed');
    const id = (this.#next += 1);
    const end = Date.now() + EVALUATE_MS;
    const result = new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, end, frame, source: String(work) });
    });
    try {
      await this.#tellFrame(frame, 'start', id, String(work), argument);
    } catch (error) {
      this.#pending.get(id)?.reject(error);
      this.#pending.delete(id);
    }
    void this.#pump();
    return result;
  }

  async waitForFunction(condition) {
    await until(() => this.evaluate(`async () => Boolean(await (${condition})())`), `it is not true that ${condition}`);
  }

  async exposeFunction(name, work) {
    this.#exposed.set(name, work);
    await this.#tell('expose', name);
  }

  /** For all pages of the context: no test needs less. */
  async route(glob, handler) {
    await this.#context.route(glob, handler);
  }

  async unroute(glob) {
    await this.#context.unroute(glob);
  }

  /** Its number in the system, where the session knows it. */
  process() {
    return this.#session.processOf(this.#handle);
  }

  /** Hears what the page has to tell, errors before all. */
  async settle() {
    if (this.#isClosed || this.#origin === undefined) return;
    await this.#hear(0).catch(() => undefined);
  }

  async close() {
    if (this.#isClosed) return;
    await this.settle();
    this.abandon();
    await this.#session.close(this.#handle);
  }

  /** The browser is gone. */
  abandon() {
    this.#isClosed = true;
    this.#fail(new Error('the page was closed'));
    this.emit('close');
  }

  #fail(error) {
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  /** Asks for results while some are awaited. */
  async #pump() {
    if (this.#pumping) return;
    this.#pumping = true;
    let wait = 1;
    while (this.#pending.size > 0) {
      try {
        let heard = false;
        for (const frame of new Set([...this.#pending.values()].map((each) => each.frame))) {
          heard = (await this.#hear(frame)) || heard;
        }
        wait = heard ? 1 : Math.min(wait * 2, POLL_MS_MAX);
      } catch (error) {
        this.#fail(error);
      }
      for (const [id, { end, reject, source }] of this.#pending) {
        if (Date.now() < end) continue;
        this.#pending.delete(id);
        reject(new Error(`no result after ${EVALUATE_MS} ms of ${source}`));
      }
      await pause(wait);
    }
    this.#pumping = false;
  }

  async #hear(frame) {
    const text = await this.#session.run(this.#handle, frame, '__agent.poll()');
    const { results, calls, errors } = JSON.parse(text);
    for (const [kind, message] of errors) {
      if (kind === 'pageerror') this.emit('pageerror', { stack: message });
      else this.emit('console', { type: () => kind, text: () => message });
    }
    for (const [id, failure, value] of results) {
      const waiting = this.#pending.get(id);
      this.#pending.delete(id);
      if (failure) waiting?.reject(Object.assign(new Error(failure.message), failure));
      else waiting?.resolve(decode(value));
    }
    for (const [id, name, args] of calls) void this.#call(id, name, args);
    return results.length + calls.length > 0;
  }

  async #call(id, name, args) {
    const work = async () => this.#exposed.get(name)(...args);
    const answer = await work().then((value) => [null, value], (error) => [String(error), null]);
    // Nobody waits for the answer when the page is gone.
    await this.#tell('answer', id, ...answer).catch(() => undefined);
  }

  #tell(method, ...args) {
    return this.#tellFrame(0, method, ...args);
  }

  #tellFrame(frame, method, ...args) {
    const list = args.map((arg) => JSON.stringify(arg) ?? 'undefined').join();
    return this.#session.run(this.#handle, frame, `__agent.${method}(${list})`);
  }
}
