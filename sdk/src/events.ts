/** What `ablo.on` can listen to. */

import type { AbloError } from './errors.js';
import { notOneOf } from './values.js';
import type { OutboxStage } from './outbox.js';
import type { Session } from './session.js';
import type { StaleNotification } from './types.js';

/** A write, as the events of writes describe it. */
export interface TransactionInfo {
  readonly id: string;
  readonly type: 'create' | 'update' | 'delete' | 'archive' | 'unarchive';
  /** Typename of the model. */
  readonly modelName: string;
  readonly modelId: string;
  readonly modelKey: string;
  readonly data?: Readonly<Record<string, unknown>>;
  readonly previousData?: Readonly<Record<string, unknown>>;
  readonly status?: string;
  /** Milliseconds since the epoch. */
  readonly createdAt?: number;
  readonly attempts?: number;
}

/** What `onMutationFailure` tells. */
export interface MutationFailure {
  readonly transaction: TransactionInfo;
  readonly error: AbloError;
  /** Whether trying again was ruled out. */
  readonly permanent?: boolean;
}

/** Payloads by event. */
export interface AbloEvents {
  /** An operation with `onStale: 'notify'` was held back. */
  'conflict:notified': { readonly clientTxId: string; readonly notifications: readonly StaleNotification[] };
  /** An optimistic change was undone. */
  'sync:rollback': {
    readonly modelId: string;
    readonly modelName: string;
    readonly transactionType: string;
    readonly reason: string;
  };
  /** The client found that it may have missed something, and is loading it again. */
  'reconciliation:needed': { readonly reason: string } & Readonly<Record<string, unknown>>;
  /** Synchronisation failed; the client goes on trying unless the error says otherwise. */
  'sync:error': { readonly error: AbloError };
  /**
   * An entry of the outbox came, or reached its next stage. Told at most once per turn, so a stage may be passed over. An
   * entry that leaves the outbox was confirmed, or merged into another, or discarded.
   */
  'write:stage': { readonly id: string; readonly stage: OutboxStage };
  /** The server refused a write for good. */
  'write:rejected': MutationFailure & {
    /** The row as it is now, if there is one. */
    readonly currentValues?: Readonly<Record<string, unknown>>;
  };
  /** Storage in this browser gave trouble. */
  'storage:problem': { readonly error: AbloError };
  /** What an application tells others on this page: `ablo.broadcast`. */
  'sheet:selection': CollaborationEvent;
  'slide:selection': CollaborationEvent;
  'slide:cursor': CollaborationEvent;
  /** The login is over. */
  'session:ended': { readonly error: AbloError };
}

/** Payload of an event of other clients: as it was given there, and who gave it. */
export interface CollaborationEvent {
  readonly userId?: string;
  /** Milliseconds since the epoch, by the sender's clock. */
  readonly timestamp?: number;
  readonly [member: string]: unknown;
}

export const COLLABORATION = ['sheet:selection', 'slide:selection', 'slide:cursor'] as const;
const NAMES: readonly string[] = [
  ...COLLABORATION,
  ...(['conflict:notified', 'sync:rollback', 'reconciliation:needed', 'sync:error'] as const),
  ...(['write:stage', 'write:rejected', 'storage:problem', 'session:ended'] as const),
];

/** Adds a listener of an event. */
export function listen<E extends keyof AbloEvents>(
  session: Session,
  event: E,
  listener: (payload: AbloEvents[E]) => void,
): () => void {
  if (!NAMES.includes(event)) {
    throw notOneOf('event', event, NAMES, 'event');
  }
  return session.listeners(event).add(listener as (payload: unknown) => void);
}
