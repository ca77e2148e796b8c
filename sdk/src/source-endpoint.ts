/**
 * The source endpoint: answers the service's signed requests from the application's own database (protocol, section
 * 16.2). A function from `Request` to `Response`, for a connector or for any server that speaks fetch.
 */

import { verifyAbloSourceRequest } from './source-signature.js';

/** A row, as JSON has it. */
export type SourceRow = Readonly<Record<string, unknown>>;
/** Maybe at once, maybe later. */
type Awaitable<T> = T | Promise<T>;

/** What the service may ask for. */
export type SourceRequestType = 'load' | 'list' | 'commit' | 'events';

/** On whose behalf the service asks. */
export interface SourceScope {
  readonly participantId?: string;
  readonly participantKind?: 'user' | 'agent' | 'system';
  readonly organizationId?: string;
  readonly requiredSyncGroups?: readonly string[];
  /** `'production'` when the request does not say. */
  readonly mode: 'production' | 'sandbox';
}

/** Which rows to list. */
export interface SourceQuery {
  readonly where?: unknown;
  readonly limit?: number;
  readonly orderBy?: string;
  readonly order?: 'asc' | 'desc';
  readonly related?: unknown;
  readonly cursor?: string;
}

/** What kind of write. */
export type SourceOperationType = 'CREATE' | 'UPDATE' | 'DELETE' | 'ARCHIVE' | 'UNARCHIVE';

/** One write of a commit. */
export interface SourceOperation {
  readonly type: SourceOperationType;
  readonly model: string;
  readonly id?: string;
  readonly input?: SourceRow;
  readonly transactionId?: string;
  readonly readAt?: number | null;
  readonly onStale?: string | null;
}

/** What a commit changed. */
export interface SourceDelta {
  readonly model: string;
  readonly id: string;
  readonly type: SourceOperationType;
  readonly data?: SourceRow | null;
  readonly transactionId?: string;
}

/** Something that happened in the database. */
export interface SourceEvent {
  /** Unique: an event with the id of an earlier one is skipped. */
  readonly id: string;
  readonly model: string;
  readonly entityId: string;
  readonly type: SourceOperationType;
  readonly data?: SourceRow | null;
  readonly organizationId?: string;
  /** Of the commit that caused it: the service skips what it has caused itself. */
  readonly clientTxId?: string;
  /** Milliseconds since 1970. */
  readonly occurredAt?: number;
}

/** What a commit brings. */
export interface SourceCommitParams {
  readonly operations: readonly SourceOperation[];
  /** The commit's own name. One that was seen before must not be done again, but answered as before. */
  readonly clientTxId: string;
  readonly scope: SourceScope;
}

/** What a commit led to. */
export interface SourceCommitResult {
  readonly rows?: readonly SourceRow[];
  readonly deltas?: readonly SourceDelta[];
}

/** A page of rows. */
export interface SourceListResult {
  readonly rows: readonly SourceRow[];
  readonly nextCursor?: string;
}

/** A page of events. */
export interface SourceEventsResult {
  readonly events: readonly SourceEvent[];
  readonly nextCursor?: string;
}

/** How one model is read and written. What is left out is answered `source_…_not_configured`. */
export interface SourceModelHandlers {
  /** One row, or nothing when there is none. */
  load?(params: { readonly id: string; readonly scope: SourceScope }): Awaitable<SourceRow | null | undefined>;
  /** Rows, as a list or as a page. */
  list?(params: {
    readonly query: SourceQuery;
    readonly scope: SourceScope;
  }): Awaitable<readonly SourceRow[] | SourceListResult>;
  /** All operations or none; they are all of this model. Idempotent by `clientTxId`. */
  commit?(params: SourceCommitParams): Awaitable<SourceCommitResult>;
}

/** A key, and what requests signed with it may ask for. */
export interface SourceApiKey {
  readonly key: string;
  /** Default: everything. */
  readonly scopes?: readonly SourceRequestType[] | undefined;
}

/** Options of {@link dataSource}. */
export interface SourceOptions {
  /** The project's API key; or several, while one replaces another. */
  readonly apiKey: string | SourceApiKey | readonly (string | SourceApiKey)[];
  /** Models by the name that the service uses. */
  readonly models?: Readonly<Record<string, SourceModelHandlers>> | undefined;
  /** Takes commits with operations of several models, and those of models without a `commit` of their own. */
  readonly commit?: ((params: SourceCommitParams) => Awaitable<SourceCommitResult>) | undefined;
  /** What happened since `cursor`, `limit` events at most. */
  readonly events?:
    | ((params: {
        readonly cursor: string | undefined;
        readonly limit: number;
        readonly scope: SourceScope;
      }) => Awaitable<SourceEventsResult>)
    | undefined;
  /** How far the time of a signature may be from now, in milliseconds. Default: 300000, five minutes. */
  readonly toleranceMs?: number | undefined;
  /** The time in milliseconds since 1970. Default: `Date.now`. */
  readonly now?: (() => number) | undefined;
}

const EVENTS_LIMIT = 100;
const TYPES: readonly string[] = ['load', 'list', 'commit', 'events'];
const OPERATIONS: readonly string[] = ['CREATE', 'UPDATE', 'DELETE', 'ARCHIVE', 'UNARCHIVE'];

/** An answer that is not 200. */
class Refusal {
  constructor(
    readonly status: number,
    readonly body: object,
  ) {}
}
const refuse = (status: number, error: string, more: object = {}): Refusal => new Refusal(status, { error, ...more });

