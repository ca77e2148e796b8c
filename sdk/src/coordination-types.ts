/** Types of coordination: claims, presence, joined groups, snapshots. */

import type { AbloClaimedError } from './errors.js';
import type {
  Claim,
  ClaimHandle as StatelessClaimHandle,
  ClaimOptions as StatelessClaimOptions,
  Duration,
  ModelClaim,
  ModelTarget,
  TargetRange,
} from './http-types.js';

export type { Claim, Duration, ModelClaim, ModelTarget, TargetRange };

/** A row or a part of one, by the name of its model on the wire. */
export interface EntityRef {
  readonly type: string;
  readonly id: string;
  readonly path?: string | undefined;
  readonly range?: TargetRange | undefined;
  readonly field?: string | undefined;
  readonly meta?: Readonly<Record<string, unknown>> | undefined;
}

/** What presence is about. */
export type PresenceTarget = EntityRef | readonly [type: string, id: string];

/** Options of a claim. */
export interface ClaimOptions extends StatelessClaimOptions {
  /** How long the lease is at least. While this client is connected it is renewed. Default: the server's, 60 s. */
  readonly ttl?: Duration | undefined;
  /** Give up when it has not been granted after so many milliseconds (`grant_timeout`). Default: waits for ever. */
  readonly waitTimeoutMs?: number | undefined;
  /** Gives up waiting when it is aborted (`claim_wait_aborted`). */
  readonly signal?: AbortSignal | undefined;
}

/** Parameters of `claim`. */
export type ClaimParams = ClaimOptions & { readonly id: string };

/** Which row; with `field`, what stands in the way of that field of it. */
export interface ClaimLookupParams {
  readonly id: string;
  readonly field?: string | undefined;
}

/** A lease on a row. It ends with `release`, at the end of an `await using`, or when the server takes it away. */
export interface ClaimHandle<T = unknown> extends StatelessClaimHandle<T> {
  /** The row as it is now. */
  readonly data?: T;
  /** Aborted when the claim is lost, with an {@link AbloClaimedError} `claim_lost` as its reason. */
  readonly signal: AbortSignal;
}

/** `ablo.tasks.claim`: takes a lease on a row, and tells about leases. */
export interface ModelClaims<T> {
  /**
   * Takes a lease on a row, waiting in line for it unless told otherwise. Others cannot write the row meanwhile; own writes
   * of it wait for the server, and are refused if the row was changed in a way that the holder has not seen.
   *
   * @throws AbloClaimedError `entity_claimed` with `queue: false`, `queue_too_deep`, `grant_timeout`, `claim_lost`,
   * `claim_conflict`, `claim_lease_unavailable`; AbloConnectionError `claim_wait_aborted`; AbloValidationError
   * `entity_not_found`, `duration_invalid`, `write_options_invalid`
   * @example
   * await using claim = await ablo.tasks.claim({ id: 't1', reason: 'triaging', ttl: '2m' });
   * await ablo.tasks.update({ id: 't1', data: { title: `${claim.data?.title}, urgent` }, claim });
   */
  (params: ClaimParams): Promise<ClaimHandle<T>>;
  /**
   * Who holds a row, or null when nobody does. Changes are told by `ablo.claims.onChange`.
   *
   * @example ablo.tasks.claim.state({ id: 't1' })?.heldBy; // → undefined
   */
  state(params: ClaimLookupParams): Claim | null;
  /** Who waits for a row, in order. */
  queue(params: ClaimLookupParams): { readonly object: 'list'; readonly data: readonly Claim[] };
  /** Gives back what this client holds of a row, or a handle. */
  release(params: ClaimLookupParams | ClaimHandle<unknown>): Promise<void>;
  /** Puts the line into another order: those listed come first. Needs the capability `claim.reorder`. */
  reorder(params: ClaimLookupParams & { readonly order: readonly Claim[] }): void;
}

/** A claim that was lost. */
export interface ClaimLost {
  readonly claimId: string;
  readonly error: AbloClaimedError;
}

/** `ablo.claims`: claims of any model. */
export interface ClaimClient {
  /** Announces a claim and returns at once. What becomes of it: `onRejected`, `onLost`, the handle's `signal`. */
  claim(target: PresenceTarget, options?: ClaimOptions): ClaimHandle;
  /** Takes a claim; by default without waiting in line. The row need not be here. */
  create(params: { readonly target: ModelTarget } & ClaimOptions): Promise<ClaimHandle>;
  /** Claims of other participants. */
  list(target?: Partial<ModelTarget>): readonly ModelClaim[];
  /**
   * Resolves when no other participant holds a matching claim.
   *
   * @throws AbloClaimedError `model_claimed_timeout` after `timeout` milliseconds; AbloConnectionError `claim_wait_aborted`
   */
  waitFor(
    target: Partial<ModelTarget>,
    options?: { readonly timeout?: number | undefined; readonly signal?: AbortSignal | undefined },
  ): Promise<void>;
  /** Claims of other participants. A new array when something changed. */
  readonly others: readonly Claim[];
  /** Who waits for a row, in order. */
  queueFor(target: PresenceTarget): readonly Claim[];
  reorder(target: PresenceTarget, order: readonly Claim[]): void;
  /** Calls back after claims or lines have changed. Returns the way to stop. */
  onChange(listener: () => void): () => void;
  /** Calls back when a claim made with {@link ClaimClient.claim} is refused. */
  onRejected(listener: (rejection: ClaimLost) => void): () => void;
  /** Calls back when a claim that this client held is lost. */
  onLost(listener: (lost: ClaimLost) => void): () => void;
  [Symbol.asyncIterator](): AsyncIterator<readonly Claim[]>;
}

