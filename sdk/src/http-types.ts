/** Types of the stateless client. No code. */

import type { CredentialResolver } from './credential.js';
import type { Schema } from './schema/define.js';
import type { InferCreate, InferModel, InferModelNames, InferUpdate } from './schema/infer.js';
import type { CommitOperationInput, CommitReceipt, OnStale, ReadDependency } from './types.js';

/** Options of `Ablo()` for the stateless client. */
export interface AbloHttpOptions<S = Schema> {
  /** The result of `defineSchema`. */
  readonly schema: S;
  /** Selects this client. */
  readonly transport: 'http';
  /**
   * A key, or a function that obtains one. Any kind is used as it stands; nothing is exchanged. Default: environment
   * variable `ABLO_API_KEY`, where there is one. A function is asked once for all calls that wait for it, again ahead of
   * the end of what it gave, and when the server says that the key's time is over.
   */
  readonly apiKey?: string | CredentialResolver | null | undefined;
  /** The address of an endpoint of yours that mints tokens, as in the live client. */
  readonly authEndpoint?: string | null | undefined;
  /** A ready-made bearer token. */
  readonly authToken?: string | null | undefined;
  /** The server. Default: `https://api.abloatai.com`. A missing scheme means https. */
  readonly baseURL?: string | null | undefined;
  /** Replaces `globalThis.fetch` for every request. */
  readonly fetch?: typeof globalThis.fetch | undefined;
  /** Headers of every request. `null` removes one that the client would send. */
  readonly defaultHeaders?: Readonly<Record<string, string | null | undefined>> | undefined;
  /** Query parameters of every request. */
  readonly defaultQuery?: Readonly<Record<string, string | undefined>> | undefined;
  /** Permits a secret key (`sk_…`) where everybody can read it. Default: false. */
  readonly dangerouslyAllowBrowser?: boolean | undefined;
}

/** A length of time: a number of seconds, or a text such as `'500ms'`, `'30s'`, `'2m'`, `'1h'`. */
export type Duration = number | `${number}${'ms' | 's' | 'm' | 'h'}`;

/** Lines and columns of a document-like row. */
export interface TargetRange {
  readonly startLine: number;
  readonly endLine: number;
  readonly startColumn?: number | undefined;
  readonly endColumn?: number | undefined;
}

/** A row, or a part of one. */
export interface ModelTarget {
  /** Key or typename of the model. */
  readonly model: string;
  readonly id: string;
  readonly field?: string | undefined;
  readonly path?: string | undefined;
  readonly range?: TargetRange | undefined;
  readonly meta?: Readonly<Record<string, unknown>> | undefined;
}

/** Options of a claim. */
export interface ClaimOptions {
  /** What it is for, shown to others. Default: `'editing'`; `'creating'` for a claim around a create. */
  readonly reason?: string | undefined;
  /** Explains it to others. */
  readonly description?: string | undefined;
  /** A field of the row: the others are left to others. Default: the whole row. */
  readonly field?: string | undefined;
  /** Shown to others, as `range` is; narrows nothing. */
  readonly path?: string | undefined;
  readonly range?: TargetRange | undefined;
  /** Data of the application. */
  readonly meta?: Readonly<Record<string, unknown>> | undefined;
  /** How long the lease is. It is not renewed: there is no connection that keeps it alive. Default: the server's, 60 s. */
  readonly ttl?: Duration | undefined;
  /** Take a place in line when the row is held (default), or fail. */
  readonly queue?: boolean | undefined;
  /** Give the place in line back, and fail, when so many wait already. */
  readonly maxQueueDepth?: number | undefined;
}

/** How to wait for somebody else's claim to end. There is no socket to be told on, so the server is asked. */
export interface WaitOptions {
  /** How often to ask, in milliseconds. Without it nothing waits. */
  readonly pollInterval?: number | undefined;
  /** Ends the wait, with `claim_wait_aborted`. */
  readonly signal?: AbortSignal | undefined;
}

