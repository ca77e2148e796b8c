/**
 * The stacks of a scope in `sessionStorage`: of this tab alone, and gone with it. Their key is a hash of who is signed in
 * where, and of the scope's name. What is read back is checked like anything from outside.
 */

import { AbloValidationError } from './index.js';
import type { Inside } from './inside.js';
import type { Schema } from './schema/define.js';
import { type Draft, readEntry, toEntry } from './undo-entry.js';
import type { Client, History } from './undo-history.js';

/** Most that is stored of one scope, as the browser counts it: two bytes for each UTF-16 unit. */
const STORED_BYTES_MAX = 512 * 1024;
const VERSION = 1;
const PREFIX = 'ablo-undo:';

/** `sessionStorage`, if there is a usable one, and what is needed to name what is in it. */
export function findStorage(inside: Inside): Storage {
  const refuse = (code: string, why: string): never => {
    throw new AbloValidationError(`persist: true is not possible here: ${why}`, { code, param: 'persist' });
  };
  if (inside.isEncrypted) {
    refuse('invalid_options', 'the client was made with encryption, and sessionStorage is not encrypted; leave persist out');
  }
  let storage: Storage | undefined;
  try {
    storage = globalThis.sessionStorage;
  } catch {
    // Some browsers throw where cookies are blocked.
  }
  if (storage === undefined) return refuse('storage_unavailable', 'there is no sessionStorage');
  if (globalThis.crypto?.subtle === undefined) return refuse('storage_unavailable', 'there is no crypto.subtle on insecure pages');
  return storage;
}

/** Keeps a history in storage from now on. Returns the way to stop, which leaves what is stored. */
export function keepStored(history: History, client: Client, inside: Inside, storage: Storage, name: string): () => void {
  let key: string | undefined;
  let identity: string | undefined;
  let isOver = false;
  /** What is stored is not read any more once everything was forgotten. */
  const { era } = history;

  const save = (): void => {
    if (isOver || key === undefined) return;
    const { undo, redo } = history.stacks;
    try {
      if (undo.length + redo.length === 0) storage.removeItem(key);
      else storage.setItem(key, textOf(undo, redo));
    } catch {
      storage.removeItem(key);
      problem('storage_quota_exceeded', 'the undo history does not fit into sessionStorage, and is in memory only');
    }
  };
  const load = (found: string): void => {
    key = found;
    const text = storage.getItem(key);
    try {
      if (text !== null && history.era === era) history.restore(...parse(inside, client.schema, text, problem));
    } finally {
      save();
    }
  };
  const problem = (code: string, message: string): void =>
    inside.session.event('storage:problem', JSON.stringify({ class: 'AbloError', code, message, retryable: false }));
  const find = (): void => {
    const { participantId, organizationId } = client.status;
    if (participantId === null || isOver) return;
    const found = JSON.stringify([inside.baseUrl, organizationId, participantId]);
    if (identity === found) return;
    // Somebody else: what is there is not theirs.
    if (identity !== undefined) return history.purged();
    identity = found;
    void hash(JSON.stringify([found, name])).then((hashed) => {
      if (!isOver) load(PREFIX + hashed);
    });
  };
  const forget = (): void => {
    // Before it is known who is signed in, any of them may be theirs.
    if (!isOver && key === undefined) keysOf(storage).forEach((other) => storage.removeItem(other));
    isOver = true;
    if (key !== undefined) storage.removeItem(key);
  };
  const stops = [
    client.onStatus(find),
    history.changes.add(save),
    history.purges.add(forget),
  ];
  find();
  return () => {
    isOver = true;
    for (const stop of stops) stop();
  };
}

function keysOf(storage: Storage): string[] {
  const keys = Array.from({ length: storage.length }, (_, at) => storage.key(at) ?? '');
  return keys.filter((key) => key.startsWith(PREFIX));
}

async function hash(text: string): Promise<string> {
  const bytes = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Of each entry as it is stored. */
const texts = new WeakMap<Draft, string>();

/** As many of the entries as fit, those that would be replayed first before the others. */
function textOf(undo: readonly Draft[], redo: readonly Draft[]): string {
  let left = STORED_BYTES_MAX / 2 - 100;
  const fitting = (drafts: readonly Draft[]): string => {
    const fit: string[] = [];
    for (const draft of [...drafts].reverse()) {
      const text = texts.get(draft) ?? JSON.stringify(toEntry(draft));
      texts.set(draft, text);
      left -= text.length + 1;
      if (left < 0) break;
      fit.unshift(text);
    }
    return `[${fit.join()}]`;
  };
  return `{"version":${VERSION},"undo":${fitting(undo)},"redo":${fitting(redo)}}`;
}

function parse(
  inside: Inside,
  schema: Schema,
  text: string,
  problem: (code: string, message: string) => void,
): [undo: Draft[], redo: Draft[]] {
  try {
    if (text.length * 2 > STORED_BYTES_MAX) throw new Error('it is longer than anything written here');
    const { version, undo, redo } = JSON.parse(text) as { version?: unknown; undo: unknown[]; redo: unknown[] };
    if (version !== VERSION) throw new Error('it is of another version');
    const read = (entries: unknown[]): Draft[] => entries.map((entry) => readEntry(inside.KIT, schema, entry));
    return [read(undo), read(redo)];
  } catch (error) {
    problem('storage_record_unreadable', `the stored undo history was discarded: ${(error as Error).message}`);
    return [[], []];
  }
}
