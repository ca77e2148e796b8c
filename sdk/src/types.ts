/** Types of the public interface: model operations, options, commits. */

import type { ClaimHandle, ClaimOptions, Duration, JoinedParticipant, ModelClaims } from './coordination-types.js';
import type { OutboxStage } from './outbox.js';
import type { InferCreate, InferModel, InferModelNames, InferUpdate } from './schema/infer.js';

/** Which rows a local read sees: not archived ones (default), only archived ones, or both. */
export type ModelListScope = 'live' | 'archived' | 'all';

/** Options of `getCount`. */
export interface LocalCountOptions<T> {
  /** Every listed field must be equal. `undefined` and `null` ask for rows without the field. */
  readonly where?: { readonly [K in keyof T]?: T[K] | null | undefined } | undefined;
  /** A further condition, in JavaScript. Slower than `where`: it sees every row that `where` lets through. */
  readonly filter?: ((row: T) => boolean) | undefined;
  /** Default: `'live'`. */
  readonly state?: ModelListScope | undefined;
}

/** Options of `getAll` and `onChange`. */
export interface LocalReadOptions<T> extends LocalCountOptions<T> {
  /** Fields and their directions; later fields decide among equals. Default: the order in which rows arrived. */
  readonly orderBy?: { readonly [K in keyof T]?: 'asc' | 'desc' } | undefined;
  /** Most rows. 0 and the default mean no limit. */
  readonly limit?: number | undefined;
  /** How many rows to leave out at the beginning. Default: 0. */
  readonly offset?: number | undefined;
}

/** Operators of server reads. In `LIKE` patterns `%` is any run of characters and `_` any one. */
export type WhereOperator =
  | ('=' | '!=' | '<' | '<=' | '>' | '>=' | 'IN' | 'NOT IN' | 'IS' | 'IS NOT')
  | ('LIKE' | 'NOT LIKE' | 'ILIKE' | 'NOT ILIKE');

type Scalar = string | number | boolean | null | Date;
type FieldName<T> = keyof T & string;

/** One condition of a server read: `[field, value]` or `[field, operator, value]`. */
export type WhereClause<T> =
  | readonly [field: FieldName<T>, value: Scalar]
  | readonly [field: FieldName<T>, operator: WhereOperator, value: Scalar | readonly Scalar[]];

/** Options of `list`. */
export interface ServerReadOptions<T> {
  /** Fields and values (an array of values means any of them), or clauses, of which all must hold. */
  readonly where?:
    { readonly [K in keyof T]?: T[K] | Scalar | readonly Scalar[] | undefined } | readonly WhereClause<T>[] | undefined;
  /** Fields and their directions. The server may heed the first only. */
  readonly orderBy?: { readonly [K in keyof T]?: 'asc' | 'desc' } | undefined;
  /** Most rows. 0 and the default mean no limit. */
  readonly limit?: number | undefined;
  /** `'complete'` always asks the server. Default: `'unknown'`, which may answer from local rows. */
  readonly type?: 'complete' | 'unknown' | undefined;
  /** Relations whose rows come along. */
  readonly expand?: readonly string[] | undefined;
}

/** Parameters of `retrieve`. */
export interface ModelRetrieveParams {
  readonly id: string;
  readonly type?: 'complete' | 'unknown' | undefined;
  readonly expand?: readonly string[] | undefined;
}

/** What the writer looked at: checked together with the write. */
export type ReadDependency =
  | {
      readonly model: string;
      readonly id: string;
      readonly readAt: number;
      readonly fields?: readonly string[];
      readonly onStale?: OnStale;
    }
  | { readonly group: string; readonly readAt: number; readonly onStale?: OnStale };

/** What happens to a write whose row changed after `readAt`. */
export type OnStale = 'reject' | 'overwrite' | 'notify';

/** The part of {@link MutationOptions} that guards and names a write. */
export interface WriteOptions {
  /** Watermark (a sync id) that the decision was based on: engages the stale check. */
  readonly readAt?: number | null | undefined;
  /** Default, when `readAt` is set: `'reject'`. */
  readonly onStale?: OnStale | null | undefined;
  /** 1 to 255 characters. The same key with the same write is applied once. Default: generated. */
  readonly idempotencyKey?: string | null | undefined;
  /** For the history, up to 255 characters. */
  readonly label?: string | undefined;
}

/** Options of every write. */
export interface MutationOptions extends WriteOptions {
  /** Settle when queued on this device (default), or when the server has answered. */
  readonly wait?: 'queued' | 'confirmed' | undefined;
  /** Act under an existing claim. */
  readonly claimRef?: string | { readonly id: string } | null | undefined;
  readonly causedByTaskId?: string | null | undefined;
  /** What the write was based on, checked together with it. It is a commit of its own then. */
  readonly reads?: readonly ReadDependency[] | null | undefined;
}

