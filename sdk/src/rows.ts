/**
 * The rows of one model as JavaScript objects: made from the core's JSON on first use, frozen, and handed out again
 * until they change.
 *
 * A row that was read before costs one map look-up, a repeated query one string and one look-up; neither crosses into
 * the core. What is kept here is a cache: {@link RowCache.invalidate} is how the core says what is no longer true.
 */

import { type Core, Numbers } from './boundary.js';
import { cacheKey, type LocalOptions, queryText, splitFilter } from './reads.js';
import type { ModelDef } from './schema/model.js';
import { isWellFormed } from './values.js';

/** A row: a frozen plain object. */
export type Row = Readonly<Record<string, unknown>> & { readonly id: string };

/** Most rows asked for in one crossing: bounds the size of one JSON text. */
const BATCH_MAX = 1000;
/** Most remembered queries of a model; the oldest go first. */
const QUERIES_MAX = 256;
/** Most remembered results of filter functions over one query. Filters are often new functions, so results are compared. */
const FILTERED_MAX = 8;

const EMPTY: readonly Row[] = Object.freeze([]);
const TIMESTAMPS = ['createdAt', 'updatedAt', 'archivedAt'];

/** Names of computed fields, and how they are computed. */
export type Computed = readonly [name: string, compute: (row: Row) => unknown][];

export function computedOf(model: ModelDef): Computed {
  return Object.entries(model.computed ?? {}) as [string, (row: Row) => unknown][];
}

/** Makes a row of what JSON.parse made: timestamps become dates, computed fields getters, and it is frozen. */
export function finishRow(raw: Record<string, unknown>, computed: Computed): Row {
  for (const field of TIMESTAMPS) {
    const text = raw[field];
    if (typeof text !== 'string') continue;
    const date = new Date(text);
    if (!Number.isNaN(date.getTime())) raw[field] = date;
  }
  for (const [name, compute] of computed) {
    Object.defineProperty(raw, name, { get: () => compute(raw as Row), enumerable: false });
  }
  return deepFreeze(raw) as Row;
}

interface Answer {
  version: number;
  rows: readonly Row[];
  filtered: (readonly Row[])[];
}

export class RowCache {
  /** Goes up with every change in the model. */
  version = 0;

  #session: { reader(): Core | undefined };
  #index: number;
  #model: ModelDef;
  #computed: Computed;
  #byId = new Map<string, Row>();
  #bySlot: (Row | undefined)[] = [];
  #answers = new Map<string, Answer>();
  #counts = new Map<string, { version: number; count: number }>();

  constructor(session: { reader(): Core | undefined }, index: number, model: ModelDef) {
    this.#session = session;
    this.#index = index;
    this.#model = model;
    this.#computed = computedOf(model);
  }

  /** The row of that id, if it was read before and has not changed. */
  known(id: string): Row | undefined {
    return this.#byId.get(id);
  }

