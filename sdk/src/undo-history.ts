/**
 * The history of one scope: two stacks of entries, what is being gathered, and replays, one after another.
 *
 * A replay is ordinary writes, computed against what the rows are now; the entry that it leaves on the other stack says
 * what it has really done. Guarded ones may be held back by the server later: `undo-guard.ts`.
 */

import type { AbloClient } from './client.js';
import type { AbloEvents } from './events.js';
import type { Inside } from './inside.js';
import type { Schema } from './schema/define.js';
import type { ModelOperations } from './types.js';
import { Batch, type Change, type Data, type Draft, equal, pick, rowKey, type Step, STEPS_MAX, toEntry, without } from './undo-entry.js';
import { type Guarded, Guards, toConflict, valuesOf } from './undo-guard.js';
import type { UndoConflict, UndoEntry, UndoResult, UndoScopeOptions, UndoSize } from './undo-types.js';
import { type Listener, type LocalWrites, reportThrown } from './undo-writes.js';

/** An entry with its place in the history. */
export interface Kept {
  draft: Draft;
  /** The steps that were carried out last: what the server may still refuse. */
  side: 'inverses' | 'forwards';
  /** Counts up with every write. */
  order: number;
  /** The server may not have answered yet. */
  isOpen: boolean;
  /** It is from before a reload: its rows may not be here yet. */
  isRestored: boolean;
}

/** A client, as replays use it. */
export type Client = AbloClient<Schema> & Readonly<Record<string, ModelOperations<object, object, object>>>;
export type Conflict = UndoConflict;
export type Settings = Required<{ [K in keyof UndoScopeOptions]: NonNullable<UndoScopeOptions[K]> }>;

type Verb = 'undo' | 'redo';
type Guard = { readonly readAt: number; readonly onStale: 'notify'; readonly idempotencyKey?: string };

/** What is to become of one step. */
interface Plan {
  /** Undefined: nothing is to be done. */
  readonly step: Step | undefined;
  /** The values that it replaces. */
  readonly replaced: Data;
  readonly conflict?: Conflict;
}

const NOTHING: Plan = { step: undefined, replaced: {} };

/** What became of the steps of an entry. */
interface Outcome {
  /** What was written, and what takes it back. */
  readonly written: Draft | undefined;
  readonly writes: readonly Promise<unknown>[];
  readonly conflicts: Conflict[];
}

/** Functions that are called when something happens. What they throw is reported, and disturbs nobody. */
export class Listeners<T> {
  #functions = new Set<{ listener: (value: T) => void }>();

  add(listener: (value: T) => void): () => void {
    const entry = { listener };
    this.#functions.add(entry);
    return () => void this.#functions.delete(entry);
  }

  call(value: T): void {
    for (const { listener } of [...this.#functions]) {
      try {
        listener(value);
      } catch (error) {
        reportThrown(error);
      }
    }
  }
}

export class History implements Listener {
  readonly records = new Listeners<UndoEntry>();
  readonly changes = new Listeners<UndoSize>();
  readonly conflicts = new Listeners<Conflict>();
  /** Everything that was recorded is to be forgotten. */
  readonly purges = new Listeners<void>();

  /** Counts how often everything was forgotten. */
  era = 0;

  #client: Client;
  #inside: Inside;
  #writes: LocalWrites;
  #settings: Settings;
  #guards: Guards;
  #undo: Kept[] = [];
  #redo: Kept[] = [];
  #lastOrder = 0;
  /** Writes of this microtask. */
  #tick: Batch | undefined;
  #group: Batch | undefined;
  #runs: Batch[] = [];
  /** What waits for the replay that is under way. */
  #waiting: (() => void | Promise<void>)[] = [];
  #isBusy = false;
  #stops: (() => void)[];

  constructor(client: Client, inside: Inside, writes: LocalWrites, settings: Settings) {
    this.#client = client;
    this.#inside = inside;
    this.#writes = writes;
    this.#settings = settings;
    this.#guards = new Guards({
      row: (modelKey, id) => writes.row(modelKey, id),
      keyOf: (name) => writes.keyOf(name),
      write: (step, readAt) => writes.replay(() => this.#write(step, { readAt, onStale: 'notify' })),
      lost: (guarded, conflict) => this.#lost(guarded, conflict),
    });
    writes.listeners.add(this);
    this.#stops = [
      () => writes.listeners.delete(this),
      client.on('conflict:notified', ({ notifications }) => this.#guards.handle(notifications)),
      client.on('write:rejected', (event) => this.#rejected(event)),
      client.on('session:ended', () => this.purged()),
      client.onStatus(({ pendingWrites }) => {
        if (pendingWrites === 0) this.#allAnswered();
      }),
    ];
  }

