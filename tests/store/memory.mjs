// The storage of a browser in memory, for tests: `StorageHost` of sdk/src/boundary.ts, with the faults of a browser.
//
// One `MemoryBrowser` is what the tabs of one profile share; each `MemoryStorage` is one tab's. `cases.mjs` holds this
// implementation and the real one to the same behaviour.

/** `StoreFailure.kind` */
export const KIND = { UNAVAILABLE: 0, BLOCKED: 1, NEWER: 2, LOST: 3, QUOTA: 4, ABORTED: 5, WRONG_KEY: 6, UNKNOWN: 7 };

const VERSION = 1;

const failure = (kind, message) => ({ kind, message });

/** What all tabs share. Tests reach into it. */
export class MemoryBrowser {
  /** By name: `{ version, stores, connections }`, where a connection is the storage that has it. */
  databases = new Map();
  /** By name: the storages that want it; the first has it. */
  locks = new Map();
  /** By name: the storages that listen. */
  channels = new Map();
  /** What was asked of transactions: `{ stores, mode, durability }`. */
  transactions = [];
  /** Most bytes that values may take. */
  quota = Infinity;
  /** Whether there is storage at all. */
  available = true;
  /** Names that nobody can open or delete for the moment, with what waits for them. */
  #held = new Map();
  #faults = [];

  /** The next request of this kind (`open`, `read`, `write`, `delete`) fails. */
  failNext(request, kind, message = 'injected') {
    this.#faults.push({ request, failure: failure(kind, message) });
  }

  takeFault(request) {
    const at = this.#faults.findIndex((fault) => fault.request === request);
    if (at >= 0) throw this.#faults.splice(at, 1)[0].failure;
  }

  /** Somebody has a database of this name and does not let go of it. */
  hold(name) {
    this.#held.set(name, []);
  }

  letGo(name) {
    const waiting = this.#held.get(name) ?? [];
    this.#held.delete(name);
    for (const { resolve } of waiting) resolve();
  }

  /** All who wait have waited long enough. */
  passTime() {
    for (const waiting of this.#held.values()) {
      for (const { reject } of waiting.splice(0)) reject(failure(KIND.BLOCKED, 'another tab holds the database'));
    }
  }

  /** How many requests wait for somebody who holds a database. */
  get waiting() {
    return [...this.#held.values()].reduce((sum, list) => sum + list.length, 0);
  }

  async whenFree(name) {
    const waiting = this.#held.get(name);
    if (waiting) await new Promise((resolve, reject) => waiting.push({ resolve, reject }));
  }

  /** Makes a database of a version. Who has it open is told to close it, as by `versionchange`. */
  upgrade(name, version) {
    this.closeConnections(name);
    this.#database(name).version = version;
  }

  /** The browser closes all connections, or those to one database. */
  closeConnections(name) {
    for (const [key, { connections }] of this.databases) {
      if (name === undefined || key === name) for (const close of [...connections]) close();
    }
  }

  /** Makes a value unreadable for whoever encrypts. */
  spoil(name, store, key) {
    this.databases.get(name).stores[store].get(key).sealedFor = undefined;
  }

  connect(name, lost) {
    const database = this.#database(name);
    if (database.version > VERSION) throw failure(KIND.NEWER, 'written by a newer version');
    database.connections.add(lost);
    return database;
  }

  #database(name) {
    const known = this.databases.get(name);
    if (known) return known;
    const made = { version: VERSION, stores: [new Map(), new Map()], connections: new Set() };
    this.databases.set(name, made);
    return made;
  }

  bytesUsed(replacing, by) {
    let bytes = 0;
    for (const database of this.databases.values()) {
      for (const store of database === replacing ? by : database.stores) {
        for (const { value } of store.values()) bytes += value.length;
      }
    }
    return bytes;
  }
}

/** One tab's storage. */
export class MemoryStorage {
  #browser;
  #events;
  #key;
  #databases = [{ turn: Promise.resolve() }, { turn: Promise.resolve() }];
  #lock;
  #channel;

  constructor(browser, events, encryption) {
    this.#browser = browser;
    this.#events = events;
    this.#key = encryption?.key;
  }

