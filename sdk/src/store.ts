/**
 * The browser's storage in the hands of the core: IndexedDB with two object stores, values as bytes under text keys.
 * Fulfils requests and reports facts; decides nothing.
 */

import type {
  Bytes,
  DatabaseIndex,
  StorageEvents,
  Storage,
  StoreChange,
  StoreIndex,
  StoreRecords,
} from './boundary.js';
import type { AbloEncryption, Cipher } from './encryption.js';
import { deleteDatabase, fail, finished, hashName, Kind, openDatabase, toFailure } from './indexeddb.js';
import { Tabs } from './tabs.js';

const STORES = ['journal', 'cache'] as const;
const JOURNAL = 0;
/** Records are asked for in so many parts: while the browser reads one, the page takes in those before it. */
const PARTS = 8;

/** What the browser lends to one client: two databases, a lock and a channel. */
export class BrowserStorage implements Storage {
  #databases: readonly [Database, Database];
  #tabs: Tabs;

  constructor(events: StorageEvents, encryption?: AbloEncryption) {
    const database = (index: DatabaseIndex): Database => new Database(() => events.storeClosed(index), encryption);
    this.#databases = [database(0), database(1)];
    this.#tabs = new Tabs(events);
  }

  open(database: DatabaseIndex, name: string): Promise<StoreRecords> {
    return this.#databases[database].open(name);
  }

  read(database: DatabaseIndex, store: StoreIndex, from: string, to: string): Promise<StoreRecords> {
    return this.#databases[database].read(store, from, to);
  }

  write(database: DatabaseIndex, changes: readonly StoreChange[], strict: boolean): Promise<StoreRecords> {
    return this.#databases[database].write(changes, strict ? 'strict' : 'relaxed');
  }

  delete(database: DatabaseIndex): Promise<StoreRecords> {
    return this.#databases[database].delete();
  }

  close(): void {
    for (const database of this.#databases) database.close();
  }

  lock(name: string | undefined, steal: boolean): void {
    this.#tabs.lock(name, steal);
  }

  channel(name: string | undefined): void {
    this.#tabs.channel(name);
  }

  post(text: string): void {
    this.#tabs.post(text);
  }
}

/** What has begun: in an array, so that waiting for the beginning does not wait for the end. */
type Begun = readonly [Promise<StoreRecords | void>];

class Database {
  #lost: () => void;
  #encryption: AbloEncryption | undefined;
  #cipher: Cipher | undefined;
  #name: string | undefined;
  #connection: IDBDatabase | undefined;
  /** Settles when the next request may begin. Never rejects. */
  #turn: Promise<unknown> = Promise.resolve();
  /** By object store: settles when the last request on it is answered. Never rejects. */
  #answered: Promise<unknown>[] = [];

  constructor(lost: () => void, encryption: AbloEncryption | undefined) {
    this.#lost = lost;
    this.#encryption = encryption;
  }

  open(name: string): Promise<StoreRecords> {
    return this.#next(JOURNAL, async () => {
      this.#close();
      if (!globalThis.indexedDB || !crypto.subtle || !navigator.locks || !globalThis.BroadcastChannel) {
        fail(Kind.Unavailable, 'needs IndexedDB, Web Locks and BroadcastChannel in a secure context');
      }
      this.#name = await hashName(name);
      if (this.#encryption) this.#cipher = await (await import('./encryption.js')).makeCipher(this.#encryption);
      const connection = await openDatabase(this.#name, STORES);
      connection.onversionchange = connection.onclose = () => {
        connection.close();
        if (this.#connection !== connection) return;
        this.#connection = undefined;
        this.#lost();
      };
      this.#connection = connection;
    });
  }

  read(store: StoreIndex, from: string, to: string): Promise<StoreRecords> {
    return this.#next(store, () => {
      const transaction = this.#begin([STORES[store]], 'readonly');
      const objects = transaction.objectStore(STORES[store]);
      const names = objects.getAllKeys(rangeOf(from, to));
      const flat: (string | Bytes)[] = [];
      names.onsuccess = () => {
        const size = Math.ceil(names.result.length / PARTS);
        for (let at = 0; at < names.result.length; at += size) {
          const part = names.result.slice(at, at + size) as string[];
          const values = objects.getAll(IDBKeyRange.bound(part[0], part.at(-1)));
          values.onsuccess = () => part.forEach((name, index) => flat.push(name, values.result[index] as Bytes));
        }
      };
      return [finished(transaction).then(() => this.#cipher?.open(flat) ?? flat)];
    });
  }

  write(changes: readonly StoreChange[], durability: IDBTransactionDurability): Promise<StoreRecords> {
    return this.#next(changes[0]?.[0] ?? JOURNAL, async () => {
      // No store, no transaction.
      if (changes.length === 0) return;
      // Before the transaction: one that waits for anything but its own requests is over.
      const sealed = this.#cipher ? await this.#cipher.seal(changes) : changes;
      const names = new Set(sealed.map(([store]) => STORES[store]));
      const transaction = this.#begin([...names], 'readwrite', { durability });
      try {
        for (const [store, name, value] of sealed) {
          const objects = transaction.objectStore(STORES[store]);
          if (typeof value === 'string') objects.delete(rangeOf(name, value));
          else objects.put(value, name);
        }
      } catch (error) {
        transaction.abort();
        throw error;
      }
      // Where it is missing, the browser finds out by itself that nothing follows.
      transaction.commit?.();
      return [finished(transaction)];
    });
  }

  delete(): Promise<StoreRecords> {
    return this.#next(JOURNAL, async () => {
      this.#close();
      await deleteDatabase(this.#name ?? lost());
    });
  }

  close(): void {
    void this.#next(JOURNAL, () => this.#close());
  }

  #close(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }

  #begin(stores: string[], mode: IDBTransactionMode, options?: IDBTransactionOptions): IDBTransaction {
    return (this.#connection ?? lost()).transaction(stores, mode, options);
  }

  /**
   * Begins in the order of these calls. The end of a transaction is not waited for, but those on one object store are
   * answered in order too.
   */
  async #next(store: StoreIndex, start: () => Begun | void | Promise<Begun | void>): Promise<StoreRecords> {
    const begun = this.#turn.then(start);
    this.#turn = begun.catch(() => undefined);
    const before = this.#answered[store];
    const ended = begun.then((end) => end?.[0]);
    this.#answered[store] = Promise.allSettled([before, ended]);
    await before;
    try {
      return (await ended) ?? [];
    } catch (error) {
      throw toFailure(error);
    }
  }
}

const lost = (): never => fail(Kind.Lost, 'the database is closed');

const rangeOf = (from: string, to: string): IDBKeyRange => IDBKeyRange.bound(from, to, false, true);