/**
 * Makes the function that answers the service's requests. Whatever a request brings, it resolves to a `Response`; it
 * rejects only with what a handler throws, which a connector answers with status 500.
 *
 * @example
 * import { dataSource, signAbloSourceRequest } from 'ablo-wasm/source';
 *
 * const apiKey = 'sk_test_backend';
 * const answer = dataSource({ apiKey, models: { tasks: { load: ({ id }) => ({ id, title: 'Call back' }) } } });
 *
 * const body = JSON.stringify({ type: 'load', model: 'tasks', id: 't1' });
 * const headers = await signAbloSourceRequest({ apiKey, id: 'msg_1', body });
 * const response = await answer(new Request('https://source.invalid/', { method: 'POST', headers, body }));
 * const { row } = await response.json();
 * row; // → { id: 't1', title: 'Call back' }
 */
export function dataSource(options: SourceOptions): (request: Request) => Promise<Response> {
  return async (request) => {
    const outcome = await answer(options, request);
    if (outcome instanceof Refusal) return Response.json(outcome.body, { status: outcome.status });
    return Response.json(outcome);
  };
}

/** The checks come in the order of the protocol. */
async function answer(options: SourceOptions, request: Request): Promise<object> {
  if (request.method !== 'POST') return refuse(405, 'method_not_allowed');
  const body = await request.text();
  const asked = parse(body);
  if (asked === undefined) return refuse(400, 'invalid_json');
  const granted = await scopes(options, request.headers, body);
  if (granted instanceof Refusal) return granted;
  const { type } = asked;
  if (!isRequestType(type)) return refuse(400, 'unknown_source_request');
  if (!granted.includes(type)) return refuse(403, 'source_forbidden', { required: type, granted });
  return perform(options, type, asked);
}

/** What the key that signed a request is good for. */
async function scopes(
  { apiKey, toleranceMs, now = Date.now }: SourceOptions,
  headers: Headers,
  body: string,
): Promise<readonly string[] | Refusal> {
  const list = (Array.isArray(apiKey) ? apiKey : [apiKey]) as readonly (string | SourceApiKey)[];
  const keys = list.map((key) => (typeof key === 'string' ? { key } : key)).filter((entry) => entry?.key);
  let failure = refuse(401, 'source_api_key_missing', { message: 'this source has no API key configured' });
  for (const { key, scopes: granted } of keys as SourceApiKey[]) {
    const result = await verifyAbloSourceRequest({ apiKey: key, headers, body, toleranceMs, now: now() });
    if (result.ok) return granted ?? TYPES;
    failure = refuse(401, result.error.code, { message: result.error.message });
  }
  return failure;
}

async function perform(options: SourceOptions, type: SourceRequestType, asked: Asked): Promise<object> {
  const scope: SourceScope = { mode: 'production', ...(isObject(asked['scope']) ? asked['scope'] : {}) };
  const { model } = asked;
  // A model is what the application has put there, not what every object has.
  const handlers = (name: unknown): SourceModelHandlers | undefined =>
    typeof name === 'string' && Object.hasOwn(options.models ?? {}, name) ? options.models?.[name] : undefined;
  switch (type) {
    case 'load': {
      const found = handlers(model);
      if (!found?.load) return refuse(404, 'source_load_not_configured', { model });
      const { id } = asked;
      if (typeof id !== 'string' || id === '') return refuse(400, 'unknown_source_request');
      return { row: (await found.load({ id, scope })) ?? null };
    }
    case 'list': {
      const found = handlers(model);
      if (!found?.list) return refuse(404, 'source_list_not_configured', { model });
      const result = await found.list({ query: isObject(asked['query']) ? asked['query'] : {}, scope });
      return 'rows' in result ? result : { rows: result };
    }
    case 'commit': {
      const { operations, clientTxId } = asked;
      if (typeof clientTxId !== 'string' || clientTxId === '')
        return refuse(400, 'source_commit_requires_client_tx_id');
      if (!Array.isArray(operations) || operations.length === 0 || !operations.every(isOperation))
        return refuse(400, 'source_commit_invalid');
      const models = new Set<string>(operations.map((operation) => operation.model));
      if (typeof model === 'string') models.add(model);
      const [only] = models;
      const found = models.size === 1 ? handlers(only) : undefined;
      const params: SourceCommitParams = { operations, clientTxId, scope };
      if (found?.commit) return found.commit(params);
      if (options.commit) return options.commit(params);
      if (models.size > 1) return refuse(400, 'source_commit_requires_single_model');
      return refuse(404, 'source_commit_not_configured', { model: only });
    }
    case 'events': {
      if (!options.events) return refuse(404, 'source_events_not_configured');
      const { cursor, limit } = asked;
      return options.events({
        cursor: typeof cursor === 'string' ? cursor : undefined,
        limit: Number.isInteger(limit) && (limit as number) > 0 ? (limit as number) : EVENTS_LIMIT,
        scope,
      });
    }
  }
}

type Asked = Readonly<Record<'type' | 'model' | 'id' | 'operations' | 'clientTxId' | 'cursor' | 'limit', unknown>> &
  Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isRequestType = (type: unknown): type is SourceRequestType => TYPES.includes(type as string);

const isOperation = (value: unknown): value is SourceOperation =>
  isObject(value) && OPERATIONS.includes(value['type'] as string) && typeof value['model'] === 'string';

/** The request, or undefined when the body is not JSON. */
function parse(body: string): Asked | undefined {
  try {
    const value: unknown = JSON.parse(body);
    return (isObject(value) ? value : {}) as Asked;
  } catch {
    return undefined;
  }
}
