/** Live lists: what `onChange` keeps up to date. */

import type { Core } from './boundary.js';
import { type LocalOptions, queryText, windowOf } from './reads.js';
import { reportThrown } from './report.js';
import { compact, type Row, type RowCache } from './rows.js';
import type { ModelDef } from './schema/model.js';
import type { Session } from './session.js';

const EMPTY: readonly Row[] = Object.freeze([]);
/** What `viewRead` begins with, and the kinds of edits. See the boundary. */
const UNCHANGED = 0;
const WINDOW = 1;
const REMOVE = 0;
const INSERT = 1;
const EDIT_LENGTH = 3;

/**
 * Opens a live list and calls back at once. Returns the way to close it, which may be called more than once.
 *
 * A filter function needs every row that `where` lets through, so the core is then asked without `limit` and `offset`.
 */
export function openView(
  session: Session,
  index: number,
  model: ModelDef,
  callback: (rows: readonly Row[]) => void,
  options: LocalOptions | undefined,
): () => void {
  const bare = options?.filter === undefined ? options : { ...options, limit: undefined, offset: undefined };
  windowOf([], options);
  const text = queryText(model, bare);
  const cache = session.models[index]!;
  const filter = options?.filter;
  const select = filter && ((rows: Row[]) => windowOf(rows.filter(filter), options));
  const view = new View(session, cache, callback, select);
  view.open(index, text);
  return () => view.close();
}

class View {
  #session: Session;
  #cache: RowCache;
  #callback: (rows: readonly Row[]) => void;
  #select: ((rows: Row[]) => Row[]) | undefined;
  #id: number | undefined;
  #closed = false;
  /** The core's window, edited in place; listeners get copies. Both arrays have the same order. */
  #slots: number[] = [];
  #rows: (Row | undefined)[] = [];
  #holes = false;
  #delivered: readonly Row[] = EMPTY;

  constructor(
    session: Session,
    cache: RowCache,
    callback: (rows: readonly Row[]) => void,
    select: ((rows: Row[]) => Row[]) | undefined,
  ) {
    this.#session = session;
    this.#cache = cache;
    this.#callback = callback;
    this.#select = select;
  }

  open(index: number, text: string | undefined): void {
    const attach = (core: Core): void => {
      if (this.#closed) return;
      this.#id = core.viewOpen(index, text);
      this.#session.addView(this.#id, this);
      this.#read(core);
    };
    const core = this.#session.reader();
    if (core !== undefined) attach(core);
    this.#deliver(this.#result());
    if (core === undefined) this.#session.onLoaded((loaded) => this.#attachLate(loaded, attach));
  }

  /** The module was loaded after the first call back, which saw nothing. */
  #attachLate(core: Core, attach: (core: Core) => void): void {
    attach(core);
    const result = this.#result();
    if (result.length > 0) this.#deliver(result);
  }

  /** The core says that the window changed. */
  refresh(core: Core): void {
    if (this.#closed || !this.#read(core)) return;
    const result = this.#result();
    // With a filter, what changed may be something that nobody sees.
    const hidden = this.#select && result.length === this.#delivered.length && result.every((row, at) => row === this.#delivered[at]);
    if (!hidden) this.#deliver(result);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#id === undefined) return;
    this.#session.removeView(this.#id);
    this.#session.core?.viewClose(this.#id);
  }

  #read(core: Core): boolean {
    const news = core.viewRead(this.#id!);
    if (news[0] === UNCHANGED) return false;
    if (news[0] === WINDOW) {
      this.#slots = Array.from(news.subarray(1));
      this.#rows = this.#cache.take(this.#slots);
      this.#holes = this.#rows.includes(undefined);
    } else this.#edit(news.subarray(1));
    return true;
  }

  #edit(edits: Uint32Array): void {
    // First the slots, to know which rows the edits bring in; then those rows, in one crossing; then the rows' places.
    const brought: number[] = [];
    for (let from = 0; from < edits.length; from += EDIT_LENGTH) {
      const at = edits[from + 1]!;
      if (edits[from] === REMOVE) this.#slots.splice(at, 1);
      else if (edits[from] === INSERT) this.#slots.splice(at, 0, edits[from + 2]!);
      if (edits[from] !== REMOVE) brought.push(this.#slots[at]!);
    }
    const rows = this.#cache.take(brought);
    let next = 0;
    for (let from = 0; from < edits.length; from += EDIT_LENGTH) {
      const at = edits[from + 1]!;
      if (edits[from] === REMOVE) this.#rows.splice(at, 1);
      else if (edits[from] === INSERT) this.#rows.splice(at, 0, rows[next++]);
      else this.#rows[at] = rows[next++];
    }
    // A row that came and went within these edits need not be there any more.
    this.#holes = (this.#holes || rows.includes(undefined)) && this.#rows.includes(undefined);
  }

  #result(): Row[] {
    const rows = this.#holes ? compact(this.#rows) : (this.#rows as Row[]);
    return this.#select ? this.#select(rows) : rows.slice();
  }

  #deliver(rows: Row[]): void {
    this.#delivered = Object.freeze(rows);
    try {
      this.#callback(this.#delivered);
    } catch (error) {
      reportThrown(error);
    }
  }
}