/** Parameters of `claim`. With `pollInterval` it waits for its turn; without, a held row is an error. */
export type ClaimParams = ClaimOptions &
  WaitOptions & {
    readonly id: string;
    /** How long to wait at most, in milliseconds. Default: as long as the place in line lasts. */
    readonly waitTimeoutMs?: number | undefined;
  };

/** A lease on a row. It ends with {@link ClaimHandle.release}, at the end of an `await using`, or with its time. */
export interface ClaimHandle<T = unknown> {
  readonly object: 'claim';
  readonly claimId: string;
  /** Whether it stood in line. */
  readonly waited: boolean;
  /** Watermark at which the row was read, after it was claimed. Writes under the claim are checked against it. */
  readonly readAt?: number;
  readonly target: ModelTarget;
  readonly reason: string;
  readonly description?: string;
  /** The row, read after it was claimed. */
  readonly data?: T;
  /** Gives the claim up. Safe to repeat; a claim that has ended is no error. */
  release(): Promise<void>;
  /** As {@link ClaimHandle.release}, without waiting or errors. */
  revoke(): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A claim as `claim.state` and `claim.queue` tell it. */
export interface Claim {
  readonly object: 'claim';
  readonly id: string;
  readonly status: 'active' | 'queued' | 'committed' | 'expired' | 'canceled';
  readonly target: { readonly type: string; readonly id: string; readonly fieldOnly?: boolean } & Omit<ModelTarget, 'model' | 'id'>;
  readonly reason: string;
  readonly description?: string;
  readonly heldBy: string;
  readonly participantKind: 'user' | 'agent' | 'system';
  /** Milliseconds since the epoch. */
  readonly createdAt?: number;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  /** How many wait before it. */
  readonly position?: number;
}

/** A claim as rows and `claims.list` tell it. */
export interface ModelClaim {
  readonly id: string;
  readonly actor: string;
  readonly participantKind: 'user' | 'agent' | 'system';
  readonly reason: string;
  readonly description?: string;
  readonly field?: string;
  readonly status?: 'active' | 'queued';
  readonly position?: number;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  readonly target: ModelTarget;
}

/** What `retrieve` resolves to. */
export interface ModelRead<T> {
  readonly data: T;
  /** Watermark of the read: what a later write may give as `readAt`. */
  readonly stamp: number;
  /** Who holds the row. */
  readonly claims: readonly ModelClaim[];
}

/** What to do about a row that another participant holds: go on (default), or fail with `model_claimed`. */
export type IfClaimedPolicy = 'return' | 'fail';

/** Options of every write of the stateless client. */
export interface HttpMutationOptions {
  /** Accepted for the sake of code that works with both clients: this one settles with the server's answer either way. */
  readonly wait?: 'queued' | 'confirmed' | undefined;
  /** Watermark that the decision was based on: engages the stale check. Default: that of `claim`. */
  readonly readAt?: number | null | undefined;
  /** Default, when there is a watermark: `'reject'`. */
  readonly onStale?: OnStale | null | undefined;
  /** 1 to 255 characters. The same key with the same write is applied once. Default: a new UUID. */
  readonly idempotencyKey?: string | null | undefined;
  /** Act under a claim that is known by its id only. */
  readonly claimRef?: string | { readonly id: string } | null | undefined;
  /** What the write was based on, checked together with it. */
  readonly reads?: readonly ReadDependency[] | null | undefined;
}

/** Options of a write of one row. */
export type HttpWriteOptions = HttpMutationOptions & {
  /** A claim to write under; or options of one to take for this write alone and give back after it. */
  readonly claim?: ClaimHandle<unknown> | ClaimOptions | null | undefined;
  readonly ifClaimed?: IfClaimedPolicy | undefined;
};

/** Options of `list`. */
export interface HttpListOptions<T> {
  /** Fields and the texts, numbers or booleans that they must be equal to. The server takes no other conditions this way. */
  readonly where?:
    | { readonly [K in keyof T]?: Extract<T[K], string | number | boolean | Date> | string | number | boolean | undefined }
    | readonly (readonly [field: keyof T & string, value: string | number | boolean])[]
    | undefined;
  /** One field and its direction. */
  readonly orderBy?: { readonly [K in keyof T]?: 'asc' | 'desc' } | undefined;
  /** Most rows. Default: the server's, 20. A server may return fewer: ours at most 100. */
  readonly limit?: number | undefined;
  /** The id of the row after which to go on, in the same order. */
  readonly startingAfter?: string | undefined;
  /** Accepted for the sake of code that works with both clients: this one always asks the server. */
  readonly type?: 'complete' | 'unknown' | undefined;
}

/**
 * The rows of one model, over HTTP. Every call is a request; nothing is kept.
 *
 * @example
 * const desk = Ablo({ schema, transport: 'http', baseURL: 'https://sync.example.com', apiKey: 'rk_test_bot' });
 * const { data, stamp } = await desk.tasks.retrieve({ id: 't1' });
 * await desk.tasks.update({ id: 't1', data: { title: `${data.title}!` }, readAt: stamp });
 */
export interface HttpModel<T, C = Readonly<Record<string, unknown>>, U = C> {
  /**
   * One row, the watermark of the read, and who holds it.
   *
   * @throws AbloValidationError `model_not_found`; AbloClaimedError `model_claimed` with `ifClaimed: 'fail'`
   * @example
   * const desk = Ablo({ schema, transport: 'http', baseURL: 'https://sync.example.com', apiKey: 'rk_test_bot' });
   * const { data, claims } = await desk.tasks.retrieve({ id: 't1' });
   * data.title; // → 'Call back'
   * claims.length; // → 0
   */
  retrieve(params: {
    readonly id: string;
    readonly ifClaimed?: IfClaimedPolicy | undefined;
    readonly type?: 'complete' | 'unknown' | undefined;
  }): Promise<ModelRead<T>>;
  /**
   * A page of the rows that match.
   *
   * @throws AbloValidationError `invalid_options` for what this way of asking has no words for
   * @example
   * const desk = Ablo({ schema, transport: 'http', baseURL: 'https://sync.example.com', apiKey: 'rk_test_bot' });
   * const open = await desk.tasks.list({ where: { done: false }, orderBy: { rank: 'desc' }, limit: 1 });
   * open.map((task) => task.title); // → ['Send the invoice']
   * const rest = await desk.tasks.list({ where: { done: false }, orderBy: { rank: 'desc' }, startingAfter: open[0]?.id });
   * rest.length; // → 1
   */
  list(options?: HttpListOptions<T>): Promise<readonly T[]>;
  /**
   * Adds a row. Fills in defaults.
   *
   * @example
   * const desk = Ablo({ schema, transport: 'http', baseURL: 'https://sync.example.com', apiKey: 'rk_test_bot' });
   * const receipt = await desk.tasks.create({ id: 't3', data: { title: 'Order paper' }, idempotencyKey: 'order-7' });
   * receipt.status; // → 'confirmed'
   */
  create(params: HttpWriteOptions & { readonly data: C; readonly id?: string | null | undefined }): Promise<CommitReceipt>;
  /**
   * Changes fields of a row.
   *
   * @throws AbloStaleContextError `stale_context`; AbloClaimedError `entity_claimed`, `claim_lost`
   * @example
   * const desk = Ablo({ schema, transport: 'http', baseURL: 'https://sync.example.com', apiKey: 'rk_test_bot' });
   * await desk.tasks.update({ id: 't1', data: { done: true }, claim: { reason: 'closing', ttl: '30s' } });
   */
  update(params: HttpWriteOptions & { readonly id: string; readonly data: U }): Promise<CommitReceipt>;
  /**
   * Removes a row.
   *
   * @example
   * const desk = Ablo({ schema, transport: 'http', baseURL: 'https://sync.example.com', apiKey: 'rk_test_bot' });
   * await desk.tasks.delete({ id: 't2' });
   */
  delete(params: HttpWriteOptions & { readonly id: string }): Promise<CommitReceipt>;
  /** Claims of its rows. */
  readonly claim: HttpModelClaims<T>;
}

/** `desk.tasks.claim`: takes a lease on a row, and tells about leases. */
export interface HttpModelClaims<T> {
  /**
   * Takes a lease on a row and reads it.
   *
   * @throws AbloClaimedError `claim_queued` (held; there is a place in line, `details.claimId`, `details.position`),
   * `entity_claimed` with `queue: false`, `queue_too_deep`, `grant_timeout`, `claim_lost`; AbloConnectionError
   * `claim_wait_aborted`; AbloValidationError `entity_not_found`, `duration_invalid`, `claim_wait_poll_interval_required`
   * @example
   * const desk = Ablo({ schema, transport: 'http', baseURL: 'https://sync.example.com', apiKey: 'rk_test_bot' });
   * {
   *   await using claim = await desk.tasks.claim({ id: 't1', reason: 'triaging', ttl: '2m', pollInterval: 500 });
   *   await desk.tasks.update({ id: 't1', data: { title: `${claim.data?.title}, urgent` }, claim });
   * }
   * (await desk.tasks.claim.state({ id: 't1' })) === null; // → true
   */
  (params: ClaimParams): Promise<ClaimHandle<T>>;
  /** Who holds a row; null when nobody does. */
  state(params: { readonly id: string; readonly field?: string | undefined }): Promise<Claim | null>;
  /** Who waits for a row, in order. */
  queue(params: {
    readonly id: string;
    readonly field?: string | undefined;
  }): Promise<{ readonly object: 'list'; readonly data: readonly Claim[] }>;
  /** Gives up what this participant holds of a row, places in line too; of a handle, that claim. */
  release(params: { readonly id: string } | ClaimHandle<unknown>): Promise<void>;
  /** Puts the line into another order. Needs the capability `claim.reorder`. */
  reorder(params: { readonly id: string; readonly order: readonly Claim[] }): Promise<void>;
}

/** Options of `commits.create`: one `operation` or several `operations`. */
export interface HttpCommitOptions extends HttpMutationOptions {
  readonly operation?: CommitOperationInput | undefined;
  readonly operations?: readonly CommitOperationInput[] | undefined;
  /** Made under this claim, checked against its watermark. */
  readonly claim?: ClaimHandle<unknown> | null | undefined;
}

/** `desk.claims`: claims of any model. */
export interface HttpClaims {
  /** Takes a lease without reading the row. As `claim` of a model otherwise. */
  create(
    params: Omit<ClaimOptions, 'field' | 'path' | 'range' | 'meta'> &
      WaitOptions & { readonly target: ModelTarget; readonly waitTimeoutMs?: number | undefined },
  ): Promise<ClaimHandle>;
  /** Who holds what; everything that this key sees without a `target`. */
  list(target?: {
    readonly model?: string | undefined;
    readonly id?: string | undefined;
    readonly field?: string | undefined;
  }): Promise<readonly ModelClaim[]>;
  /**
   * Waits until nobody else holds a row.
   *
   * @throws AbloClaimedError `model_claimed_timeout` after `timeout` milliseconds; AbloConnectionError `claim_wait_aborted`;
   * AbloValidationError `claim_wait_poll_interval_required`
   * @example
   * const desk = Ablo({ schema, transport: 'http', baseURL: 'https://sync.example.com', apiKey: 'rk_test_bot' });
   * await desk.claims.waitFor({ model: 'tasks', id: 't1' }, { pollInterval: 500, timeout: 10_000 });
   */
  waitFor(
    target: { readonly model: string; readonly id: string; readonly field?: string | undefined },
    options: WaitOptions & { readonly timeout?: number | undefined },
  ): Promise<void>;
}

/** Parameters of `sessions.create`: for a user, or for an agent with what it may do. */
export type SessionParams<S> = {
  readonly syncGroups?: readonly string[] | undefined;
  /** Default: 900. */
  readonly ttlSeconds?: number | undefined;
} & (
  | { readonly user: { readonly id: string }; readonly organizationId?: string | undefined }
  | {
      readonly agent: { readonly id: string };
      readonly can: { readonly [K in InferModelNames<S>]?: readonly ('read' | 'create' | 'update' | 'delete')[] };
      readonly userMeta?: Readonly<Record<string, unknown>> | undefined;
    }
);

/** A short-lived key. */
export interface AbloSession {
  readonly object: 'session';
  readonly id: string;
  readonly token: string;
  /** ISO 8601. */
  readonly expiresAt: string;
  readonly organizationId: string;
  readonly scope: {
    readonly organizationId: string;
    readonly syncGroups: readonly string[];
    readonly operations: readonly string[];
    readonly participantKind: 'user' | 'agent' | 'system';
    readonly participantId: string;
  };
  readonly userMeta: Readonly<Record<string, unknown>>;
}

/** What the stateless client has besides its models. */
export interface AbloHttpMembers<S> {
  /** The schema, as given. */
  readonly schema: S;
  /** Checks the options and obtains a token. Optional: every call does both. */
  ready(): Promise<void>;
  /** Gives back the claims that it holds, and ends what is under way. Calls after it reject with `client_disposed`. */
  dispose(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
  /** The token in use; null when there is none. */
  getAuthToken(): Promise<string | null>;
  readonly commits: {
    /**
     * Sends one atomic batch.
     *
     * @throws AbloValidationError `commit_operation_required`, `commit_operations_ambiguous`,
     * `commit_operation_model_required`, `write_options_invalid`; then whatever the server answers
     * @example
     * const desk = Ablo({ schema, transport: 'http', baseURL: 'https://sync.example.com', apiKey: 'rk_test_bot' });
     * const receipt = await desk.commits.create({
     *   idempotencyKey: 'merge-t2-into-t1',
     *   operations: [
     *     { action: 'update', model: 'tasks', id: 't1', data: { title: 'Call back and send the invoice' } },
     *     { action: 'archive', model: 'tasks', id: 't2' },
     *   ],
     * });
     * receipt.id; // → 'merge-t2-into-t1'
     */
    create(options: HttpCommitOptions): Promise<CommitReceipt>;
  };
  readonly claims: HttpClaims;
  readonly sessions: {
    /**
     * Mints a short-lived key for a browser or an agent. Needs a secret key.
     *
     * @throws AbloAuthenticationError `apikey_missing` without a secret key
     * @example
     * const desk = Ablo({
     *   schema,
     *   transport: 'http',
     *   baseURL: 'https://sync.example.com',
     *   apiKey: 'sk_test_backend',
     *   dangerouslyAllowBrowser: true, // on a server: not needed
     * });
     * const session = await desk.sessions.create({ agent: { id: 'triage' }, can: { tasks: ['read', 'update'] } });
     * session.scope.participantKind; // → 'agent'
     */
    create(params: SessionParams<S>): Promise<AbloSession>;
  };
  /** The model of that name, for names known only at run time. Rows of models that are not in the schema come as they are. */
  model<T = Readonly<Record<string, unknown>>>(name: string): HttpModel<T>;
}

/** The stateless client: {@link AbloHttpMembers} and one {@link HttpModel} per model. */
export type AbloHttpClient<S = Schema> = AbloHttpMembers<S> & {
  readonly [K in InferModelNames<S>]: HttpModel<InferModel<S, K>, InferCreate<S, K>, InferUpdate<S, K>>;
};