  open(index, name) {
    return this.#next(index, async (mine) => {
      this.#close(mine);
      if (!this.#browser.available) throw failure(KIND.UNAVAILABLE, 'no storage here');
      mine.name = name;
      this.#browser.takeFault('open');
      await this.#browser.whenFree(name);
      const lost = () => {
        this.#close(mine);
        this.#events.storeClosed(index);
      };
      mine.database = this.#browser.connect(name, lost);
      mine.lost = lost;
      return [];
    });
  }

  read(index, store, from, to) {
    return this.#next(index, (mine) => {
      const { stores } = this.#begin(mine, [store], 'readonly');
      this.#browser.takeFault('read');
      const keys = keysBetween(stores[store], from, to);
      const opens = (key) => this.#key === undefined || stores[store].get(key).sealedFor === this.#key;
      if (keys.length > 0 && !keys.some(opens)) throw failure(KIND.WRONG_KEY, 'the key opens none of the records');
      return keys.flatMap((key) => [key, opens(key) ? stores[store].get(key).value.slice() : new Uint8Array()]);
    });
  }

  write(index, changes, strict) {
    return this.#next(index, (mine) => {
      const named = [...new Set(changes.map(([store]) => store))];
      const database = this.#begin(mine, named, 'readwrite', strict ? 'strict' : 'relaxed');
      this.#browser.takeFault('write');
      const stores = database.stores.map((store) => new Map(store));
      for (const [store, key, last] of changes) {
        if (typeof last !== 'string') stores[store].set(key, { value: structuredClone(last), sealedFor: this.#key });
        else for (const old of keysBetween(stores[store], key, last)) stores[store].delete(old);
      }
      if (this.#browser.bytesUsed(database, stores) > this.#browser.quota) throw failure(KIND.QUOTA, 'no space');
      database.stores = stores;
      return [];
    });
  }

  delete(index) {
    return this.#next(index, async (mine) => {
      this.#close(mine);
      if (mine.name === undefined) throw failure(KIND.LOST, 'the database is closed');
      this.#browser.takeFault('delete');
      this.#browser.closeConnections(mine.name);
      await this.#browser.whenFree(mine.name);
      this.#browser.databases.delete(mine.name);
      return [];
    });
  }

  close() {
    for (const index of [0, 1]) void this.#next(index, (mine) => this.#close(mine));
  }

  lock(name, steal) {
    this.#release();
    if (name === undefined) return;
    const wish = { name, lost: () => this.#lost(wish), granted: () => this.#granted(wish) };
    this.#lock = wish;
    const queue = this.#browser.locks.get(name) ?? [];
    this.#browser.locks.set(name, queue);
    if (steal) queue.splice(0, 1, wish)[0]?.lost();
    else queue.push(wish);
    if (queue[0] === wish) wish.granted();
  }

  #granted(wish) {
    queueMicrotask(() => {
      if (this.#lock === wish) this.#events.lock(true);
    });
  }

  #lost(wish) {
    queueMicrotask(() => {
      if (this.#lock === wish) this.#events.lock(false);
    });
  }

  #release() {
    const wish = this.#lock;
    this.#lock = undefined;
    const queue = this.#browser.locks.get(wish?.name) ?? [];
    const at = queue.indexOf(wish);
    if (at < 0) return;
    queue.splice(at, 1);
    if (at === 0) queue[0]?.granted();
  }

  channel(name) {
    this.#browser.channels.get(this.#channel)?.delete(this);
    this.#channel = name;
    if (name === undefined) return;
    if (!this.#browser.channels.has(name)) this.#browser.channels.set(name, new Set());
    this.#browser.channels.get(name).add(this);
  }

  post(text) {
    for (const other of this.#browser.channels.get(this.#channel) ?? []) {
      if (other !== this) other.#hear(this.#channel, text);
    }
  }

  #hear(name, text) {
    queueMicrotask(() => {
      if (this.#channel === name) this.#events.posted(text);
    });
  }

  /** The tab is closed: nothing of it remains, and it hears nothing more. */
  closeTab() {
    for (const mine of this.#databases) this.#close(mine);
    this.channel(undefined);
    this.#release();
  }

  #begin({ database }, stores, mode, durability) {
    if (database === undefined) throw failure(KIND.LOST, 'the database is closed');
    if (stores.length > 0) this.#browser.transactions.push({ stores, mode, durability });
    return database;
  }

  #close(mine) {
    mine.database?.connections.delete(mine.lost);
    mine.database = undefined;
  }

  #next(index, work) {
    const mine = this.#databases[index];
    const done = mine.turn.then(() => work(mine));
    mine.turn = done.catch(() => undefined);
    return done.catch((error) => {
      throw 'kind' in error ? error : failure(KIND.UNKNOWN, String(error));
    });
  }
}

function keysBetween(store, from, to) {
  // Order: of UTF-16 units, as in IndexedDB.
  return [...store.keys()].filter((key) => from <= key && key < to).sort((a, b) => (a < b ? -1 : 1));
}
