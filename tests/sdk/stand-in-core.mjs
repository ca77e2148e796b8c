/**
 * A stand-in for the compiled core, to put the SDK's own bookkeeping to the test: it keeps rows in a table, answers at
 * once or when told to, and can be made to fail. It knows nothing of synchronisation; the real core is tested in the
 * browser.
 */

import { Ask, Numbers, Perform, Text } from '../../sdk/src/boundary.ts';

export const page = { loads: 0, cores: [], failLoad: undefined, crash: undefined };

export default async function init({ module_or_path }) {
  page.loads += 1;
  page.source = module_or_path;
  if (page.failLoad) throw page.failLoad;
}

export function onPanic(callback) {
  page.crash = callback;
}

export class Core {
  constructor(config, random, shell) {
    this.config = JSON.parse(config);
    this.random = random;
    this.shell = shell;
    this.tasks = new Map();
    this.given = [];
    this.host = this.makeHost();
    this.storage = this.makeStorage();
    this.keys = Object.keys(this.config.schema.models);
    this.tables = this.keys.map(() => []);
    this.views = new Map();
    this.calls = [];
    this.held = undefined;
    this.refuse = {};
    this.sync = { state: 'idle', progress: 100, pendingChanges: 0, isSessionError: false };
    this.organizationId = 'o1';
    this.entries = [];
    this.problem = undefined;
    page.cores.push(this);
  }

  // What a test does in place of the server.

  /** Puts rows in without anybody having asked. Tells the host unless `quiet`. */
  put(model, rows, { quiet = false } = {}) {
    const table = this.tables[model];
    const touched = rows.map((row) => {
      const at = table.findIndex((known) => known?.row.id === row.id);
      const slot = at < 0 ? table.length : at;
      const before = table[slot];
      table[slot] = { row: { ...before?.row, ...row }, seen: false };
      return before?.seen ? slot * 2 : undefined;
    });
    if (!quiet)
      this.tell(
        model,
        touched.filter((slot) => slot !== undefined),
      );
  }

  remove(model, id) {
    const slot = this.tables[model].findIndex((entry) => entry?.row.id === id);
    const { seen } = this.tables[model][slot];
    this.tables[model][slot] = undefined;
    this.tell(model, seen ? [slot * 2 + 1] : []);
  }

  tell(model, slots) {
    this.host.changed(model, Uint32Array.from(slots));
    const ids = [...this.views].filter(([, view]) => view.model === model).map(([id]) => id);
    if (ids.length > 0) this.host.views(Uint32Array.from(ids));
  }

  /** Holds answers back until the result is called. */
  hold() {
    this.held = [];
    return () => {
      for (const answer of this.held.splice(0)) answer();
      this.held = undefined;
    };
  }

  // What the SDK calls.

  answer(ticket, value, method) {
    this.calls.push(method);
    if (this.refuse[method]) {
      if (this.refuse[method].thrown) throw JSON.stringify(this.refuse[method].thrown);
      const { error } = this.refuse[method];
      return this.after(() => this.host.settle(ticket, JSON.stringify(error), undefined));
    }
    return this.after(() => this.host.settle(ticket, undefined, value?.()));
  }

  after(answer) {
    if (this.held) this.held.push(answer);
    else answer();
  }

  /** What the core asks of the page, by name. */
  makeHost() {
    const { shell } = this;
    return {
      changed: (model, slots) => shell.changed(model, slots),
      views: (ids) => shell.views(ids),
      settle: (ticket, error, value) => shell.perform(Perform.Settle, ticket, 0, error, value),
      event: (name, payload) => shell.perform(Perform.Event, 0, 0, name, payload),
      status: () => shell.perform(Perform.Status, 0, 0),
      credential: () => this.request(Perform.Credential, 0),
      timer: (ms) => shell.perform(Perform.Timer, 0, ms),
      turn: () => shell.perform(Perform.Turn, 0, 0),
    };
  }

  /** What the core asks of the storage and of the other tabs, by name. */
  makeStorage() {
    const { shell } = this;
    return {
      open: (database, name) => this.request(Perform.OpenStore, database, name),
      read: (database, store, from, to) => this.request(Perform.ReadStore, database * 2 + store, from, to),
      delete: (database) => this.request(Perform.DeleteStore, database),
      close: () => shell.perform(Perform.CloseStores, 0, 0),
      lock: (name, steal) => shell.perform(Perform.Lock, 0, Number(steal), name),
      channel: (name) => shell.perform(Perform.Channel, 0, 0, name),
      post: (text) => shell.perform(Perform.Post, 0, 0, text),
    };
  }

