/** Live lists: what `onChange` keeps up to date. */

import { Ask, type Core, Numbers } from './boundary.js';
import { type LocalOptions, queryText, splitFilter } from './reads.js';
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
 */
export function openView(
  session: Session,
  index: number,
  model: ModelDef,
  callback: (rows: readonly Row[]) => void,
  options: LocalOptions | undefined,
): () => void {
  const split = options?.filter === undefined ? undefined : splitFilter<Row>(options);
  const text = queryText(model, split?.bare ?? options);
  const view = new View(session, session.models[index]!, callback, split?.select);
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
      this.#id = core.numbers(Numbers.OpenView, index, text)[0]!;
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
    const hidden =
      this.#select &&
      result.length === this.#delivered.length &&
      result.every((row, at) => row === this.#delivered[at]);
    if (!hidden) this.#deliver(result);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#id === undefined) return;
    this.#session.removeView(this.#id);
    this.#session.tell(Ask.CloseView, this.#id);
  }

  #read(core: Core): boolean {
    const news = core.numbers(Numbers.View, this.#id!, undefined);
    if (news[0] === UNCHANGED) return false;
    if (news[0] === WINDOW) this.#replace(news.subarray(1));
    else this.#edit(news);
    return true;
  }

  #replace(slots: Uint32Array): void {
    this.#slots = Array.from(slots);
    this.#rows = [];
    this.#refill(0, this.#slots.length);
  }

  /** Edits the slots, then fetches anew the rows of the span in which anything moved or changed. */
  #edit(edits: Uint32Array): void {
    let from = Infinity;
    let to = 0;
    const { length } = this.#slots;
    for (let edit = 1; edit < edits.length; edit += EDIT_LENGTH) {
      const at = edits[edit + 1]!;
      if (edits[edit] === REMOVE) this.#slots.splice(at, 1);
      else if (edits[edit] === INSERT) this.#slots.splice(at, 0, edits[edit + 2]!);
      from = Math.min(from, at);
      to = Math.max(to, at + 1);
    }
    // Behind the last edit everything is where it was, unless there are more rows or fewer.
    this.#refill(from, this.#slots.length === length ? Math.min(to, length) : this.#slots.length);
  }

  /** Plain assignments: splicing a large array of objects takes ten times as long. */
  #refill(from: number, to: number): void {
    if (this.#rows.length > this.#slots.length) this.#rows.length = this.#slots.length;
    if (!this.#cache.fill(this.#rows, this.#slots, from, to)) this.#holes = true;
  }

  #result(): Row[] {
    const rows = this.#holes ? compact(this.#rows) : (this.#rows as Row[]);
    this.#holes = rows !== this.#rows;
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