/** What a participant is doing. */
export interface Activity {
  readonly entityType: string;
  readonly entityId: string;
  readonly path?: string | undefined;
  readonly range?: TargetRange | undefined;
  readonly field?: string | undefined;
  readonly meta?: Readonly<Record<string, unknown>> | undefined;
  /** `'editing'`, `'reading'`, `'viewing'`, `'idle'`, or another word. */
  readonly action: string;
  readonly detail?: string | undefined;
  readonly loadFactor?: number | undefined;
  readonly acceptingNewWork?: boolean | undefined;
}

/** A participant. One user in two tabs is one peer. */
export interface Peer {
  readonly participantKind: 'user' | 'agent' | 'system';
  readonly participantId: string;
  readonly label?: string;
  /** Groups that it shares with this client. */
  readonly syncGroups: readonly string[];
  readonly activity: Activity;
  /** ISO 8601. */
  readonly lastActive: string;
  readonly activeClaims?: readonly Claim[];
}

/** `ablo.presence`: who is there and what they are doing. */
export interface PresenceStream {
  readonly self: Peer;
  /**
   * Tells others what this participant does: at most ten times a second, and again after each reconnection.
   *
   * @example ablo.presence.update({ entityType: 'Task', entityId: 't1', action: 'editing', field: 'title' });
   */
  update(activity: Activity): void;
  editing(target: PresenceTarget, detail?: string): void;
  reading(target: PresenceTarget, detail?: string): void;
  viewing(target: PresenceTarget, detail?: string): void;
  idle(): void;
  /** Other participants. A new array when something changed. */
  readonly others: readonly Peer[];
  othersIn(syncGroup: string): readonly Peer[];
  /** Calls back after it has changed. Returns the way to stop. */
  onChange(listener: () => void): () => void;
  [Symbol.asyncIterator](): AsyncIterator<readonly Peer[]>;
}

/** Presence about joined groups. */
export interface ScopedPresence extends Omit<PresenceStream, 'editing' | 'reading' | 'viewing' | 'othersIn'> {
  readonly focus: EntityRef | null;
  /** Without a target: the focus. */
  editing(target?: PresenceTarget, detail?: string): void;
  reading(target?: PresenceTarget, detail?: string): void;
  viewing(target?: PresenceTarget, detail?: string): void;
}

/** Claims in joined groups. */
export interface ScopedClaims {
  readonly focus: EntityRef | null;
  readonly others: readonly Claim[];
  /** Without a target: the focus. */
  claim(options?: ClaimOptions & { readonly target?: PresenceTarget | undefined }): ClaimHandle;
  onRejected(listener: (rejection: ClaimLost) => void): () => void;
  onChange(listener: () => void): () => void;
}

/** Groups that this client has joined: those of some rows. */
export interface JoinedParticipant {
  /** What it is about; null when it was joined for several rows. */
  readonly target: EntityRef | null;
  readonly focusTarget: EntityRef | null;
  readonly syncGroups: readonly string[];
  readonly presence: ScopedPresence;
  readonly claims: ScopedClaims;
  readonly peers: readonly Peer[];
  readonly activeClaims: readonly Claim[];
  /** Turns to a row, and tells others so unless `activity` is false. Default: `'viewing'`. */
  focus(
    target: PresenceTarget,
    options?: { readonly activity?: 'reading' | 'viewing' | 'editing' | false; readonly detail?: string },
  ): JoinedParticipant;
  /** Gives back its claims, goes idle, and leaves the groups. Safe to repeat. */
  leave(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Rows as they were, and word of the first change to one of them. */
export type Snapshot<Rows = Readonly<Record<string, Readonly<Record<string, unknown>>>>> = Rows & {
  /** Watermark: what a write based on it gives as `readAt`. */
  readonly stamp: number;
  /** Aborted by the first change of a row that it holds. */
  readonly signal: AbortSignal;
  onChange(
    listener: (change: { readonly model: string; readonly id: string; readonly severity: 'semantic' }) => void,
  ): () => void;
};