/** Parameters of `create`. */
export type ModelCreateParams<C> = MutationOptions & {
  readonly data: C;
  /** Default: `data.id`, else a new UUID. */
  readonly id?: string | null | undefined;
  /**
   * A claim to write under, or options of one to take for this write alone. Without it a write is under a claim that this
   * client holds on the row. Writes under a claim wait for the server by default, and are refused when it is lost.
   */
  readonly claim?: ClaimHandle<unknown> | ClaimOptions | null | undefined;
};

/** Parameters of `update`. */
export type ModelUpdateParams<U, T = never> = MutationOptions & {
  readonly id: string;
  /**
   * The fields to change; or a function that makes them of the row as it is. With a function nothing shows before the
   * server has accepted it; when somebody else was faster the row is read again and the function called again, at most
   * five times. It returns nothing to leave the row as it is.
   */
  readonly data: U | ((current: T) => U | null | undefined);
  /**
   * A claim to write under, or options of one to take for this write alone. Without it a write is under a claim that this
   * client holds on the row. Writes under a claim wait for the server by default, and are refused when it is lost.
   */
  readonly claim?: ClaimHandle<unknown> | ClaimOptions | null | undefined;
};

/** Parameters of `delete`. */
export type ModelDeleteParams = MutationOptions & {
  readonly id: string;
  /**
   * A claim to write under, or options of one to take for this write alone. Without it a write is under a claim that this
   * client holds on the row. Writes under a claim wait for the server by default, and are refused when it is lost.
   */
  readonly claim?: ClaimHandle<unknown> | ClaimOptions | null | undefined;
};

/**
 * The rows of one model: `ablo.tasks`.
 *
 * Reads without `await` see local rows, own unconfirmed writes included. A row is a frozen plain object, and the same
 * object until something in it changes; a list is the same array until something in it changes.
 *
 * Type parameters: a row, what `create` takes (without it nothing can be created: for code that works on many models),
 * what `update` takes.
 *
 * @example
 * import type { ModelOperations } from 'ablo-wasm';
 *
 * function titles<T extends { readonly title: string }>(model: ModelOperations<T>): string[] {
 *   return model.getAll().map((row) => row.title);
 * }
 * titles(ablo.tasks).length; // → 2
 */
export interface ModelOperations<T, C = never, U = Partial<T>> {
  /**
   * The row of that id, archived or not, if it is here.
   *
   * @example ablo.tasks.get('t1')?.title; // → 'Call back'
   */
  get(id: string): T | undefined;
  /**
   * The rows here that match.
   *
   * @example
   * const open = ablo.tasks.getAll({ where: { done: false }, orderBy: { rank: 'desc' }, limit: 20 });
   * open.map((task) => task.title); // → ['Send the invoice', 'Call back']
   */
  getAll(options?: LocalReadOptions<T>): readonly T[];
  /**
   * How many rows here match.
   *
   * @example ablo.tasks.getCount({ where: { projectId: 'p1' } }); // → 2
   */
  getCount(options?: LocalCountOptions<T>): number;
  /**
   * Calls back at once with the rows here that match, and again whenever that list or a row in it has changed. Returns
   * the way to stop.
   *
   * @example
   * const stop = ablo.tasks.onChange((tasks) => render(tasks), { where: { done: false }, orderBy: { rank: 'desc' } });
   */
  onChange(callback: (rows: readonly T[]) => void, options?: LocalReadOptions<T>): () => void;
  /**
   * One row, from here or from the server. Undefined when the server has none either.
   *
   * @example
   * const task = await ablo.tasks.retrieve({ id: 't1' });
   * task?.title; // → 'Call back'
   */
  retrieve(params: ModelRetrieveParams): Promise<T | undefined>;
  /**
   * Rows that match, from here or from the server.
   *
   * @example
   * const bills = await ablo.tasks.list({ where: [['title', 'ILIKE', '%invoice%']], limit: 25, type: 'complete' });
   * bills.length; // → 1
   */
  list(options?: ServerReadOptions<T>): Promise<readonly T[]>;
  /**
   * Adds a row, here at once and on the server as soon as possible. Fills in defaults.
   *
   * @throws AbloValidationError `invalid_body` or `model_required_field_missing` with the field in `param`, `invalid_id`,
   * `write_options_invalid`; with `wait: 'confirmed'` also what the server answers
   * @example
   * const task = await ablo.tasks.create({ data: { title: 'Call back' } });
   * task.done; // → false
   */
  create(params: ModelCreateParams<C>): Promise<T>;
  /**
   * Changes fields of a row, here at once and on the server as soon as possible. The row must be here.
   *
   * @throws as {@link ModelOperations.create}, and `entity_not_found`
   * @example
   * const changed = await ablo.tasks.update({ id: 't1', data: { done: true }, wait: 'confirmed' });
   * changed.done; // → true
   */
  update(params: ModelUpdateParams<U, T>): Promise<T>;
  /**
   * Removes a row. The row must be here.
   *
   * @example
   * await ablo.tasks.delete({ id: 't1' });
   * ablo.tasks.get('t1'); // → undefined
   */
  delete(params: ModelDeleteParams): Promise<void>;
  /** Takes a lease on a row, and tells about leases: {@link ModelClaims}. */
  readonly claim: ModelClaims<T>;
  /**
   * Joins the groups of rows, so that what happens there arrives, and tells who else is there.
   *
   * @throws CapabilityError `capability_scope_denied`; AbloValidationError `invalid_id`, `duration_invalid`
   * @example
   * await using here = await ablo.tasks.watch('t1');
   * here.presence.editing();
   * here.peers.length; // → 0
   */
  watch(ids: string | readonly string[], options?: { readonly ttl?: Duration | undefined }): Promise<JoinedParticipant>;
}