  /** Asks the page for something and waits for the answer. */
  request(kind, number, ...texts) {
    const task = this.tasks.size + 1;
    return new Promise((resolve, reject) => {
      this.tasks.set(task, { resolve, reject });
      this.shell.perform(kind, task, number, ...texts);
    });
  }

  give(key, bytes) {
    this.given.push(key, bytes);
  }

  ask(kind, ticket, number, first, second, third) {
    const flag = number > 0;
    const { resolve, reject } = this.tasks.get(number) ?? {};
    const calls = {
      [Ask.Start]: () => this.start(ticket),
      [Ask.Create]: () => this.create(ticket, number, first, second, third),
      [Ask.Update]: () => this.update(ticket, number, first, second, third),
      [Ask.Delete]: () => this.delete(ticket, number, first, third),
      [Ask.Read]: () => this.read(ticket, number, first),
      [Ask.Commit]: () => this.commit(ticket, first),
      [Ask.Flush]: () => this.flush(ticket, number < 0 ? undefined : number),
      [Ask.Confirmation]: () => this.confirmation(ticket, first, second),
      [Ask.SetToken]: () => this.setToken(first),
      [Ask.SetCredentialSource]: () => this.setCredentialSource?.(flag),
      [Ask.Nudge]: () => this.nudge(),
      [Ask.SetOffline]: () => this.setOffline(flag),
      [Ask.Retry]: () => this.retry(ticket, first, second),
      [Ask.Discard]: () => this.discard(ticket, first),
      [Ask.Purge]: () => this.purge(ticket),
      [Ask.Dispose]: () => this.dispose(ticket),
      [Ask.CloseView]: () => this.viewClose(number),
      [Ask.Turn]: () => this.calls.push('turn'),
      [Ask.Timeout]: () => this.calls.push('timeout'),
      [Ask.StoreClosed]: () => this.storeClosed(number),
      [Ask.Lock]: () => this.lock(flag),
      [Ask.Posted]: () => this.posted(first),
      [Ask.Credential]: () => {
        this.expiresAt = second;
        resolve(first ?? null);
      },
      [Ask.CredentialFailed]: () => reject(new Error(first)),
      [Ask.Stored]: () => resolve(this.given.splice(0)),
      [Ask.StoreFailed]: () => reject({ kind: ticket, message: first }),
      [Ask.Online]: () => this.calls.push('online'),
      [Ask.Offline]: () => this.calls.push('offline'),
      [Ask.Wake]: () => this.calls.push('wake'),
    };
    return calls[kind]();
  }

  numbers(kind, number, options) {
    const reads = {
      [Numbers.Query]: () => this.query(number, options),
      [Numbers.Count]: () => Uint32Array.of(this.count(number, options)),
      [Numbers.OpenView]: () => Uint32Array.of(this.viewOpen(number, options)),
      [Numbers.View]: () => this.viewRead(number),
    };
    return reads[kind]();
  }

  text(kind) {
    const reads = {
      [Text.Status]: () => this.status(),
      [Text.Outbox]: () => this.outbox(),
      [Text.Aside]: () => JSON.stringify(this.aside ?? {}),
      [Text.Token]: () => this.token(),
    };
    return reads[kind]();
  }

  start(ticket) {
    this.answer(ticket, undefined, 'start');
  }

  find(model, id) {
    this.calls.push('find');
    const slot = this.tables[model].findIndex((entry) => entry?.row.id === id);
    if (slot >= 0) this.tables[model][slot].seen = true;
    return slot + 1;
  }

  rows(model, slots) {
    this.calls.push(`rows:${slots.length}`);
    const rows = Array.from(slots, (slot) => this.tables[model][slot]?.row ?? null);
    for (const slot of slots) if (this.tables[model][slot]) this.tables[model][slot].seen = true;
    return JSON.stringify(rows);
  }

  query(model, text) {
    this.calls.push(`query:${text ?? ''}`);
    return this.select(model, text);
  }

