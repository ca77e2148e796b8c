/**
 * Encryption of stored values: AES-GCM, a random initialisation vector in front, the record's key as additional data,
 * so that a value is of use under its own key only. A file of its own, loaded when a client is made with `encryption`.
 */

import type { Bytes, StoreChange, StoreRecords } from './boundary.js';
import { fail, finished, Kind, openDatabase, utf8 } from './indexeddb.js';

/**
 * Encryption of what a client stores, except for the keys of records, which tell how much there is.
 *
 * @example
 * const server = { schema, baseURL: 'https://sync.example.com', apiKey: 'ek_test_ada' };
 * const ablo = Ablo({ ...server, persistence: 'indexeddb', encryption: { key: 'device' } });
 * await ablo.ready();
 * ablo.status.durability; // → 'indexeddb'
 * await ablo.purge();
 */
export interface AbloEncryption {
  /**
   * A key for AES-GCM that the application obtains, at login for example; or `'device'`: one that is made once per
   * browser profile and origin, and that no script can read. It is kept in the browser too, so it does not protect from
   * somebody who has the whole profile.
   */
  readonly key: CryptoKey | 'device';
}

const IV_BYTES = 12;
const DEVICE = 'device';

/** The key to use. The device's own is made when there is none. */
async function findKey({ key }: AbloEncryption): Promise<CryptoKey> {
  if (key !== DEVICE) return key;
  const fresh = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
  const database = await openDatabase('ablo-keys', ['keys']);
  try {
    // One transaction: of two tabs that start at once, the second finds the key of the first.
    const transaction = database.transaction('keys', 'readwrite', { durability: 'strict' });
    const keys = transaction.objectStore('keys');
    const known: IDBRequest<CryptoKey | undefined> = keys.get(DEVICE);
    known.onsuccess = () => {
      if (known.result === undefined) keys.put(fresh, DEVICE);
    };
    await finished(transaction);
    return known.result ?? fresh;
  } finally {
    database.close();
  }
}

/** What encrypts values on their way to the disk and back. */
export interface Cipher {
  seal(changes: readonly StoreChange[]): Promise<readonly StoreChange[]>;
  open(records: StoreRecords): Promise<StoreRecords>;
}

export async function makeCipher(encryption: AbloEncryption): Promise<Cipher> {
  const key = await findKey(encryption);
  return {
    seal: (changes) => Promise.all(changes.map((change) => sealChange(key, change))),
    open: (records) => openRecords(key, records),
  };
}

/** The change with its value encrypted. */
async function sealChange(key: CryptoKey, change: StoreChange): Promise<StoreChange> {
  const [store, name, value] = change;
  if (typeof value === 'string') return change;
  const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES));
  const secret = new Uint8Array(await crypto.subtle.encrypt(algorithm(iv, name), key, value));
  const sealed = new Uint8Array(IV_BYTES + secret.length);
  sealed.set(iv);
  sealed.set(secret, IV_BYTES);
  return [store, name, sealed];
}

/**
 * Records with their values decrypted. One that this key does not open becomes empty; when it opens none, it is the
 * wrong key.
 */
async function openRecords(key: CryptoKey, records: StoreRecords): Promise<StoreRecords> {
  let opened = 0;
  const result = await Promise.all(
    records.map(async (value, index) => {
      if (typeof value === 'string') return value;
      const algorithmOf = algorithm(value.subarray(0, IV_BYTES), records[index - 1] as string);
      try {
        const open = await crypto.subtle.decrypt(algorithmOf, key, value.subarray(IV_BYTES));
        opened += 1;
        return new Uint8Array(open);
      } catch {
        return new Uint8Array();
      }
    }),
  );
  if (opened === 0 && records.length > 0) fail(Kind.WrongKey, 'the key opens none of the records');
  return result;
}

const algorithm = (iv: Bytes, name: string): AesGcmParams => ({
  name: 'AES-GCM',
  iv,
  additionalData: utf8(name),
});
