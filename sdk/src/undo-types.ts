/** Types of the entry `ablo-wasm/undo`. */

import type { Schema } from './schema/define.js';
import type { InferCreate, InferModelNames, InferUpdate } from './schema/infer.js';

/** Something that an entry does to rows. The kinds that end in `Many` are short for several of one model. */
export type InverseOp<S = Schema> = { readonly [K in InferModelNames<S>]: OpOf<S, K> }[InferModelNames<S>];

type OpOf<S, K extends InferModelNames<S>> =
  | { readonly kind: 'create'; readonly modelKey: K; readonly data: Created<S, K> }
  | { readonly kind: 'createMany'; readonly modelKey: K; readonly data: readonly Created<S, K>[] }
  | { readonly kind: 'update'; readonly modelKey: K; readonly patch: Patch<S, K> }
  | { readonly kind: 'updateMany'; readonly modelKey: K; readonly patches: readonly Patch<S, K>[] }
  | { readonly kind: 'delete'; readonly modelKey: K; readonly id: string }
  | { readonly kind: 'deleteMany'; readonly modelKey: K; readonly ids: readonly string[] };
/** With its id: the way back must know which row it was. */
type Created<S, K extends InferModelNames<S>> = InferCreate<S, K> & { readonly id: string };
type Patch<S, K extends InferModelNames<S>> = InferUpdate<S, K> & { readonly id: string };

/** One step of the history. */
export interface UndoEntry<S = Schema> {
  /** For a menu: "Undo move". */
  readonly label?: string | undefined;
  /** What takes it back, in this order. */
  readonly inverses: readonly InverseOp<S>[];
  /** What does it again, in this order. */
  readonly forwards: readonly InverseOp<S>[];
}

/** Something that was left alone because somebody else has changed it. */
export interface UndoConflict<S = Schema> {
  readonly modelKey: InferModelNames<S>;
  readonly id: string;
  /** Fields that were not written. All that were meant when the row is gone, or is there already. */
  readonly fields: readonly string[];
  /** The values of those fields now. Empty when the row is gone. */
  readonly currentValues: Readonly<Record<string, unknown>>;
  /** Who has changed it, when the server said so. */
  readonly writtenBy?: { readonly kind: 'user' | 'agent' | 'system'; readonly id: string };
}

/** What one `undo()` or `redo()` did. */
export interface UndoResult<S = Schema> {
  readonly label?: string;
  /** How many rows were written. */
  readonly applied: number;
  /** What was left alone at once. What the server holds back later is told to `onConflict`. */
  readonly conflicts: readonly UndoConflict<S>[];
}

/** How many entries there are. */
export interface UndoSize {
  readonly undo: number;
  readonly redo: number;
}

/** Options of `undoScope`. */
export interface UndoScopeOptions<S = Schema> {
  /** Most entries; the oldest go first. Default: 100. */
  readonly maxHistory?: number | undefined;
  /**
   * What happens to fields that somebody else has changed since. `'skip-stale'` (default): they are left alone and told
   * as conflicts. `'last-writer-wins'`: they are written.
   */
  readonly conflictPolicy?: 'skip-stale' | 'last-writer-wins' | undefined;
  /** Records every write of this client; those of one microtask are one entry. Default: false. */
  readonly recordFromStream?: boolean | undefined;
  /** Of which models writes are recorded. Default: all. */
  readonly tracksModel?: ((modelKey: InferModelNames<S>) => boolean) | undefined;
  /** Keeps the entries in `sessionStorage`, so that they survive a reload of the tab. Default: false. */
  readonly persist?: boolean | undefined;
}

/** A history of writes that can be undone. */
export interface UndoScope<S = Schema> {
  /**
   * Takes the newest entry back. Undefined when there is none. Rejects when a write is not accepted here; the entry is
   * back in its place then.
   */
  undo(): Promise<UndoResult<S> | undefined>;
  /** Does again what was undone last. */
  redo(): Promise<UndoResult<S> | undefined>;
  canUndo(): boolean;
  canRedo(): boolean;
  size(): UndoSize;
  /** Forgets everything. */
  clear(): void;
  /**
   * Adds an entry.
   *
   * @throws AbloValidationError `undo_entry_invalid`, with the place in `param`
   */
  record(entry: UndoEntry<S>): void;
  /**
   * Records what is written while `work` runs as one entry, also without `recordFromStream` and when it fails. That is all
   * that this client writes meanwhile, whoever asks for it: JavaScript does not tell whose an asynchronous call is. Where
   * two run at once, writes belong to the one that began last.
   */
  runRecorded<T>(work: () => T | Promise<T>, label?: string): Promise<T>;
  /** Gathers what is recorded from now on into one entry. Ends a group that is open. */
  beginGroup(label?: string): void;
  /** Records the group, under this label if there is one. */
  endGroup(label?: string): void;
  /** Calls back with every entry that is recorded. Returns the way to stop. */
  onRecord(listener: (entry: UndoEntry<S>) => void): () => void;
  /** Calls back when the number of entries may have changed. Returns the way to stop. */
  onChange(listener: (size: UndoSize) => void): () => void;
  /** Calls back with everything that was left alone, at once or by the server later. Returns the way to stop. */
  onConflict(listener: (conflict: UndoConflict<S>) => void): () => void;
  /** Ends the scope. The next `undoScope` of this name makes another. What is persisted stays. */
  dispose(): void;
}
