/** IndexedDB with promises: the few things that the storage does with it, and what their failures are called. */

import type { Bytes, StoreFailure } from './boundary.js';
import { hex } from './values.js';

/** The numbers of `StoreFailureKind` in the core. */
export const enum Kind {
  Unavailable,
  Blocked,
  Newer,
  Lost,
  Quota,
  Aborted,
  WrongKey,
  Unknown,
}

const KINDS: Readonly<Record<string, Kind>> = {
  SecurityError: Kind.Unavailable,
  VersionError: Kind.Newer,
  InvalidStateError: Kind.Lost,
  QuotaExceededError: Kind.Quota,
  AbortError: Kind.Aborted,
};

const OPEN_MS = 10_000;
const DELETE_MS = 5_000;

export function fail(kind: Kind, message: string): never {
  throw { kind, message } satisfies StoreFailure;
}

/** A failure that crosses, from whatever was thrown. */
export function toFailure(error: unknown): StoreFailure {
  const { kind, name = '', message } = error as Partial<StoreFailure & DOMException>;
  return { kind: kind ?? KINDS[name] ?? Kind.Unknown, message: `${message}` };
}

export const utf8 = (text: string): Bytes => new TextEncoder().encode(text);

/** The name of a database, a lock or a channel: the one given tells who uses the application. */
export async function hashName(name: string): Promise<string> {
  return `ablo-${hex(new Uint8Array(await crypto.subtle.digest('SHA-256', utf8(name))))}`;
}

/** Opens a database, made with these object stores if it is not there. */
export function openDatabase(name: string, stores: readonly string[]): Promise<IDBDatabase> {
  const open = (): Promise<IDBDatabase> =>
    answered(OPEN_MS, (giveUp) => {
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = () => {
        for (const store of stores) request.result.createObjectStore(store);
      };
      request.onblocked = giveUp;
      return request;
    });
  // While a browser takes a database away it aborts what is opened meanwhile, which nobody can foresee.
  return open().catch((error: unknown) => {
    if (toFailure(error).kind === Kind.Aborted) return open();
    throw error;
  });
}

/** Deletes a database, waiting for others to let go of it. */
export async function deleteDatabase(name: string): Promise<void> {
  await answered(DELETE_MS, () => indexedDB.deleteDatabase(name));
}

function answered(ms: number, ask: (giveUp: () => void) => IDBOpenDBRequest): Promise<IDBDatabase> {
  let timer: ReturnType<typeof setTimeout>;
  const asked = new Promise<IDBDatabase>((resolve, reject) => {
    const giveUp = (): void => {
      reject({ kind: Kind.Blocked, message: 'another tab holds the database' } satisfies StoreFailure);
      // It may still succeed, and would then be in the way of others.
      request.onsuccess = () => request.result?.close();
    };
    const request = ask(giveUp);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    timer = setTimeout(giveUp, ms);
  });
  return asked.finally(() => clearTimeout(timer));
}

/** Settles as the transaction does. */
export function finished(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? { kind: Kind.Aborted, message: 'aborted' });
  });
}
