/**
 * Entry `ablo-wasm/http`: what is behind `Ablo({ transport: 'http' })`, for workers, agents and pages. Each call is one
 * request; there are no rows here, no socket and no WebAssembly.
 *
 * `Ablo()` loads this file with the first call, so nobody needs to import it. `import 'ablo-wasm/http'` makes it part of a
 * program's first load. `stateless.ts` has the names, this file what they mean; requests are in `http-request.ts`.
 */

import type { AbloError } from './errors.js';
import { Claims, toClaim, WAIT_KEYS } from './http-claims.js';
import { failureOf, type Json, openLine } from './http-request.js';
import type { AbloSession, ClaimHandle, ModelTarget } from './http-types.js';
import type { Settings } from './options.js';
import type { ModelDef } from './schema/model.js';
import type { Call, Kit } from './stateless.js';
import type { CommitReceipt } from './types.js';

export type {
  AbloHttpClient,
  AbloHttpMembers,
  AbloHttpOptions,
  AbloSession,
  Claim,
  ClaimHandle,
  ClaimOptions,
  ClaimParams,
  Duration,
  HttpClaims,
  HttpCommitOptions,
  HttpListOptions,
  HttpModel,
  HttpModelClaims,
  HttpMutationOptions,
  HttpWriteOptions,
  IfClaimedPolicy,
  ModelClaim,
  ModelRead,
  ModelTarget,
  SessionParams,
  TargetRange,
  WaitOptions,
} from './http-types.js';

const OPTIONS = [
  ...['schema', 'transport', 'apiKey', 'authToken', 'capabilityToken', 'authEndpoint', 'baseURL', 'fetch', 'logger'],
  ...['defaultHeaders', 'defaultQuery', 'dangerouslyAllowBrowser', 'databaseUrl'],
];
const LOCAL = ['get', 'getAll', 'getCount', 'onChange', 'watch'];
const RETRIEVE_KEYS = ['id', 'ifClaimed', 'type', 'expand'];
const LIST_KEYS = ['where', 'orderBy', 'limit', 'startingAfter', 'type', 'expand'];
/** Names that mean something else in the address of a list. */
const LIST_WORDS = ['limit', 'order_by', 'order', 'starting_after'];
const COMMIT_KEYS = ['operation', 'operations', 'claim'];
const OPERATION_KEYS = ['action', 'model', 'id', 'target', 'data', 'transactionId', 'readAt', 'onStale'];
const ACTIONS = ['create', 'update', 'delete', 'archive', 'unarchive'];
const SESSION_SECONDS = 900;
/** The wire has no place for them. */
const UNSENT = ['label', 'causedByTaskId'];
const ROW_METHODS = { create: 'POST', update: 'PATCH', delete: 'DELETE' } as const;

type Verb = keyof typeof ROW_METHODS;
type Options = Record<string, unknown>;