  /** The row of that id, from the core. */
  find(id: unknown): Row | undefined {
    const core = this.#session.reader();
    // A lone surrogate would cross as U+FFFD and might name another row.
    if (core === undefined || typeof id !== 'string' || !isWellFormed(id)) return undefined;
    const position = core.find(this.#index, id);
    return position === 0 ? undefined : this.take([position - 1])[0];
  }

  getAll(options: LocalOptions | undefined): readonly Row[] {
    if (options?.filter === undefined) return this.#answer(options).rows;
    const { bare, select } = splitFilter<Row>(options);
    const { rows, filtered } = this.#answer(bare);
    const result = select(rows);
    const same = filtered.find((previous) => sameRows(previous, result));
    if (same !== undefined) return same;
    if (filtered.length === FILTERED_MAX) filtered.shift();
    filtered.push(Object.freeze(result));
    return result;
  }

  getCount(options: LocalOptions | undefined): number {
    if (options?.filter !== undefined) return this.getAll({ ...options, orderBy: undefined }).length;
    const key = cacheKey(options);
    const known = this.#counts.get(key);
    if (known !== undefined && known.version === this.version) return known.count;
    const text = queryText(this.#model, options);
    const core = this.#session.reader();
    if (core === undefined) return 0;
    const count = core.numbers(Numbers.Count, this.#index, text)[0]!;
    remember(this.#counts, key, { version: this.version, count });
    return count;
  }

  #answer(options: LocalOptions | undefined): Answer {
    const key = cacheKey(options);
    const known = this.#answers.get(key);
    if (known !== undefined && known.version === this.version) return known;
    const text = queryText(this.#model, options);
    const core = this.#session.reader();
    if (core === undefined) return { version: 0, rows: EMPTY, filtered: [] };
    const rows = compact(this.take(core.numbers(Numbers.Query, this.#index, text)));
    const answer = known ?? { version: 0, rows: EMPTY, filtered: [] };
    answer.version = this.version;
    if (!sameRows(answer.rows, rows)) answer.rows = Object.freeze(rows);
    if (known === undefined) remember(this.#answers, key, answer);
    return answer;
  }

  /** The rows in these slots, in the same order. Undefined only for a slot that holds no row. */
  take(slots: ArrayLike<number>): (Row | undefined)[] {
    const rows: (Row | undefined)[] = [];
    this.fill(rows, slots, 0, slots.length);
    return rows;
  }

  /** Puts the rows of a span of slots at the same places of `rows`. Whether there was one for each slot. */
  fill(rows: (Row | undefined)[], slots: ArrayLike<number>, from: number, to: number): boolean {
    // A local name: this loop may run over a hundred thousand rows.
    const bySlot = this.#bySlot;
    const missing: number[] = [];
    for (let at = from; at < to; at += 1) {
      const row = bySlot[slots[at]!];
      rows[at] = row;
      if (row === undefined) missing.push(at);
    }
    for (let start = 0; start < missing.length; start += BATCH_MAX) {
      this.#fetch(missing.slice(start, start + BATCH_MAX).map((at) => slots[at]!));
    }
    for (const at of missing) rows[at] = this.#bySlot[slots[at]!];
    return missing.every((at) => rows[at] !== undefined);
  }

  #fetch(slots: number[]): void {
    const core = this.#session.reader();
    if (core === undefined) return;
    const rows: (Record<string, unknown> | null)[] = JSON.parse(core.rows(this.#index, Uint32Array.from(slots)));
    for (const [at, slot] of slots.entries()) {
      const raw = rows[at];
      if (raw) this.#keep(slot, raw);
    }
  }

  #keep(slot: number, raw: Record<string, unknown>): void {
    const row = finishRow(raw, this.#computed);
    // Growing step by step keeps the array dense whatever slot comes first.
    while (this.#bySlot.length < slot) this.#bySlot.push(undefined);
    this.#bySlot[slot] = row;
    this.#byId.set(row.id, row);
  }

  /** @param slots `slot * 2`, plus 1 if the row is gone */
  invalidate(slots: Uint32Array): void {
    this.version += 1;
    for (const entry of slots) {
      const slot = entry >>> 1;
      const row = this.#bySlot[slot];
      if (row === undefined) continue;
      this.#bySlot[slot] = undefined;
      if (this.#byId.get(row.id) === row) this.#byId.delete(row.id);
    }
  }

  clear(): void {
    this.version += 1;
    this.#byId.clear();
    this.#bySlot = [];
    this.#answers.clear();
    this.#counts.clear();
  }
}

/** Freezes what JSON.parse made. No recursion: how deep data may nest is not for the stack to decide. */
function deepFreeze(root: object): object {
  const open = [root];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    Object.freeze(next);
    for (const key in next) {
      const value = (next as Record<string, unknown>)[key];
      if (typeof value === 'object' && value !== null) open.push(value);
    }
  }
  return root;
}

function sameRows(a: readonly Row[], b: readonly Row[]): boolean {
  return a.length === b.length && a.every((row, at) => row === b[at]);
}

/** Drops the holes, of which there are none as long as the core keeps its promise about slots. */
export function compact(rows: (Row | undefined)[]): Row[] {
  return (rows.includes(undefined) ? rows.filter((row) => row !== undefined) : rows) as Row[];
}

function remember<V>(map: Map<string, V>, key: string, value: V): void {
  if (map.size >= QUERIES_MAX) {
    const [oldest] = map.keys();
    map.delete(oldest!);
  }
  map.set(key, value);
}