  select(model, text) {
    const { where = {}, orderBy = {}, limit = Infinity, offset = 0 } = JSON.parse(text ?? '{}');
    const matches = this.tables[model].flatMap((entry, slot) => (entry ? [slot] : []));
    const at = (slot, field) => this.tables[model][slot].row[field] ?? null;
    const rows = matches.filter((slot) => Object.entries(where).every(([field, value]) => at(slot, field) === value));
    const [key] = Object.keys(orderBy);
    const sign = orderBy[key] === 'desc' ? -1 : 1;
    if (key) rows.sort((a, b) => (at(a, key) < at(b, key) ? -sign : sign));
    const result = Uint32Array.from(rows.slice(offset, offset + limit));
    for (const slot of result) this.tables[model][slot].seen = true;
    return result;
  }

  count(model, text) {
    this.calls.push(`count:${text ?? ''}`);
    return this.select(model, text).length;
  }

  viewOpen(model, text) {
    const id = this.views.size + 1;
    this.views.set(id, { model, text, edits: undefined });
    return id;
  }

  viewRead(id) {
    const view = this.views.get(id);
    if (view.edits) {
      const edits = view.edits;
      view.edits = undefined;
      return Uint32Array.from(edits);
    }
    return Uint32Array.from([1, ...this.select(view.model, view.text)]);
  }

  viewClose(id) {
    this.calls.push('viewClose');
    this.views.delete(id);
  }

  create(ticket, model, id, data, options) {
    this.written = { id, data: JSON.parse(data), options: options && JSON.parse(options) };
    if (!this.refuse.create?.thrown) this.put(model, [{ id, ...this.written.data }]);
    this.answer(ticket, undefined, 'create');
  }

  update(ticket, model, id, data, options) {
    this.written = { id, data: JSON.parse(data), options: options && JSON.parse(options) };
    if (!this.refuse.update?.thrown) this.put(model, [{ id, ...this.written.data }]);
    this.answer(ticket, undefined, 'update');
  }

  delete(ticket, model, id, options) {
    this.written = { id, options: options && JSON.parse(options) };
    if (!this.refuse.delete) this.remove(model, id);
    this.answer(ticket, undefined, 'delete');
  }

  read(ticket, model, options) {
    this.asked = JSON.parse(options);
    const { id } = this.asked;
    this.answer(ticket, () => JSON.stringify([...this.select(model, id && JSON.stringify({ where: { id } }))]), 'read');
  }

  commit(ticket, options) {
    this.committed = JSON.parse(options);
    this.answer(ticket, () => JSON.stringify({ id: 'k1', status: 'confirmed', lastSyncId: 7 }), 'commit');
  }

  status() {
    this.calls.push('status');
    const { organizationId, sync } = this;
    const connection = { state: 'connected', since: 1 };
    const rest = {
      durability: 'memory',
      storage: { problem: this.problem },
      pendingWrites: sync.pendingChanges,
      rejectedWrites: 0,
    };
    return JSON.stringify({ connection, ...rest, participantId: 'u1', organizationId, lastSyncId: 3, sync });
  }

  flush(ticket, timeoutMs) {
    this.flushTimeout = timeoutMs;
    this.answer(ticket, undefined, 'flush');
  }

  confirmation(ticket, typename, id) {
    this.confirmationOf = [typename, id];
    this.answer(ticket, undefined, 'confirmation');
  }

  setToken(token) {
    this.currentToken = token;
  }

  token() {
    return this.currentToken;
  }

  nudge() {
    this.calls.push('nudge');
  }

  setOffline(offline) {
    this.offline = offline;
  }

  storeClosed(database) {
    this.calls.push(`storeClosed:${database}`);
  }

  lock(held) {
    this.calls.push(`lock:${held}`);
  }

  posted(text) {
    this.calls.push(`posted:${text}`);
  }

  outbox() {
    this.calls.push('outbox');
    return JSON.stringify(this.entries);
  }

  retry(ticket, id, data) {
    this.retried = { id, data: data && JSON.parse(data) };
    this.answer(ticket, undefined, 'retry');
  }

  discard(ticket, id) {
    this.discarded = id;
    this.answer(ticket, undefined, 'discard');
  }

  purge(ticket) {
    this.answer(ticket, undefined, 'purge');
  }

  dispose(ticket) {
    this.answer(ticket, undefined, 'dispose');
  }

  free() {
    this.freed = true;
  }
}