/** The model operations of a schema, by model key. */
export type ModelsOf<S> = {
  readonly [K in InferModelNames<S>]: ModelOperations<InferModel<S, K>, InferCreate<S, K>, InferUpdate<S, K>>;
};

/** What an operation of a commit does. */
export type CommitAction = 'create' | 'update' | 'delete' | 'archive' | 'unarchive';

/** One operation of `commits.create`. */
export interface CommitOperationInput {
  readonly action: CommitAction;
  /** Key or typename of the model. */
  readonly model?: string | undefined;
  readonly id?: string | undefined;
  /** Another way to say `model` and `id`, which win. */
  readonly target?: { readonly model: string; readonly id: string } | undefined;
  readonly data?: Readonly<Record<string, unknown>> | undefined;
  readonly transactionId?: string | undefined;
  readonly readAt?: number | null | undefined;
  readonly onStale?: OnStale | null | undefined;
}

/** Options of `commits.create`: one `operation` or several `operations`. */
export interface CommitCreateOptions {
  readonly operation?: CommitOperationInput | undefined;
  readonly operations?: readonly CommitOperationInput[] | undefined;
  /** Default: `'confirmed'`. */
  readonly wait?: 'queued' | 'confirmed' | undefined;
  /** Also the receipt's id. Default: a new UUID. */
  readonly idempotencyKey?: string | null | undefined;
  /** For operations that have none. */
  readonly readAt?: number | null | undefined;
  /** For operations that have none. */
  readonly onStale?: OnStale | null | undefined;
  /** Made under this claim: gives operations that have none its `readAt`, and `onStale: 'reject'`. */
  readonly claim?: ClaimHandle<unknown> | null | undefined;
  readonly claimRef?: string | { readonly id: string } | null | undefined;
  readonly reads?: readonly ReadDependency[] | null | undefined;
  readonly label?: string | undefined;
}

/** Says that an operation was held back because its row had changed. */
export interface StaleNotification {
  readonly object?: 'stale_notification';
  readonly model: string;
  readonly id: string;
  /** Watermark that the writer used. */
  readonly readAt: number;
  /** Watermark of the change in between. */
  readonly observedSyncId: number;
  readonly conflictingFields: readonly string[];
  readonly currentValues: Readonly<Record<string, unknown>>;
  readonly writtenBy: { readonly kind: 'user' | 'agent' | 'system'; readonly id: string };
  /** Set when a group dependency caused it. */
  readonly group?: string;
}

/** What `commits.create` resolves to. */
export interface CommitReceipt {
  readonly id: string;
  readonly status: 'queued' | 'confirmed';
  /** How far a commit that is not confirmed has come. From `commits.get` only. */
  readonly stage?: OutboxStage;
  /** Watermark of the commit. */
  readonly lastSyncId?: number;
  /** Operations that were held back. Absent when there are none. */
  readonly notifications?: readonly StaleNotification[];
}

/** Sends batches of writes. */
export interface CommitClient {
  /**
   * Sends one atomic batch. Nothing is changed here first: the result arrives as ordinary changes.
   *
   * @throws AbloValidationError `commit_operation_required`, `commit_operations_ambiguous`,
   * `commit_operation_model_required`, `write_options_invalid`; then whatever the server answers
   * @example
   * const receipt = await ablo.commits.create({
   *   operations: [
   *     { action: 'update', model: 'Task', id: 't1', data: { title: 'Call back and send the invoice' } },
   *     { action: 'archive', model: 'Task', id: 't2' },
   *   ],
   * });
   * receipt.status; // → 'confirmed'
   */
  create(options: CommitCreateOptions): Promise<CommitReceipt>;
  /**
   * What has become of a commit of this client, by its id: of one on its way, or of the last 1 000 that were answered.
   * Rejects with the server's refusal. Undefined when it is not known.
   *
   * @example
   * const operation = { action: 'update', model: 'Task', id: 't1', data: { done: true } } as const;
   * const { id } = await ablo.commits.create({ operation, wait: 'queued' });
   * await ablo.waitForFlush();
   * (await ablo.commits.get(id))?.status; // → 'confirmed'
   */
  get(id: string): Promise<CommitReceipt | undefined>;
}
