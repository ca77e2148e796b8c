/**
 * What a history is made of: steps, each of one row. Entries are checked and taken apart into steps, and steps that are
 * recorded one by one are put together into entries.
 */

import { AbloValidationError } from './index.js';
import type { Kit } from './stateless.js';
import type { Schema } from './schema/define.js';
import type { UndoEntry } from './undo-types.js';

export type Data = Readonly<Record<string, unknown>>;

/** A write of one row. */
export interface Step {
  readonly kind: 'create' | 'update' | 'delete';
  readonly modelKey: string;
  readonly id: string;
  /** The fields to write. Those of a delete: none. */
  readonly data: Data;
}

/** A write and what takes it back. */
export interface Change {
  readonly forward: Step;
  readonly inverse: Step;
}

/** An entry in steps. */
export interface Draft {
  readonly label?: string | undefined;
  readonly inverses: readonly Step[];
  readonly forwards: readonly Step[];
}

/** Most steps of an entry, in one direction. */
export const STEPS_MAX = 10_000;
const LABEL_MAX = 255;
const KINDS = ['create', 'update', 'delete', 'createMany', 'updateMany', 'deleteMany'];

export function rowKey({ modelKey, id }: { readonly modelKey: string; readonly id: string }): string {
  return `${modelKey}/${id}`;
}

/** Whether two values are the same as JSON. A field that is not there is null. */
export function equal(a: unknown, b: unknown): boolean {
  if (a == null || b == null) return a == b;
  if (typeof a !== 'object' || typeof b !== 'object') return a === b;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const [one, other] = [a as Data, b as Data];
  const keys = Object.keys(one);
  return (
    keys.length === Object.keys(other).length &&
    keys.every((key) => Object.hasOwn(other, key) && equal(one[key], other[key]))
  );
}

/** The values of these fields. */
export function pick(values: Data, fields: readonly string[]): Data {
  return Object.fromEntries(fields.filter((field) => Object.hasOwn(values, field)).map((field) => [field, values[field]]));
}

/**
 * An entry in steps, with everything checked: it may come from an application or from storage.
 *
 * @throws AbloValidationError `undo_entry_invalid`
 */
export function readEntry(kit: Kit, schema: Schema, entry: unknown): Draft {
  const { isPlainObject, show } = kit;
  if (!isPlainObject(entry)) throw wrong('entry', `{ label?, inverses, forwards }, got ${show(entry)}`);
  try {
    kit.checkKeys(entry, ['label', 'inverses', 'forwards'], '', 'member');
  } catch (cause) {
    throw wrong('entry', '{ label?, inverses, forwards }', cause);
  }
  const { label } = entry;
  if (label !== undefined) checkLabel(kit, label, 'undo_entry_invalid');
  const read = (list: 'inverses' | 'forwards'): Step[] => {
    const ops = entry[list];
    if (!Array.isArray(ops)) throw wrong(list, `a list of operations, got ${show(ops)}`);
    const steps = ops.flatMap((op, at) => readOp(kit, schema, op, `${list}.${at}`));
    if (steps.length > STEPS_MAX) throw wrong(list, `at most ${STEPS_MAX} rows, got ${steps.length}: record it in parts`);
    return steps;
  };
  return { label: label as string | undefined, inverses: read('inverses'), forwards: read('forwards') };
}

export function checkLabel(kit: Kit, label: unknown, code: string): void {
  if (label === undefined || (typeof label === 'string' && label.length <= LABEL_MAX)) return;
  const message = `label must be a string of up to ${LABEL_MAX} characters, got ${kit.show(label)}`;
  throw new AbloValidationError(message, { code, param: 'label' });
}

function readOp(kit: Kit, schema: Schema, op: unknown, place: string): Step[] {
  const { show } = kit;
  if (!kit.isPlainObject(op)) throw wrong(place, `an operation, got ${show(op)}`);
  const { kind, modelKey } = op;
  if (!KINDS.includes(kind as string)) throw wrong(`${place}.kind`, `one of ${KINDS.join(', ')}, got ${show(kind)}`);
  const model = Object.hasOwn(schema.models, String(modelKey)) ? schema.models[modelKey as string] : undefined;
  if (typeof modelKey !== 'string' || model === undefined) {
    throw wrong(`${place}.modelKey`, `one of ${Object.keys(schema.models).join(', ')}, got ${show(modelKey)}`);
  }
  const many = (kind as string).endsWith('Many');
  const verb = (many ? (kind as string).slice(0, -4) : kind) as Step['kind'];
  const member = { create: 'data', update: many ? 'patches' : 'patch', delete: many ? 'ids' : 'id' }[verb];
  const given = op[member];
  if (many && !Array.isArray(given)) throw wrong(`${place}.${member}`, `a list, got ${show(given)}`);
  return (many ? (given as unknown[]) : [given]).map((item, at): Step => {
    const param = many ? `${place}.${member}.${at}` : `${place}.${member}`;
    try {
      if (verb === 'delete') return { kind: verb, modelKey, id: kit.checkId(item, param), data: {} };
      const id = kit.checkId((item as Data | undefined)?.['id'], `${param}.id`);
      const text = verb === 'create' ? kit.createText(modelKey, model, item) : kit.updateText(modelKey, model, item);
      return { kind: verb, modelKey, id, data: JSON.parse(text) as Data };
    } catch (cause) {
      throw wrong(param, `${verb === 'delete' ? 'an id' : `fields of ${modelKey} with an id`}`, cause);
    }
  });
}

