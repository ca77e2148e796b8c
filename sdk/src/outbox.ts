/** `ablo.outbox`: writes on their way and writes refused, as one list. */

import type { CoreError } from './boundary.js';
import { Ask, Text } from './boundary.js';
import { type AbloError, errorFromCore, toAbloError } from './errors.js';
import { checkListener } from './report.js';
import type { Session } from './session.js';
import { ask } from './session.js';
import type { CommitOperationInput } from './types.js';
import { checkJson } from './values.js';

/**
 * How far a write has come: `'applied'` it shows on this page; `'journaled'` this device has it; `'sent'` it is on its
 * way, or accepted and not confirmed yet; `'rejected'` the server refused it and it is undone.
 */
export type OutboxStage = 'applied' | 'journaled' | 'sent' | 'rejected';

/** Writes that are sent together, or one that was refused. */
export interface OutboxEntry {
  readonly id: string;
  readonly stage: OutboxStage;
  /** What it writes. `model` is the name that goes to the server. */
  readonly operations: readonly CommitOperationInput[];
  /** How often it was sent. */
  readonly attempts: number;
  readonly createdAt: Date;
  /** Why it was refused. */
  readonly error?: AbloError;
  /** The row of a refused write as it is now, if there is one. */
  readonly currentValues?: Readonly<Record<string, unknown>>;
}

/** `ablo.outbox`. With `persistence: 'indexeddb'` its entries survive a reload. */
export interface Outbox {
  /**
   * Writes on their way in their order, then refused ones, oldest first. Frozen, and the same array until something in
   * it changed.
   *
   * @example
   * await ablo.tasks.create({ data: { title: 'Call back' } });
   * const unsaved = ablo.outbox.list().flatMap(({ operations }) => operations);
   * show(`${unsaved.length} changes not saved yet`);
   * const refused = ablo.outbox.list({ stage: 'rejected' });
   * refused.length; // → 0
   */
  list(options?: { readonly stage?: OutboxStage | undefined }): readonly OutboxEntry[];
  /**
   * The entry of this id, while there is one.
   *
   * @example ablo.outbox.get('no such entry'); // → undefined
   */
  get(id: string): OutboxEntry | undefined;
  /**
   * Calls back after something in the list changed, not at once. Returns the way to stop.
   *
   * @example
   * const stop = ablo.outbox.onChange((entries) => {
   *   render(entries.filter(({ stage }) => stage === 'rejected'));
   * });
   */
  onChange(listener: (entries: readonly OutboxEntry[]) => void): () => void;
  /**
   * Writes a refused write again. Resolves when it is on its way; `entity_not_found` when there is none of this id.
   *
   * @example
   * for (const { id, error } of ablo.outbox.list({ stage: 'rejected' })) {
   *   if (error?.retryable) await ablo.outbox.retry(id);
   * }
   */
  retry(id: string): Promise<void>;
  /**
   * Writes a refused write again with other data: these fields replace those of the same name.
   *
   * @example
   * const [refused] = ablo.outbox.list({ stage: 'rejected' });
   * if (refused?.error?.code === 'too_long') await ablo.outbox.edit(refused.id, { title: 'Shorter' });
   */
  edit(id: string, data: Readonly<Record<string, unknown>>): Promise<void>;
  /**
   * Forgets a refused write. Resolves when this device has forgotten it.
   *
   * @example
   * for (const { id } of ablo.outbox.list({ stage: 'rejected' })) await ablo.outbox.discard(id);
   */
  discard(id: string): Promise<void>;
}

/** An entry as it crosses. */
type Crossing = Omit<OutboxEntry, 'operations' | 'createdAt' | 'error'> & {
  readonly operations: readonly { readonly type: string; readonly input?: object }[];
  readonly createdAt: number;
  readonly error?: CoreError;
};

/** Makes the `outbox` member of a client. */
export function createOutbox(session: Session): Outbox {
  let version = -1;
  let text = '[]';
  let entries: readonly OutboxEntry[] = Object.freeze([]);
  const current = (): readonly OutboxEntry[] => {
    const { statusVersion } = session;
    const core = session.reader();
    if (core !== undefined && version !== statusVersion) {
      // Reading the status asks to be told of the next change.
      core.text(Text.Status);
      version = statusVersion;
      const next = core.text(Text.Outbox)!;
      if (next !== text) entries = Object.freeze((JSON.parse((text = next), freezing) as Crossing[]).map(readEntry));
    }
    return entries;
  };
  const change = async (call: Parameters<Session['send']>[0]): Promise<void> => session.send(call, () => undefined);
  return Object.freeze<Outbox>({
    list: (options) => {
      const stage = options?.stage;
      return stage === undefined ? current() : Object.freeze(current().filter((entry) => entry.stage === stage));
    },
    get: (id) => current().find((entry) => entry.id === id),
    onChange(listener) {
      checkListener(listener);
      let told = current();
      return session.statusChanges.add(() => {
        if (told !== current()) listener((told = entries));
      });
    },
    retry: (id) => change(ask(Ask.Retry, 0, id)),
    async edit(id, data) {
      try {
        checkJson(data, 'data');
        const fields = JSON.stringify(data ?? null);
        await change(ask(Ask.Retry, 0, id, fields));
      } catch (error) {
        throw toAbloError(error);
      }
    },
    discard: (id) => change(ask(Ask.Discard, 0, id)),
  });
}

/** Makes what tells `write:stage` from its first call on. */
export function createStages(session: Session, outbox: Outbox): () => void {
  const read = (): Map<string, OutboxStage> => new Map(outbox.list().map(({ id, stage }) => [id, stage]));
  let known: Map<string, OutboxStage> | undefined;
  return () => {
    if (known !== undefined) return;
    known = read();
    outbox.onChange(() => {
      const before = known;
      known = read();
      for (const [id, stage] of known) {
        if (before?.get(id) !== stage) session.events.get('write:stage')?.call({ id, stage });
      }
    });
  };
}

const freezing = (_: string, value: unknown): unknown => Object.freeze(value);

function readEntry({ operations, createdAt, error, ...rest }: Crossing): OutboxEntry {
  return Object.freeze({
    ...rest,
    operations: Object.freeze(
      operations.map(({ type, input, ...target }) =>
        Object.freeze({ action: type.toLowerCase(), ...target, ...(input && { data: input }) }),
      ),
    ) as OutboxEntry['operations'],
    createdAt: new Date(createdAt),
    ...(error && { error: errorFromCore(error) }),
  });
}
