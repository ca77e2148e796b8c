/** `ablo.storage`: how the browser's storage is doing, and a report for whoever looks into trouble with it. */

import { Text } from './boundary.js';
import { AbloError, toAbloError } from './errors.js';
import type { Outbox, OutboxStage } from './outbox.js';
import type { Session } from './session.js';
import type { Status } from './status.js';

/** What the browser says of its storage. Bytes are those of the whole origin, and rounded. */
export interface StorageFigures {
  /** Whether the browser has promised not to delete it when space runs out. */
  readonly persisted: boolean;
  readonly usage?: number;
  readonly quota?: number;
}

/** What `ablo.storage.export()` tells: no field values, no names of people, no tokens, unless `records` are wanted. */
export interface StorageReport {
  readonly status: Omit<Status, 'participantId' | 'organizationId'>;
  readonly outbox: readonly {
    readonly id: string;
    readonly stage: OutboxStage;
    readonly attempts: number;
    readonly createdAt: Date;
    /** Code of the error with which the server refused it. */
    readonly code?: string | undefined;
    readonly operations: readonly {
      readonly action: string;
      readonly model?: string | undefined;
      readonly id?: string | undefined;
      /** Names of the fields that it writes. */
      readonly fields: readonly string[];
    }[];
  }[];
  /** Stored writes that could not be read and were set aside: how many, and, if wanted, their texts by their keys. */
  readonly setAside: number;
  readonly records?: Readonly<Record<string, string>>;
}

/** `ablo.storage`. */
export interface StorageClient {
  /**
   * Asks the browser how much is stored; `status.storage` has it from then on. Rejects with `storage_unavailable` where
   * the browser cannot say.
   *
   * @example
   * const { usage = 0, quota = Infinity } = await ablo.storage.estimate();
   * if (usage > 0.9 * quota) show('storage is almost full');
   */
  estimate(): Promise<StorageFigures>;
  /**
   * Asks the browser never to delete what is stored by itself; some ask the user. Resolves to whether it will not.
   * Rejects with `storage_unavailable` where it cannot be asked.
   *
   * @example
   * if (!(await ablo.storage.persist())) show('unsaved changes may be lost when space runs out');
   */
  persist(): Promise<boolean>;
  /**
   * A report on storage and outbox for support, without anything that users have written. With `records` it also has
   * the texts of writes that could not be read, which may contain what users wrote: for whoever wants to rescue them.
   *
   * @example
   * const report = await ablo.storage.export();
   * show(JSON.stringify(report, null, 2));
   */
  export(options?: { readonly records?: boolean | undefined }): Promise<StorageReport>;
}

/** Makes the `storage` member of a client. */
export function createStorage(session: Session, outbox: Outbox, status: () => Status): StorageClient {
  const ask = async <T>(question: (manager: StorageManager) => Promise<T>): Promise<T> => {
    const { storage } = globalThis.navigator ?? {};
    if (!storage) throw new AbloError('the browser does not say', { code: 'storage_unavailable' });
    try {
      return await question(storage);
    } catch (error) {
      throw toAbloError(error);
    }
  };
  const estimate = (): Promise<StorageFigures> =>
    ask(async (storage) => {
      const [persisted, { usage, quota }] = await Promise.all([storage.persisted(), storage.estimate()]);
      session.figures = { persisted, ...(usage != null && { usage }), ...(quota != null && { quota }) };
      session.status();
      return Object.freeze(session.figures);
    });
  return Object.freeze<StorageClient>({
    estimate,
    async persist() {
      const granted = await ask((storage) => storage.persist());
      await estimate();
      return granted;
    },
    async export(options) {
      const { participantId, organizationId, ...rest } = status();
      const records = JSON.parse(session.reader()?.text(Text.Aside) ?? '{}') as Record<string, string>;
      return {
        status: rest,
        setAside: Object.keys(records).length,
        ...(options?.records && { records }),
        outbox: outbox.list().map(({ id, stage, attempts, createdAt, error, operations }) => ({
          ...{ id, stage, attempts, createdAt, code: error?.code },
          operations: operations.map(({ action, model, id: row, data }) => {
            return { action, model, id: row, fields: Object.keys(data ?? {}) };
          }),
        })),
      };
    },
  });
}
