/**
 * Entry `ablo-wasm/undo`: undo and redo of a live client's writes. A page that does not import it does not load it.
 *
 * Reading order: `undo-types.ts` (what an application gets), `undo-history.ts` (stacks and replays), `undo-writes.ts` (how
 * writes are seen), `undo-guard.ts` (what the server holds back), `undo-entry.ts` (entries), `undo-storage.ts`.
 */

import type { Ablo } from './client.js';
import { AbloValidationError } from './index.js';
import { INSIDE, type Inside } from './inside.js';
import type { Schema } from './schema/define.js';
import { checkLabel, readEntry } from './undo-entry.js';
import { type Client, History, type Settings } from './undo-history.js';
import { findStorage, keepStored } from './undo-storage.js';
import type { UndoScope, UndoScopeOptions } from './undo-types.js';
import { LocalWrites } from './undo-writes.js';

export type {
  InverseOp,
  UndoConflict,
  UndoEntry,
  UndoResult,
  UndoScope,
  UndoScopeOptions,
  UndoSize,
} from './undo-types.js';

/** What the scopes of one client share. */
interface Shared {
  readonly writes: LocalWrites;
  readonly scopes: Map<string, UndoScope>;
}

const OPTIONS = ['maxHistory', 'conflictPolicy', 'recordFromStream', 'tracksModel', 'persist'];
const POLICIES = ['skip-stale', 'last-writer-wins'];
const MAX_HISTORY = 100;

const clients = new WeakMap<object, Shared>();

/**
 * The history of this name, one per client: whoever asks for it gets the same one, and the options of the first count.
 *
 * @throws AbloValidationError `invalid_options`; `storage_unavailable` for `persist` where there is no `sessionStorage`
 * @example
 * import { undoScope } from 'ablo-wasm/undo';
 *
 * const scope = undoScope(ablo, 'board', { recordFromStream: true });
 * await ablo.tasks.update({ id: 't1', data: { title: 'Call back today' } });
 * await scope.undo();
 * ablo.tasks.get('t1')?.title; // → 'Call back'
 * await scope.redo();
 * ablo.tasks.get('t1')?.title; // → 'Call back today'
 */
export function undoScope<S extends Schema>(
  ablo: Ablo<S>,
  name: string,
  options: UndoScopeOptions<S> = {},
): UndoScope<S> {
  const inside = (ablo as { [INSIDE]?: Inside } | null | undefined)?.[INSIDE];
  if (inside === undefined) {
    throw wrong('ablo', 'undoScope takes a client of Ablo() as its first argument; one with transport "http" has no rows to undo');
  }
  const { show } = inside.KIT;
  if (typeof name !== 'string' || name === '') throw wrong('name', `name must be a non-empty string, got ${show(name)}`);
  const settings = readOptions(inside, options as UndoScopeOptions);
  const client = ablo as unknown as Client;
  let shared = clients.get(client);
  if (shared === undefined) {
    shared = { writes: new LocalWrites(inside, client.schema), scopes: new Map() };
    clients.set(client, shared);
  }
  const { scopes, writes } = shared;
  let scope = scopes.get(name);
  if (scope === undefined) {
    const storage = settings.persist ? findStorage(inside) : undefined;
    scope = createScope(client, inside, new History(client, inside, writes, settings), storage, name, scopes);
    scopes.set(name, scope);
  }
  return scope as unknown as UndoScope<S>;
}

function createScope(
  client: Client,
  inside: Inside,
  history: History,
  storage: Storage | undefined,
  name: string,
  scopes: Map<string, UndoScope>,
): UndoScope {
  const stop = storage && keepStored(history, client, inside, storage, name);
  let isDisposed = false;
  const check = (label?: unknown): void => {
    if (isDisposed) throw wrong('name', `the undo scope "${name}" was disposed; undoScope() makes another`);
    checkLabel(inside.KIT, label, 'invalid_options');
  };
  const listening = <A extends unknown[], T>(add: (listener: (...args: A) => void) => T) => (listener: (...args: A) => void): T => {
    if (typeof listener === 'function') return add(listener);
    throw wrong('listener', `a listener must be a function, got ${inside.KIT.show(listener)}`);
  };
  return Object.freeze<UndoScope>({
    async undo() {
      check();
      return history.replay('undo');
    },
    async redo() {
      check();
      return history.replay('redo');
    },
    canUndo: () => history.size.undo > 0,
    canRedo: () => history.size.redo > 0,
    size: () => history.size,
    clear: () => history.clear(),
    record(entry) {
      check();
      history.record(readEntry(inside.KIT, client.schema, entry));
    },
    async runRecorded(work, label) {
      check(label);
      if (typeof work !== 'function') throw wrong('work', `work must be a function, got ${inside.KIT.show(work)}`);
      return history.run(work, label);
    },
    beginGroup(label) {
      check(label);
      history.beginGroup(label);
    },
    endGroup(label) {
      check(label);
      history.endGroup(label);
    },
    onRecord: listening((listener) => history.records.add(listener)),
    onChange: listening((listener) => history.changes.add(listener)),
    onConflict: listening((listener) => history.conflicts.add(listener)),
    dispose() {
      if (isDisposed) return;
      isDisposed = true;
      scopes.delete(name);
      stop?.();
      history.dispose();
    },
  });
}

function readOptions({ KIT: { checkKeys, isPlainObject, show } }: Inside, options: UndoScopeOptions): Settings {
  if (!isPlainObject(options)) throw wrong('options', `options must be a plain object, got ${show(options)}`);
  checkKeys(options, OPTIONS, 'invalid_options', 'option of undoScope');
  const { maxHistory = MAX_HISTORY, conflictPolicy = 'skip-stale', tracksModel = () => true } = options as UndoScopeOptions;
  const { recordFromStream = false, persist = false } = options as UndoScopeOptions;
  const check = (isRight: boolean, param: string, expected: string, got: unknown): void => {
    if (!isRight) throw wrong(param, `${param} must be ${expected}, got ${show(got)}`);
  };
  check(Number.isSafeInteger(maxHistory) && maxHistory > 0, 'maxHistory', 'a positive integer', maxHistory);
  check(POLICIES.includes(conflictPolicy), 'conflictPolicy', `one of ${POLICIES.join(', ')}`, conflictPolicy);
  check(typeof recordFromStream === 'boolean', 'recordFromStream', 'true or false', recordFromStream);
  check(typeof tracksModel === 'function', 'tracksModel', 'a function', tracksModel);
  check(typeof persist === 'boolean', 'persist', 'true or false', persist);
  return { maxHistory, conflictPolicy, recordFromStream, tracksModel, persist };
}

function wrong(param: string, message: string): AbloValidationError {
  return new AbloValidationError(message, { code: 'invalid_options', param });
}