/** Opens a client. Called by `Ablo()`; nothing is sent. */
export function connect(given: object, settings: Settings, kit: Kit): Call {
  const { AbloError, AbloValidationError, CLAIM_KEYS, checkId, checkJson, checkKeys, isPlainObject, show } = kit;
  const options = given as Json;
  const invalid = (code: string, message: string, param?: string): AbloError =>
    new AbloValidationError(message, { code, param });
  for (const key of Object.keys(options)) {
    const value = options[key];
    if (OPTIONS.includes(key) || value === undefined || (key === 'persistence' && value === 'memory')) continue;
    throw invalid('invalid_options', `option "${key}" means nothing to transport "http": leave it out`, key);
  }
  if (options['fetch'] == null && typeof globalThis.fetch !== 'function') {
    throw new kit.AbloConnectionError('there is no fetch here: give one', { code: 'fetch_unavailable', param: 'fetch' });
  }
  if (settings.deferred !== undefined) throw settings.deferred;
  const line = openLine(options, settings, kit);
  const claims = new Claims(line, kit);
  let disposing: Promise<void> | undefined;

  const object = (value: unknown, what: string): Json => {
    if (isPlainObject(value)) return value;
    throw invalid('write_options_invalid', `${what} takes an object, got ${show(value)}`);
  };

  /** Options of a write, checked and without those that are null. */
  const writeOptions = (params: Json, own: readonly string[], context: string): Options => {
    const text = kit.optionsText(params, own, context);
    const read = (text === undefined ? {} : JSON.parse(text)) as Options;
    for (const key of UNSENT) {
      if (read[key] === undefined) continue;
      throw invalid('write_options_invalid', `${context}: ${key} cannot be sent over HTTP: leave it out`, key);
    }
    return read;
  };

  const isHandle = (claim: unknown): claim is ClaimHandle =>
    typeof claim === 'object' && claim !== null && typeof (claim as ClaimHandle).claimId === 'string';

  const checkPolicy = (value: unknown): void => {
    if (value === undefined || value === 'return' || value === 'fail') return;
    throw invalid('invalid_options', `ifClaimed must be "return" or "fail", got ${show(value)}`, 'ifClaimed');
  };

  const readReceipt = (body: Json, names: readonly string[], key: string): CommitReceipt => {
    if (body['success'] === false || body['status'] === 'rejected' || isPlainObject(body['error'])) {
      throw failureOf(kit, undefined, JSON.stringify(body));
    }
    const id = [...names.map((name) => body[name]), key].find((value) => typeof value === 'string' && value !== '');
    const lastSyncId = Number(body['lastSyncId'] ?? NaN);
    const told = Array.isArray(body['notifications']) ? body['notifications'].filter(isPlainObject) : [];
    return Object.freeze({
      id: id as string,
      status: body['status'] === 'queued' ? ('queued' as const) : ('confirmed' as const),
      ...(Number.isNaN(lastSyncId) ? {} : { lastSyncId }),
      ...(told.length === 0 ? {} : { notifications: told as unknown as NonNullable<CommitReceipt['notifications']> }),
    });
  };

  const sendCommit = async (operations: readonly Json[], write: Options, claim: string | undefined): Promise<CommitReceipt> => {
    const key = (write['idempotencyKey'] as string | undefined) ?? kit.newId();
    const body = { clientTxId: key, idempotencyKey: key, claim, operations, reads: write['reads'] };
    const answer = await line.send({ method: 'POST', path: ['v1', 'commits'], body, key });
    return readReceipt(answer.body, ['id', 'clientTxId'], key);
  };

  const commit = async (value: unknown): Promise<CommitReceipt> => {
    const context = 'commits.create';
    const params = object(value, context);
    const write = writeOptions(params, COMMIT_KEYS, context);
    const { operation, operations, claim } = params;
    if (operation != null && operations != null) {
      throw invalid('commit_operations_ambiguous', `${context}: give operation or operations, not both`, 'operation');
    }
    const list = operation == null ? operations : [operation];
    if (!Array.isArray(list) || list.length === 0) {
      throw invalid('commit_operation_required', `${context}: give operation or operations`, 'operations');
    }
    if (claim != null && !isHandle(claim)) {
      throw invalid('write_options_invalid', `${context}: claim must be a handle, got ${show(claim)}`, 'claim');
    }
    const wire = list.map((item: unknown, index) => readOperation(item, `operations.${index}`, write, claim as ClaimHandle | null));
    const claimId = (write['claimRef'] as string | undefined) ?? (claim as ClaimHandle | undefined)?.claimId;
    const receipt = await sendCommit(wire, write, claimId);
    if (claim != null) claims.advance((claim as ClaimHandle).claimId, receipt.lastSyncId);
    return receipt;
  };

  const readOperation = (item: unknown, at: string, write: Options, claim: ClaimHandle | null | undefined): Json => {
    const given = object(item, at);
    checkKeys(given, OPERATION_KEYS, 'write_options_invalid', 'member of an operation');
    checkJson(given, at);
    const { action, data, transactionId, readAt, onStale } = given;
    const target = (given['target'] ?? {}) as Json;
    const model = given['model'] ?? target['model'];
    const id = given['id'] ?? target['id'];
    if (typeof action !== 'string' || !ACTIONS.includes(action)) {
      const code = action === undefined ? 'commit_operation_action_required' : 'commit_operation_unsupported';
      throw invalid(code, `${at}.action must be one of ${ACTIONS.join(', ')}, got ${show(action)}`, `${at}.action`);
    }
    if (typeof model !== 'string' || model === '') {
      throw invalid('commit_operation_model_required', `${at}.model must be the name of a model, got ${show(model)}`, `${at}.model`);
    }
    if (id !== undefined || action !== 'create') checkId(id, `${at}.id`);
    if ((action === 'create' || action === 'update') && !isPlainObject(data)) {
      throw invalid('invalid_body', `${at}.data must be a plain object, got ${show(data)}`, `${at}.data`);
    }
    const held = claim == null ? undefined : markUnder(claim, model, id);
    const mark = readAt ?? write['readAt'] ?? held ?? null;
    const stale = onStale ?? write['onStale'] ?? (held === undefined ? null : 'reject');
    return {
      ...{ action, model: model.toLowerCase(), id: id ?? null, data: data ?? null },
      ...{ transactionId: transactionId ?? null, readAt: mark, onStale: stale },
    };
  };

  const models = Object.entries(settings.schema.models) as [string, ModelDef][];
  /** The model of that key or typename, in any case; undefined for one that the schema does not have. */
  const modelOf = (name: string): [string, ModelDef] | undefined => {
    const same = (other: string | undefined): boolean => other?.toLowerCase() === name.toLowerCase();
    return models.find(([key]) => key === name) ?? models.find(([key, model]) => same(key) || same(model.typename));
  };

  /** The watermark of a claim for a row. Only of the claimed one is it known that nobody else has written it since. */
  const markUnder = (claim: ClaimHandle, model: string, id: unknown): number | undefined => {
    const key = (name: string): string => modelOf(name)?.[0] ?? name.toLowerCase();
    const isClaimed = claim.target.id === id && key(claim.target.model) === key(model);
    return isClaimed ? claims.readAt(claim) : claim.readAt;
  };

  const finish = <T>(name: string, raw: unknown): T => {
    const model = modelOf(name)?.[1];
    return kit.finishRow(raw as Options, model === undefined ? [] : kit.computedOf(model)) as T;
  };

  const read = async (name: string, id: string, missing: string): Promise<{ data: unknown; stamp: number; claims: readonly never[] }> => {
    const gone = (more: object = {}): AbloError =>
      new AbloValidationError(`there is no ${name} "${id}"`, { code: missing, param: 'id', ...more });
    const { body } = await line.send({ method: 'GET', path: ['v1', 'models', name, id] }).catch((error: AbloError) => {
      // Only what is said of the row: an address that nobody serves is 404, too.
      const { httpStatus, requestId, code } = error;
      if (httpStatus !== 404 || (code !== 'entity_not_found' && code !== 'model_not_found')) throw error;
      throw gone({ httpStatus, requestId, cause: error });
    });
    if (!isPlainObject(body['data'])) throw gone();
    const list = body['claims'];
    return {
      data: finish(name, body['data']),
      stamp: Number(body['stamp'] ?? 0),
      claims: Object.freeze(Array.isArray(list) ? (list as never[]) : []),
    };
  };

  const retrieve = async (name: string, value: unknown): Promise<unknown> => {
    const params = object(value, 'retrieve');
    checkKeys(params, RETRIEVE_KEYS, 'invalid_options', 'read option');
    checkPolicy(params['ifClaimed']);
    checkExpand(params['expand']);
    const found = await read(name, checkId(params['id']), 'model_not_found');
    if (params['ifClaimed'] === 'fail') refuse(name, found.claims);
    return Object.freeze(found);
  };

  const refuse = (name: string, found: readonly { readonly id: string }[]): void => {
    const others = found.filter(({ id }) => !claims.isOwn(id));
    if (others.length > 0) throw claims.claimed('model_claimed', `${name} is held by somebody else`, others);
  };

  const checkExpand = (value: unknown): void => {
    if (value === undefined || (Array.isArray(value) && value.length === 0)) return;
    throw invalid('invalid_options', 'expand is for the live client: over HTTP, list the other model', 'expand');
  };

  const list = async (name: string, value: unknown = {}): Promise<readonly unknown[]> => {
    const params = object(value, 'list');
    checkKeys(params, LIST_KEYS, 'invalid_options', 'read option');
    checkExpand(params['expand']);
    const { orderBy, limit, startingAfter } = params;
    const query = readWhere(name, params['where']);
    if (orderBy !== undefined) {
      const fields = Object.entries(object(orderBy, 'orderBy'));
      const [field, direction] = fields[0] ?? [];
      if (fields.length !== 1 || (direction !== 'asc' && direction !== 'desc')) {
        throw invalid('invalid_options', 'orderBy must be one field and "asc" or "desc" over HTTP', 'orderBy');
      }
      query.push(['order_by', checkField(name, field!, 'orderBy')]);
      if (direction === 'desc') query.push(['order', 'desc']);
    }
    if (limit !== undefined && !(Number.isSafeInteger(limit) && (limit as number) >= 0)) {
      throw invalid('invalid_options', `limit must be a non-negative integer, got ${show(limit)}`, 'limit');
    }
    if (limit) query.push(['limit', String(limit)]);
    if (startingAfter !== undefined) query.push(['starting_after', checkId(startingAfter, 'startingAfter')]);
    const { body } = await line.send({ method: 'GET', path: ['v1', 'models', name], query });
    const rows = Array.isArray(body['data']) ? body['data'].filter(isPlainObject) : [];
    return Object.freeze(rows.map((row) => finish(name, row)));
  };

  const checkField = (name: string, field: string, param: string): string => {
    const model = modelOf(name)?.[1];
    if (model === undefined || Object.hasOwn(model.fields, field) || kit.BASE_FIELDS.includes(field)) return field;
    const known = [...Object.keys(model.fields), ...kit.BASE_FIELDS].join(', ');
    const path = `${param}.${field}`;
    throw invalid('query_invalid_identifier', `${param}: unknown field "${field}", expected one of ${known}`, path);
  };

  const readWhere = (name: string, where: unknown): [string, string][] => {
    if (where === undefined) return [];
    const clauses = Array.isArray(where) ? (where as unknown[]) : Object.entries(object(where, 'where'));
    return clauses.map((clause) => {
      const [field, ...rest] = (Array.isArray(clause) ? clause : []) as unknown[];
      const given = rest.length === 2 && rest[0] === '=' ? rest[1] : rest[0];
      const value = given instanceof Date && !Number.isNaN(given.getTime()) ? given.toISOString() : given;
      const plain = ['string', 'number', 'boolean'].includes(typeof value) && !Number.isNaN(value);
      if (typeof field !== 'string' || LIST_WORDS.includes(field) || !plain || rest.length > (rest[0] === '=' ? 2 : 1)) {
        const why = 'over HTTP a condition is a field and the text, number or boolean that it is equal to';
        throw invalid('invalid_options', `where: ${why}, got ${show(field)}, ${rest.map(show).join(', ')}`, `where.${String(field)}`);
      }
      return [checkField(name, field, 'where'), String(value)];
    });
  };

  const write = async (name: string, verb: Verb, value: unknown): Promise<CommitReceipt> => {
    const params = object(value, verb);
    const context = `${name} write`;
    const own = ['id', 'claim', 'ifClaimed', ...(verb === 'delete' ? [] : ['data'])];
    const chosen = writeOptions(params, own, context);
    checkPolicy(params['ifClaimed']);
    const [key, model] = modelOf(name) ?? [];
    let data: Json | undefined;
    if (verb !== 'delete') {
      data = object(params['data'], `${verb}: data`);
      if (model === undefined) checkJson(data, 'data');
      else data = JSON.parse((verb === 'create' ? kit.createText : kit.updateText)(key!, model, data)) as Json;
    }
    const id = checkId(params['id'] ?? (verb === 'create' ? ((params['data'] as Json)['id'] ?? kit.newId()) : undefined));
    const idempotencyKey = (chosen['idempotencyKey'] as string | undefined) ?? kit.newId();
    const { claim } = params;
    if (params['ifClaimed'] === 'fail') refuse(name, (await claims.list({ model: name, id })).claims);

    const send = async (under: string | undefined, held: number | undefined): Promise<CommitReceipt> => {
      const guard = { readAt: chosen['readAt'] ?? held, onStale: chosen['onStale'] ?? (held === undefined ? undefined : 'reject') };
      // Only a commit has a place for them.
      if (chosen['reads'] !== undefined) {
        const { readAt = null, onStale = null } = guard;
        const operation = { action: verb, model: name.toLowerCase(), id, data: data ?? null, transactionId: null, readAt, onStale };
        return sendCommit([operation], { ...chosen, idempotencyKey }, under);
      }
      const body = { idempotencyKey, ...(verb === 'create' ? { id } : {}), data, claim: under, ...guard };
      const path = ['v1', 'models', name, ...(verb === 'create' ? [] : [id])];
      const answer = await line.send({ method: ROW_METHODS[verb], path, body, key: idempotencyKey });
      return readReceipt(answer.body, ['serverTxId', 'id', 'clientTxId'], idempotencyKey);
    };

    const ref = chosen['claimRef'] as string | undefined;
    if (claim == null) return send(ref, undefined);
    if (isHandle(claim)) {
      const receipt = await send(ref ?? claim.claimId, markUnder(claim, name, id));
      claims.advance(claim.claimId, receipt.lastSyncId);
      return receipt;
    }
    const inline = { ...(verb === 'create' ? { reason: 'creating' } : {}), ...object(claim, `${context}: claim`) };
    checkKeys(inline, CLAIM_KEYS, 'write_options_invalid', 'claim option');
    const granted = await claims.take(targetOf(name, id, inline), inline, {});
    try {
      return await send(granted.id, undefined);
    } finally {
      // The write counts, whatever becomes of this: the claim ends with its time.
      await claims.giveBack(granted.id);
    }
  };

  const targetOf = (model: string, id: string, from: Json): ModelTarget => {
    const { field, path, range, meta } = from;
    const given = Object.entries({ field, path, range, meta }).filter(([, value]) => value !== undefined);
    return { model, id, ...Object.fromEntries(given) };
  };

  const claim = async (name: string, value: unknown): Promise<ClaimHandle> => {
    const params = object(value, 'claim');
    checkKeys(params, ['id', ...CLAIM_KEYS, ...WAIT_KEYS], 'write_options_invalid', 'claim option');
    const { id, pollInterval, signal, waitTimeoutMs, ...options } = params;
    const target = targetOf(name, checkId(id), options);
    const granted = await claims.take(target, options, { pollInterval, signal, waitTimeoutMs });
    try {
      return claims.handle(granted, target, options, await read(name, target.id, 'entity_not_found'));
    } catch (error) {
      await claims.giveBack(granted.id);
      throw error;
    }
  };

  const claimWords: Record<string, (name: string, params: Json) => Promise<unknown>> = {
    state: async (name, { id, field }) => {
      const [first] = (await claims.list({ model: name, id: checkId(id), field })).claims;
      return first === undefined ? null : toClaim(first);
    },
    queue: async (name, { id, field }) => {
      const { queue } = await claims.list({ model: name, id: checkId(id), field });
      return Object.freeze({ object: 'list', data: Object.freeze(queue.map(toClaim)) });
    },
    release: async (name, params) =>
      isHandle(params) ? params.release() : claims.releaseRow(name, checkId(params['id'])),
    reorder: async (name, { id, order }) => {
      if (!Array.isArray(order)) throw invalid('invalid_options', `order must be an array of claims, got ${show(order)}`, 'order');
      const wanted = (order as Json[]).map((entry) => ({ heldBy: entry['heldBy'], claimId: entry['id'] }));
      const path = ['v1', 'models', name, checkId(id), 'claim', 'reorder'];
      await line.send({ method: 'POST', path, body: { order: wanted }, repeatable: true });
    },
  };

  const createClaim = async (value: unknown): Promise<ClaimHandle> => {
    const params = object(value, 'claims.create');
    const own = CLAIM_KEYS.filter((key) => !['field', 'path', 'range', 'meta'].includes(key));
    checkKeys(params, ['target', ...own, ...WAIT_KEYS], 'write_options_invalid', 'claim option');
    const { target: given, pollInterval, signal, waitTimeoutMs, ...options } = params;
    const { model, id, ...rest } = object(given, 'claims.create: target');
    checkKeys(rest, ['field', 'path', 'range', 'meta'], 'write_options_invalid', 'member of a target');
    checkJson(rest, 'target', 'write_options_invalid');
    const target = targetOf(checkId(model, 'target.model'), checkId(id, 'target.id'), rest);
    return claims.handle(await claims.take(target, options, { pollInterval, signal, waitTimeoutMs }), target, options);
  };

  const createSession = async (value: unknown): Promise<AbloSession> => {
    const params = object(value, 'sessions.create');
    const forUser = params['user'] !== undefined;
    const own = forUser ? ['user', 'organizationId'] : ['agent', 'can', 'userMeta'];
    checkKeys(params, [...own, 'syncGroups', 'ttlSeconds'], 'invalid_options', 'member of a session');
    if (!(await line.token())?.startsWith('sk_')) {
      throw new kit.AbloAuthenticationError('sessions are made on a server, with a secret key', {
        code: 'apikey_missing',
        param: 'apiKey',
      });
    }
    const { user, agent, can, organizationId, userMeta, syncGroups, ttlSeconds = SESSION_SECONDS } = params;
    const who = object(forUser ? user : agent, forUser ? 'sessions.create: user' : 'sessions.create: agent');
    const participantId = checkId(who['id'], forUser ? 'user.id' : 'agent.id');
    const operations = forUser
      ? []
      : Object.entries(object(can, 'sessions.create: can')).flatMap(([key, verbs]) =>
          (Array.isArray(verbs) ? (verbs as string[]) : []).map((verb) => `${key.toLowerCase()}.${verb}`),
        );
    const body = forUser
      ? { user: { id: participantId }, organizationId, syncGroups, ttlSeconds }
      : { participantKind: 'agent', participantId, syncGroups, operations, ttlSeconds, userMeta };
    const path = ['auth', forUser ? 'ephemeral-keys' : 'capability'];
    // A key that nobody received is of no use and no harm: it ends with its time.
    const answer = (await line.send({ method: 'POST', path, body, repeatable: true })).body;
    const { token, expiresAt, organizationId: organization } = answer as Record<string, string | undefined>;
    if (!token || !expiresAt || !organization) {
      throw new kit.AbloAuthenticationError('the answer lacks a token, its end or its organization', {
        code: 'exchange_malformed_response',
      });
    }
    const scope = {
      ...{ organizationId: organization, syncGroups: answer['syncGroups'] ?? [], operations: ['*'], participantKind: 'user' },
      ...{ participantId: answer['participantId'] ?? participantId },
      ...(answer['scope'] as object | undefined),
    };
    return Object.freeze({
      object: 'session',
      id: (answer['capabilityId'] ?? answer['id'] ?? '') as string,
      ...{ token, expiresAt, organizationId: organization },
      scope: Object.freeze(scope) as unknown as AbloSession['scope'],
      userMeta: Object.freeze(answer['userMeta'] ?? {}) as AbloSession['userMeta'],
    });
  };

  const dispose = (): Promise<void> => (disposing ??= claims.releaseAll().then(() => line.end(ended())));

  const members: Record<string, (...given: readonly unknown[]) => Promise<unknown>> = {
    ready: async () => void (await line.token() ?? missingKey()),
    getAuthToken: () => line.token(),
    'commits.create': commit,
    'claims.create': createClaim,
    'claims.list': async (target = {}) => (await claims.list(object(target, 'claims.list'))).claims,
    'claims.waitFor': async (target, wait = {}) => {
      const given = object(target, 'claims.waitFor');
      checkId(given['model'], 'model');
      checkId(given['id']);
      const how = object(wait, 'claims.waitFor');
      checkKeys(how, ['pollInterval', 'signal', 'timeout'], 'invalid_options', 'option');
      return claims.waitFor(given, how);
    },
    'sessions.create': createSession,
  };

  const missingKey = (): never => {
    throw new kit.AbloAuthenticationError('there is no key: give apiKey, authToken or authEndpoint', {
      code: 'api_key_required',
      param: 'apiKey',
    });
  };

  const ended = (): AbloError =>
    new AbloValidationError('this client was disposed of: make a new one', { code: 'client_disposed' });

  const onModel = (name: string, [verb = '', word, ...rest]: readonly string[], value: unknown): Promise<unknown> => {
    if (word === undefined) {
      if (verb === 'retrieve') return retrieve(name, value);
      if (verb === 'list') return list(name, value);
      if (verb === 'claim') return claim(name, value);
      if (Object.hasOwn(ROW_METHODS, verb)) return write(name, verb as Verb, value);
    } else if (verb === 'claim' && rest.length === 0 && Object.hasOwn(claimWords, word)) {
      return claimWords[word]!(name, isHandle(value) ? (value as unknown as Json) : object(value, `claim.${word}`));
    }
    const said = [name, verb, word, ...rest].filter(Boolean).join('.');
    const why = LOCAL.includes(verb) ? 'there are no local rows with transport "http": use retrieve or list' : 'there is no such method with transport "http"';
    throw invalid('not_available', `${said}: ${why}`, said);
  };

  return async (path, values) => {
    try {
      if (path[0] === 'dispose') return await dispose();
      if (disposing !== undefined) throw ended();
      const member = members[path.join('.')];
      if (member !== undefined) return await member(...values);
      const [name = '', ...rest] = path[0] === 'model' ? path.slice(1) : path;
      return await onModel(name, rest, values[0]);
    } catch (error) {
      throw error instanceof AbloError ? error : kit.toAbloError(error);
    }
  };
}