function wrong(param: string, expected: string, cause?: unknown): AbloValidationError {
  const why = cause instanceof Error ? `: ${cause.message}` : '';
  return new AbloValidationError(`${param} of an undo entry must be ${expected}${why}`, {
    code: 'undo_entry_invalid',
    param,
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The entry as the application sees it, and as it is stored. */
export function toEntry({ label, inverses, forwards }: Draft): UndoEntry {
  const ops = (steps: readonly Step[]) => Object.freeze(steps.map(toOp));
  return Object.freeze({ ...(label !== undefined && { label }), inverses: ops(inverses), forwards: ops(forwards) }) as UndoEntry;
}

function toOp({ kind, modelKey, id, data }: Step): object {
  if (kind === 'delete') return Object.freeze({ kind, modelKey, id });
  return Object.freeze({ kind, modelKey, [kind === 'create' ? 'data' : 'patch']: Object.freeze({ id, ...data }) });
}

interface Gathered {
  forward: Step;
  inverse: Step;
  /** How many rows had come or gone before. */
  readonly era: number;
}

/** Gathers changes into an entry. Changes of one row become one, as long as no other row comes or goes between them. */
export class Batch {
  label: string | undefined;
  #changes = new Set<Gathered>();
  /** The last change of each row. */
  #last = new Map<string, Gathered>();
  #era = 0;
  /** Entries before those changes. */
  #drafts: Draft[] = [];

  constructor(label?: string) {
    this.label = label;
  }

  /** How many steps there are, in one direction. */
  get size(): number {
    return this.#drafts.reduce((sum, { forwards }) => sum + forwards.length, this.#changes.size);
  }

  add({ forward, inverse }: Change): void {
    const key = rowKey(forward);
    const last = this.#last.get(key);
    const before = last?.era === this.#era ? last : undefined;
    if (before !== undefined && forward.kind === 'update' && before.forward.kind !== 'delete') {
      before.forward = { ...before.forward, data: { ...before.forward.data, ...forward.data } };
      if (before.inverse.kind === 'update') {
        before.inverse = { ...before.inverse, data: { ...inverse.data, ...before.inverse.data } };
      }
      return;
    }
    let back = inverse;
    if (before !== undefined && forward.kind === 'delete' && before.forward.kind !== 'delete') {
      this.#changes.delete(before);
      this.#last.delete(key);
      if (before.forward.kind === 'create') return;
      back = { ...inverse, data: { ...inverse.data, ...before.inverse.data } };
    }
    if (forward.kind !== 'update') this.#era += 1;
    const gathered = { forward, inverse: back, era: this.#era };
    this.#changes.add(gathered);
    this.#last.set(key, gathered);
  }

  addDraft(draft: Draft): void {
    this.#seal();
    this.#drafts.push(draft);
  }

  /** Takes out everything about a row whose write matches. Whether there was one. */
  drop(key: string, matches: (step: Step) => boolean): boolean {
    this.#seal();
    const found = this.#drafts.some(({ forwards }) => forwards.some(matches));
    if (found) this.#drafts = this.#drafts.map((draft) => without(draft, key));
    return found;
  }

  /** What was gathered, of which there is nothing left here. */
  take(): Draft | undefined {
    this.#seal();
    const drafts = this.#drafts.splice(0);
    const forwards = drafts.flatMap((draft) => draft.forwards);
    const inverses = drafts.reverse().flatMap((draft) => draft.inverses);
    return forwards.length + inverses.length === 0 ? undefined : { label: this.label, inverses, forwards };
  }

  #seal(): void {
    const changes = [...this.#changes].flatMap(({ forward, inverse }) => {
      if (forward.kind !== 'update') return [{ forward, inverse }];
      // A value that came back is no change.
      const fields = Object.keys(forward.data).filter((field) => !equal(forward.data[field], inverse.data[field]));
      if (fields.length === 0) return [];
      const only = (step: Step): Step => ({ ...step, data: pick(step.data, fields) });
      return [{ forward: only(forward), inverse: only(inverse) }];
    });
    this.#changes.clear();
    this.#last.clear();
    if (changes.length === 0) return;
    const forwards = changes.map(({ forward }) => forward);
    this.#drafts.push({ forwards, inverses: changes.reverse().map(({ inverse }) => inverse) });
  }
}

/** The entry without what concerns a row, or without these fields of it. */
export function without(draft: Draft, key: string, fields?: readonly string[]): Draft {
  const keep = (step: Step): Step[] => {
    if (rowKey(step) !== key) return [step];
    if (fields === undefined || step.kind !== 'update') return [];
    const rest = Object.keys(step.data).filter((field) => !fields.includes(field));
    return rest.length === 0 ? [] : [{ ...step, data: pick(step.data, rest) }];
  };
  return { ...draft, inverses: draft.inverses.flatMap(keep), forwards: draft.forwards.flatMap(keep) };
}
