/** `ablo.storage`: how the browser's storage is doing, and a report for whoever looks into trouble with it. */

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

/** What `ablo.storage.export()` tells: no field values, no names of people, no tokens. */
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
   * A report on storage and outbox for support, without anything that users have written.
   *
   * @example
   * const report = await ablo.storage.export();
   * show(JSON.stringify(report, null, 2));
   */
  export(): Promise<StorageReport>;
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
    async export() {
      const { participantId, organizationId, ...rest } = status();
      return {
        status: rest,
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
