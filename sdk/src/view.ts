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
  /** The core's window, edited in place; listeners get copies. */
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
      this.#rows = this.#cache.take(news.subarray(1));
      this.#holes = this.#rows.includes(undefined);
    } else this.#edit(news.subarray(1));
    return true;
  }

  #edit(edits: Uint32Array): void {
    // All rows that the edits bring in, in one crossing.
    const slots: number[] = [];
    for (let at = 0; at < edits.length; at += EDIT_LENGTH) if (edits[at] !== REMOVE) slots.push(edits[at + 2]!);
    const rows = this.#cache.take(slots);
    this.#holes ||= rows.includes(undefined);
    let next = 0;
    for (let at = 0; at < edits.length; at += EDIT_LENGTH) {
      const kind = edits[at];
      const position = edits[at + 1]!;
      if (kind === REMOVE) this.#rows.splice(position, 1);
      else if (kind === INSERT) this.#rows.splice(position, 0, rows[next++]);
      else this.#rows[position] = rows[next++];
    }
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
