/** The status as the application sees it: frozen snapshots that are new objects only when something changed. */

import { type CoreStatus, Text } from './boundary.js';
import { type AbloError, errorFromCore } from './errors.js';
import type { Session } from './session.js';
import type { StorageFigures } from './storage.js';

/** `ablo.status`. Moments are milliseconds since the epoch. */
export interface Status {
  readonly connection: {
    /** `'idle'` before `ready()`. */
    readonly state: string;
    readonly reason?: string;
    /** Since when it has been in this state. */
    readonly since: number;
    readonly nextAttemptAt?: number;
  };
  /** Where unsent writes are kept: `'memory'` does not survive a reload. */
  readonly durability: 'memory' | 'indexeddb';
  /** Besides `problem`, known after `storage.estimate()`. */
  readonly storage: StorageFigures & {
    /** The last trouble with it. */
    readonly problem?: AbloError;
  };
  /** Writes that the server has not confirmed yet. */
  readonly pendingWrites: number;
  /** Writes that the server refused and that nobody has dealt with. */
  readonly rejectedWrites: number;
  readonly participantId: string | null;
  readonly organizationId: string | null;
  /** Watermark up to which every change is here. */
  readonly lastSyncId: number;
}

/** `ablo.syncStatus`. */
export interface SyncStatus {
  /** `'idle'` is also the healthy state. */
  readonly state: 'idle' | 'syncing' | 'error' | 'offline' | 'reconnecting';
  /** Of the initial load, 0 to 100. */
  readonly progress: number;
  readonly error?: Error;
  /** Whether the login is over. */
  readonly isSessionError: boolean;
  readonly lastSyncAt?: Date;
  /** Writes that the server has not confirmed yet. */
  readonly pendingChanges: number;
  readonly offlineSince?: Date;
  readonly durability: Status['durability'];
}

export class StatusReader {
  #session: Session;
  #version = -1;
  #statusText = '';
  #syncText = '';
  #status: Status;
  #sync: SyncStatus;

  /** @param error found in the options: shown until the end, since nothing will start */
  constructor(session: Session, organizationId: string | null, since: number, error: AbloError | undefined) {
    this.#session = session;
    this.#status = Object.freeze({
      connection: Object.freeze({ state: 'idle', since }),
      durability: 'memory',
      storage: Object.freeze({ persisted: false }),
      pendingWrites: 0,
      rejectedWrites: 0,
      participantId: null,
      organizationId,
      lastSyncId: 0,
    });
    this.#sync = Object.freeze({
      state: error === undefined ? 'idle' : 'error',
      progress: 0,
      isSessionError: false,
      pendingChanges: 0,
      durability: 'memory',
      ...(error === undefined ? {} : { error }),
    });
  }

  get status(): Status {
    this.#update();
    return this.#status;
  }

  get sync(): SyncStatus {
    this.#update();
    return this.#sync;
  }

  #update(): void {
    const { core, statusVersion, figures } = this.#session;
    if (core === undefined || this.#version === statusVersion) return;
    this.#version = statusVersion;
    const { sync, storage, ...rest } = JSON.parse(core.text(Text.Status)!) as CoreStatus;
    const statusText = JSON.stringify([rest, storage, figures]);
    if (statusText !== this.#statusText) {
      this.#statusText = statusText;
      Object.freeze(rest.connection);
      const { problem } = storage;
      this.#status = Object.freeze({
        ...rest,
        storage: Object.freeze({ ...figures, ...(problem && { problem: errorFromCore(problem) }) }),
      });
    }
    const syncText = JSON.stringify([sync, rest.durability]);
    if (syncText === this.#syncText) return;
    this.#syncText = syncText;
    const { error, lastSyncAt, offlineSince, ...plain } = sync;
    this.#sync = Object.freeze({
      ...plain,
      durability: rest.durability,
      ...(error == null ? {} : { error: errorFromCore(error) }),
      ...(lastSyncAt == null ? {} : { lastSyncAt: new Date(lastSyncAt) }),
      ...(offlineSince == null ? {} : { offlineSince: new Date(offlineSince) }),
    });
  }
}
