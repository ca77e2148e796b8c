/**
 * Replays that the server may hold back (`onStale: 'notify'`), and what becomes of those that it does: what somebody else
 * has changed is lost and told, the rest is written again.
 */

import type { StaleNotification } from './types.js';
import type { Row } from './rows.js';
import { type Data, equal, pick, rowKey, type Step } from './undo-entry.js';
import type { Conflict, Kept } from './undo-history.js';
import type { Replay } from './undo-writes.js';

/** A guarded write of a replay. */
export interface Guarded {
  readonly owner: Kept;
  readonly step: Step;
  /** What it was to replace: of a delete, the row. */
  readonly replaced: Data;
  readonly readAt: number;
  /** How often it was written again. */
  readonly attempts: number;
}

/** What the history lends. */
interface Hands {
  row(modelKey: string, id: string): Row | undefined;
  keyOf(name: string): string | undefined;
  write(step: Step, readAt: number): Replay & { readonly done: Promise<unknown> };
  lost(guarded: Guarded, conflict: Conflict): void;
}

/** Most writes that are waited for. Of older ones no conflict is told. */
const WAITING_MAX = 10_000;
/** How often a write is made again whose row has only changed by this client's own doing. */
const ATTEMPTS_MAX = 3;

export class Guards {
  #hands: Hands;
  /** In the order in which they were made. */
  #waiting: Guarded[] = [];
  /** Held back: the client is about to say that they were undone. */
  #held: Step[] = [];

  constructor(hands: Hands) {
    this.#hands = hands;
  }

  add(guarded: Guarded): void {
    this.#waiting.push(guarded);
    if (this.#waiting.length > WAITING_MAX) this.#waiting.shift();
  }

  /** The server has answered everything. */
  clear(): void {
    this.#waiting = [];
    this.#held = [];
  }

  /** Whether a write that was undone is one that was held back. */
  wasHeld(write: Step): boolean {
    const fields = Object.keys(write.data);
    const at = this.#held.findIndex(
      (step) =>
        rowKey(step) === rowKey(write) && step.kind === write.kind && fields.every((field) => field in step.data),
    );
    if (at >= 0) this.#held.splice(at, 1);
    return at >= 0;
  }

  handle(notifications: readonly StaleNotification[]): void {
    for (const notification of notifications) {
      const { model, id, readAt } = notification;
      const modelKey = this.#hands.keyOf(model);
      const at = this.#waiting.findIndex(
        ({ step, readAt: own }) => step.modelKey === modelKey && step.id === id && own === readAt,
      );
      if (at < 0) continue;
      const [guarded] = this.#waiting.splice(at, 1);
      this.#held.push(guarded!.step);
      if (guarded!.step.kind === 'delete') this.#answerDelete(guarded!, notification);
      else this.#answerUpdate(guarded!, notification, this.#waiting.slice(at));
    }
  }

  #answerDelete(guarded: Guarded, { conflictingFields, currentValues, ...rest }: StaleNotification): void {
    // It is gone, as was wanted.
    if (Object.keys(currentValues).length === 0) return;
    const { step, replaced } = guarded;
    // Without names of fields it may have changed in any.
    const fields = conflictingFields.length > 0 ? conflictingFields : Object.keys(replaced);
    const lost = fields.filter((field) => !equal(currentValues[field], replaced[field]));
    const isOver = lost.length > 0 || guarded.attempts === ATTEMPTS_MAX;
    if (isOver) this.#lose(guarded, lost.length > 0 ? lost : fields, currentValues, rest.writtenBy);
    else if (this.#hands.row(step.modelKey, step.id) !== undefined) this.#again(guarded, step, rest.observedSyncId);
  }

  /** `later` are writes that were made after this one. */
  #answerUpdate(guarded: Guarded, notification: StaleNotification, later: readonly Guarded[]): void {
    const { conflictingFields, currentValues, observedSyncId, writtenBy } = notification;
    const { step, replaced } = guarded;
    const row = this.#hands.row(step.modelKey, step.id);
    const isOurs = (field: string): boolean => {
      const isNamed = conflictingFields.length === 0 || conflictingFields.includes(field);
      const isSame = Object.hasOwn(currentValues, field) && equal(currentValues[field], replaced[field]);
      return guarded.attempts < ATTEMPTS_MAX && (!isNamed || isSame) && row !== undefined && equal(row[field], replaced[field]);
    };
    // What a later replay writes again takes the place of this one, and replaces what this one was to replace.
    const isTaken = (field: string): boolean => {
      const next = later.find((other) => rowKey(other.step) === rowKey(step) && field in other.step.data);
      if (next !== undefined) Object.assign(next.replaced, { [field]: replaced[field] });
      return next !== undefined;
    };
    const fields = Object.keys(step.data).filter((field) => !isTaken(field));
    const ours = fields.filter(isOurs);
    const lost = fields.filter((field) => !ours.includes(field));
    if (ours.length > 0) this.#again(guarded, { ...step, data: pick(step.data, ours) }, observedSyncId);
    if (lost.length > 0) this.#lose(guarded, lost, currentValues, writtenBy);
  }

  #again(guarded: Guarded, step: Step, readAt: number): void {
    const { done } = this.#hands.write(step, readAt);
    done.catch(() => undefined);
    this.add({ ...guarded, step, readAt, attempts: guarded.attempts + 1 });
  }

  #lose(guarded: Guarded, fields: readonly string[], current: Data, writtenBy: Conflict['writtenBy']): void {
    this.#hands.lost(guarded, toConflict(guarded.step, fields, current, writtenBy));
  }
}

/** The values of these fields, null where there is none. */
export function valuesOf(row: Data, fields: readonly string[]): Data {
  return Object.fromEntries(fields.map((field) => [field, row[field] ?? null]));
}

/** `current` is the row as it is now, or what is known of it; empty when it is gone. */
export function toConflict(
  { modelKey, id }: Step,
  fields: readonly string[],
  current: Data,
  writtenBy?: Conflict['writtenBy'],
): Conflict {
  const isGone = Object.keys(current).length === 0;
  return Object.freeze({
    modelKey: modelKey as never,
    id,
    fields: Object.freeze([...fields]),
    currentValues: Object.freeze(isGone ? {} : valuesOf(current, fields)),
    ...(writtenBy && { writtenBy: Object.freeze({ ...writtenBy }) }),
  });
}
