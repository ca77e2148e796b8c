/**
 * The writes of one client, seen as they are made: what each does to a row, and what would take it back. One for all
 * scopes of a client.
 */

import { Ask, type Core } from './boundary.js';
import type { Inside } from './inside.js';
import type { Row } from './rows.js';
import type { Schema } from './schema/define.js';
import type { Ticket, Watch } from './session.js';
import { type Change, type Data, equal, type Step } from './undo-entry.js';

/** Who hears of writes. */
export interface Listener {
  /** Whether it wants to hear of the next one. */
  isRecording(): boolean;
  recorded(changes: readonly Change[]): void;
  /** The server has refused a write that was told. */
  refused(step: Step): void;
  purged(): void;
}

/** A write that must not be recorded: it replays one that was. */
export interface Replay {
  /** The core has taken it. */
  isTaken: boolean;
  changes: readonly Change[];
}

/** One operation of `commits.create`. */
interface Operation {
  readonly action?: string;
  readonly model?: string;
  readonly id?: string;
  readonly target?: { readonly model?: string; readonly id?: string };
  readonly data?: Data;
}

export class LocalWrites implements Watch {
  readonly listeners = new Set<Listener>();
  readonly keys: readonly string[];
  #inside: Inside;
  #schema: Schema;
  #replay: Replay | undefined;

  constructor(inside: Inside, schema: Schema) {
    this.#inside = inside;
    this.#schema = schema;
    this.keys = Object.keys(schema.models);
    inside.session.watch = this;
  }

  /**
   * Makes a write that is not recorded. `write` must come to the core before it returns, so that no other write can be
   * taken for it.
   */
  replay(write: () => Promise<unknown>): Replay & { readonly done: Promise<unknown> } {
    const replay: Replay = { isTaken: false, changes: [] };
    this.#replay = replay;
    const done = write();
    this.#replay = undefined;
    return Object.assign(replay, { done });
  }

  /** The row as it is here. */
  row(modelKey: string, id: string): Row | undefined {
    const cache = this.#inside.session.models[this.keys.indexOf(modelKey)];
    return cache?.known(id) ?? cache?.find(id);
  }

  /** The key of a model that is named by its key or its typename. */
  keyOf(name: unknown): string | undefined {
    const folded = String(name).toLowerCase();
    const isNamed = (key: string): boolean =>
      key.toLowerCase() === folded || this.#schema.models[key]!.typename.toLowerCase() === folded;
    return this.keys.find((key) => key === name) ?? this.keys.find(isNamed);
  }

  between(core: Core, ticket: Ticket): Core {
    if (this.listeners.size === 0) return core;
    const ask: Core['ask'] = (kind, number, index, first, second, third) => {
      const replay = this.#replay;
      this.#replay = undefined;
      const listeners = [...this.listeners].filter((listener) => listener.isRecording());
      const changes = replay || listeners.length > 0 ? this.#foresee(kind, index, first, second) : [];
      // What this throws was not written.
      core.ask(kind, number, index, first, second, third);
      if (replay !== undefined) {
        Object.assign(replay, { isTaken: true, changes });
        return;
      }
      if (changes.length === 0) return;
      if (kind === Ask.Commit) {
        // Whoever waits for a direct commit is told by its promise, and nobody else is.
        const { reject } = ticket;
        ticket.reject = (error) => {
          for (const { forward } of changes) for (const listener of listeners) listener.refused(forward);
          reject(error);
        };
      }
      for (const listener of listeners) {
        try {
          listener.recorded(changes);
        } catch (error) {
          // An application's function has failed, not the write.
          reportThrown(error);
        }
      }
    };
    // Calls ask, and do nothing else with a core.
    return { ask } as Core;
  }

  purged(): void {
    for (const listener of this.listeners) listener.purged();
  }

  /** What a call is about to do. One that makes no sense does nothing: the core will say so. */
  #foresee(kind: number, index: number, first: string | undefined, second: string | undefined): Change[] {
    try {
      return this.#changes(kind, index, first, second);
    } catch {
      return [];
    }
  }

  #changes(kind: number, index: number, first: string | undefined, second: string | undefined): Change[] {
    if (kind === Ask.Commit) return this.#commit(first!);
    const verbs: { readonly [kind: number]: Step['kind'] } = {
      [Ask.Create]: 'create',
      [Ask.Update]: 'update',
      [Ask.Delete]: 'delete',
    };
    const verb = verbs[kind];
    const modelKey = this.keys[index];
    if (verb === undefined || modelKey === undefined) return [];
    return this.#change(verb, modelKey, first!, JSON.parse(second ?? '{}') as Data, this.row(modelKey, first!));
  }

  /** `before` is the row as it is. */
  #change(kind: Step['kind'], modelKey: string, id: string, data: Data, before: Data | undefined): Change[] {
    const at = { modelKey, id };
    const { fields, shape } = this.#schema.models[modelKey]!;
    if (kind === 'create') {
      return [{ forward: { ...at, kind, data }, inverse: { ...at, kind: 'delete', data: {} } }];
    }
    if (before === undefined) return [];
    // A field without a value, in a row that must have one, cannot be written.
    const previous = (names: readonly string[]): Data =>
      Object.fromEntries(
        names
          .filter((name) => before[name] != null || fields[name]!.isOptional || fields[name]!.type === 'json')
          .map((name) => [name, before[name] ?? null]),
      );
    if (kind === 'delete') {
      // A field that is not there must be named only where a create would fill it in.
      const named = Object.keys(fields).filter((name) => before[name] !== undefined || shape[name]?.initial !== undefined);
      const inverse = { ...at, kind: 'create', data: previous(named) } as const;
      return [{ forward: { ...at, kind, data: {} }, inverse }];
    }
    const names = Object.keys(data).filter((name) => Object.hasOwn(fields, name) && !equal(data[name], before[name]));
    const back = previous(names);
    const written = Object.keys(back);
    if (written.length === 0) return [];
    const forward = Object.fromEntries(written.map((name) => [name, data[name]]));
    return [{ forward: { ...at, kind, data: forward }, inverse: { ...at, kind, data: back } }];
  }

  /** Nothing of a commit shows before the server's answer, so what its earlier operations do is kept in mind. */
  #commit(text: string): Change[] {
    const { operation, operations } = JSON.parse(text) as { operation?: Operation; operations?: Operation[] };
    const after = new Map<string, Data | undefined>();
    return (operations ?? [operation ?? {}]).flatMap(({ action, model, id, target, data }) => {
      const modelKey = this.keyOf(model ?? target?.model);
      const row = id ?? target?.id;
      if (modelKey === undefined || row === undefined) return [];
      if (action !== 'create' && action !== 'update' && action !== 'delete') return [];
      const key = `${modelKey}/${row}`;
      const before = after.has(key) ? after.get(key) : this.row(modelKey, row);
      const { fields } = this.#schema.models[modelKey]!;
      const known = Object.entries(data ?? {}).filter(([name]) => Object.hasOwn(fields, name));
      const written = Object.fromEntries(known);
      after.set(key, action === 'delete' ? undefined : { ...before, ...written });
      return this.#change(action, modelKey, row, written, before);
    });
  }
}

/** As the browser reports an uncaught error. */
export function reportThrown(error: unknown): void {
  if (typeof reportError === 'function') reportError(error);
  else console.error(error);
}