  get size(): UndoSize {
    return Object.freeze({ undo: this.#undo.length, redo: this.#redo.length });
  }

  /** Both stacks, the entry of the next replay last. */
  get stacks(): { readonly undo: readonly Draft[]; readonly redo: readonly Draft[] } {
    return { undo: this.#undo.map(({ draft }) => draft), redo: this.#redo.map(({ draft }) => draft) };
  }

  /** Puts what another page has left under what there is. */
  restore(undo: readonly Draft[], redo: readonly Draft[]): void {
    const keep = (side: Kept['side']) => (draft: Draft): Kept => ({ draft, side, order: 0, isOpen: true, isRestored: true });
    if (this.#undo.length + this.#redo.length === 0) this.#redo = redo.map(keep('inverses'));
    this.#undo.unshift(...undo.map(keep('forwards')));
    this.#trim();
    this.#changed();
  }

  clear(): void {
    this.era += 1;
    this.#tick = this.#group = undefined;
    for (const run of this.#runs) run.take();
    this.#undo = [];
    this.#redo = [];
    this.#changed();
  }

  dispose(): void {
    this.era += 1;
    for (const stop of this.#stops) stop();
    this.#tick = this.#group = undefined;
    this.#undo = [];
    this.#redo = [];
  }

  /** Adds an entry, or adds it to the group that is open. */
  record(draft: Draft): void {
    const group = this.#group;
    if (group === undefined) return this.#push(draft);
    if (group.size + draft.forwards.length > STEPS_MAX) this.#cut(group);
    group.addDraft(draft);
  }

  beginGroup(label: string | undefined): void {
    this.endGroup(undefined);
    this.#group = new Batch(label);
  }

  endGroup(label: string | undefined): void {
    this.#endTick();
    const group = this.#group;
    this.#group = undefined;
    if (group === undefined) return;
    group.label = label ?? group.label;
    this.#take(group);
  }

  async run<T>(work: () => T | Promise<T>, label: string | undefined): Promise<T> {
    const run = new Batch(label);
    this.#runs.push(run);
    try {
      return await work();
    } finally {
      this.#runs = this.#runs.filter((other) => other !== run);
      this.#take(run);
    }
  }

  replay(verb: Verb): Promise<UndoResult | undefined> {
    // What was written before the call comes before it.
    this.endGroup(undefined);
    for (const run of this.#runs) this.#take(run);
    return new Promise((resolve, reject) => this.#serial(() => this.#replay(verb).then(resolve, reject)));
  }

  // What the client tells.

  isRecording(): boolean {
    return this.#settings.recordFromStream || this.#runs.length > 0;
  }

  recorded(changes: readonly Change[]): void {
    for (const change of changes) {
      if (!this.#settings.tracksModel(change.forward.modelKey as never)) continue;
      const batch = this.#runs.at(-1) ?? this.#group ?? this.#openTick();
      if (batch.size >= STEPS_MAX) this.#cut(batch);
      batch.add(change);
    }
  }

  refused(write: Step): void {
    const key = rowKey(write);
    const isMatch = (step: Step): boolean =>
      rowKey(step) === key &&
      step.kind === write.kind &&
      (step.kind !== 'update' ||
        Object.keys(write.data).some((field) => field in step.data && equal(step.data[field], write.data[field])));
    // The server answers in order: of the writes that it may be, it is the oldest.
    const open = [...this.#undo, ...this.#redo].filter(({ isOpen }) => isOpen).sort((a, b) => a.order - b.order);
    const kept = open.find(({ draft, side }) => draft[side].some(isMatch));
    if (kept !== undefined) return this.#forget(kept, key);
    const batches = [this.#group, this.#tick, ...this.#runs];
    batches.some((batch) => batch?.drop(key, isMatch));
  }

  purged(): void {
    this.clear();
    this.purges.call();
  }

  #rejected({ transaction, error }: AbloEvents['write:rejected']): void {
    const modelKey = this.#writes.keyOf(transaction.modelName);
    const { type: kind, modelId: id, data = {} } = transaction;
    if (modelKey === undefined || (kind !== 'create' && kind !== 'update' && kind !== 'delete')) return;
    const step = { kind, modelKey, id, data };
    if (error.code !== 'stale_context' || !this.#guards.wasHeld(step)) this.refused(step);
  }

  /** A guarded step was held back for good. */
  #lost({ owner, step }: Guarded, conflict: Conflict): void {
    this.#forget(owner, rowKey(step), conflict.fields);
    this.conflicts.call(conflict);
  }

  #allAnswered(): void {
    for (const kept of [...this.#undo, ...this.#redo]) kept.isOpen = false;
    this.#guards.clear();
  }

  // Recording.

  #openTick(): Batch {
    if (this.#tick === undefined) {
      this.#tick = new Batch();
      queueMicrotask(() => this.#endTick());
    }
    return this.#tick;
  }

  #endTick(): void {
    const tick = this.#tick;
    this.#tick = undefined;
    if (tick !== undefined) this.#take(tick);
  }

  /** Records what a batch has gathered, in the group if one is open. */
  #take(batch: Batch): void {
    const draft = batch.take();
    if (draft !== undefined) this.record(draft);
  }

  /** Makes what a batch has gathered so far an entry of its own. */
  #cut(batch: Batch): void {
    const draft = batch.take();
    if (draft !== undefined) this.#push(draft);
  }

  #push(draft: Draft): void {
    // A function that outlives its scope.
    if (!this.#writes.listeners.has(this)) return;
    const { era } = this;
    this.#serial(() => {
      if (era !== this.era) return;
      this.#undo.push({ draft, side: 'forwards', order: ++this.#lastOrder, isOpen: true, isRestored: false });
      this.#redo = [];
      this.#trim();
      this.records.call(toEntry(draft));
      this.#changed();
    });
  }

  #trim(): void {
    const { maxHistory } = this.#settings;
    this.#undo.splice(0, this.#undo.length - maxHistory);
    this.#redo.splice(0, this.#redo.length - maxHistory);
  }

  /** Takes out of an entry what it says about a row, and the entry when nothing is left of it. */
  #forget(kept: Kept, key: string, fields?: readonly string[]): void {
    kept.draft = without(kept.draft, key, fields);
    if (kept.draft.inverses.length + kept.draft.forwards.length === 0) {
      this.#undo = this.#undo.filter((other) => other !== kept);
      this.#redo = this.#redo.filter((other) => other !== kept);
    }
    this.#changed();
  }

  #changed(): void {
    this.changes.call(this.size);
  }

  // Replaying.

  /** Does something when what was begun before has ended: at once if it has. */
  #serial(work: () => void | Promise<void>): void {
    this.#waiting.push(work);
    this.#next();
  }

  #next(): void {
    while (!this.#isBusy && this.#waiting.length > 0) {
      // Also while it is called: its listeners may ask for more.
      this.#isBusy = true;
      const done = this.#waiting.shift()!();
      if (done === undefined) this.#isBusy = false;
      else {
        void done.then(() => {
          this.#isBusy = false;
          this.#next();
        });
      }
    }
  }

  async #replay(verb: Verb): Promise<UndoResult | undefined> {
    const isUndo = verb === 'undo';
    const from = (): Kept[] => (isUndo ? this.#undo : this.#redo);
    const next = from().at(-1);
    if (next !== undefined && (next.isRestored || this.#inside.session.core === undefined)) await this.#start();
    const kept = from().pop();
    if (kept === undefined) return undefined;
    const { era } = this;
    const { draft, side } = kept;
    const { label, inverses, forwards } = draft;
    try {
      const [steps, counterpart] = isUndo ? [inverses, forwards] : [forwards, inverses];
      const { written, writes, conflicts } = this.#carryOut(kept, steps, counterpart);
      if (written !== undefined) {
        const there = { inverses: written.forwards, forwards: written.inverses };
        Object.assign(kept, { order: ++this.#lastOrder, isOpen: true, isRestored: false, side: isUndo ? 'inverses' : 'forwards' });
        kept.draft = isUndo ? { label, ...there } : { ...written, label };
        (isUndo ? this.#redo : this.#undo).push(kept);
      }
      this.#changed();
      for (const conflict of conflicts) this.conflicts.call(conflict);
      await Promise.all(writes);
      const applied = new Set(written?.forwards.map(rowKey)).size;
      return Object.freeze({ ...(label !== undefined && { label }), applied, conflicts: Object.freeze(conflicts) });
    } catch (error) {
      if (era === this.era) {
        this.#undo = this.#undo.filter((other) => other !== kept);
        this.#redo = this.#redo.filter((other) => other !== kept);
        Object.assign(kept, { draft, side });
        from().push(kept);
        this.#changed();
      }
      throw error;
    }
  }

  /** Waits for rows: without them an entry would be in conflict with everything. */
  async #start(): Promise<void> {
    // After the end of the client this is what rejects.
    await new Promise((resolve, reject) => this.#inside.session.whenLoaded(resolve, reject));
    await this.#client.ready();
  }

  /** Writes what is left to write of `steps`, all in this turn. `counterpart` is what had been done before. */
  #carryOut(kept: Kept, steps: readonly Step[], counterpart: readonly Step[]): Outcome {
    const established = new Map<string, Data>();
    const establish = (step: Step): unknown =>
      established.set(rowKey(step), { ...established.get(rowKey(step)), ...step.data });
    counterpart.forEach(establish);
    const { lastSyncId: readAt } = this.#client.status;
    const isGuarded = readAt > 0 && this.#settings.conflictPolicy === 'skip-stale';
    // What is taken back may not have been sent. It must be there when the server judges what takes it back, so the two
    // may not be one commit: a key of its own makes the first update one, and what follows comes after it. A delete needs
    // none: the client drops what it makes pointless.
    let barrier = kept.isOpen ? { idempotencyKey: this.#inside.KIT.newId() } : {};
    const batch = new Batch();
    const changes: Change[] = [];
    const writes: Promise<unknown>[] = [];
    const conflicts: Conflict[] = [];
    const guarded: Guarded[] = [];
    for (const wish of steps) {
      const { step, replaced, conflict } = this.#plan(wish, established.get(rowKey(wish)));
      if (conflict !== undefined) conflicts.push(conflict);
      if (step === undefined) continue;
      const isNotified = isGuarded && step.kind !== 'create';
      const isFirst = isNotified && step.kind === 'update';
      const options = isNotified ? { ...(isFirst && barrier), readAt, onStale: 'notify' as const } : {};
      if (isFirst) barrier = {};
      const write = this.#writes.replay(() => this.#write(step, options));
      writes.push(write.done);
      if (!write.isTaken) {
        // All or nothing: what was written of it is taken back, and the caller hears from the promise why.
        for (const { inverse } of changes.reverse()) this.#writes.replay(() => this.#write(inverse, {})).done.catch(ignore);
        return { written: undefined, writes, conflicts: [] };
      }
      establish(step);
      for (const change of write.changes) batch.add(change);
      changes.push(...write.changes);
      if (isNotified) guarded.push({ owner: kept, step, replaced, readAt, attempts: 0 });
    }
    for (const each of guarded) this.#guards.add(each);
    return { written: batch.take(), writes, conflicts };
  }

  /** What is left to do of a step, given what the row is now and what the history had made of it. */
  #plan(wish: Step, established: Data = {}): Plan {
    const { kind, modelKey, id, data } = wish;
    const row = this.#writes.row(modelKey, id);
    const overwrites = this.#settings.conflictPolicy === 'last-writer-wins';
    const conflict = (fields: readonly string[]): Conflict => toConflict(wish, fields, row ?? {});
    const replacing = (step: Step): Plan => ({ step, replaced: valuesOf(row ?? {}, Object.keys(step.data)) });
    if (kind === 'delete') {
      const fields = Object.keys(this.#client.schema.models[modelKey]!.fields);
      return row === undefined ? NOTHING : { step: wish, replaced: valuesOf(row, fields) };
    }
    if (row === undefined) return kind === 'create' ? replacing(wish) : { ...NOTHING, conflict: conflict(Object.keys(data)) };
    const wanted = Object.keys(data).filter((field) => !equal(row[field], data[field]));
    if (wanted.length === 0) return NOTHING;
    const isStale = (field: string): boolean =>
      !overwrites && (kind === 'create' || (field in established && !equal(row[field], established[field])));
    const stale = wanted.filter(isStale);
    const rest = wanted.filter((field) => !isStale(field));
    return {
      ...(rest.length === 0 ? NOTHING : replacing({ ...wish, kind: 'update', data: pick(data, rest) })),
      ...(stale.length > 0 && { conflict: conflict(stale) }),
    };
  }

  #write({ kind, modelKey, id, data }: Step, guard: Partial<Guard>): Promise<unknown> {
    const model = this.#client[modelKey]!;
    const options = { id, wait: 'queued', ...guard } as const;
    if (kind === 'delete') return model.delete(options);
    return model[kind]({ ...options, data });
  }
}

function ignore(): void {}
