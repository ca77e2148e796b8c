/** `ablo.<model>`: one object per model, made once. */

import { type AbloError, invalid, toAbloError } from './errors.js';
import { type Coordination, defined } from './coordination.js';
import type { Claim, ClaimHandle, ClaimLookupParams as Lookup, ClaimParams } from './coordination-types.js';
import { type LocalOptions, listText, retrieveText } from './reads.js';
import { compact, type Row } from './rows.js';
import type { ModelDef } from './schema/model.js';
import { Ask } from './boundary.js';
import type { Session } from './session.js';
import { ask } from './session.js';
import type { ModelOperations } from './types.js';
import { checkId, checkObject, isPlainObject, newId, unfit } from './values.js';
import { openView } from './view.js';
import { createText, notClaim, optionsText, updateText } from './writes.js';

type Params = Readonly<Record<string, unknown>>;
type Operations = ModelOperations<Row, object, object>;

/** How often a change by a function is tried. */
const RECONCILE_MAX = 5;
const CREATE_OWN = ['data', 'id', 'claim'];
const UPDATE_OWN = ['id', 'data', 'claim'];
const DELETE_OWN = ['id', 'claim'];

/** Makes the operations of the model at `index`. Every function works without its object: `const { get } = ablo.tasks`. */
export function createOperations(
  session: Session,
  coordination: Coordination,
  index: number,
  key: string,
  model: ModelDef,
): Operations {
  const cache = session.models[index]!;
  const context = `${key} write`;
  const type = model.typename.toLowerCase();

  /** Synchronous reads: errors of the core get their class, those of the application's functions pass unchanged. */
  const local = <T>(read: () => T): T => {
    try {
      return read();
    } catch (error) {
      throw session.translate(error);
    }
  };

  const get = (id: string): Row | undefined => cache.known(id) ?? cache.find(id);

  const read = async (text: string): Promise<readonly Row[]> => {
    const rows = (value: string | undefined): readonly Row[] =>
      Object.freeze(compact(cache.take(JSON.parse(value ?? '[]') as number[])));
    return session.send(ask(Ask.Read, index, text), rows);
  };

  /** Sends a write and resolves to its row as it then is. */
  const write = async (
    id: string,
    confirmed: boolean,
    call: (core: NonNullable<typeof session.core>, ticket: number) => void,
  ): Promise<Row> => {
    const done = session.send(call, nothing);
    // A row that somebody deletes before the server's answer is still what this write made of it.
    const optimistic = confirmed ? get(id) : undefined;
    await done;
    const row = get(id) ?? optimistic;
    if (row === undefined) throw invalid('entity_not_found', `${key} "${id}" is gone`, 'id');
    return row;
  };

  /** Takes a claim. One for a create is on a row that is not there yet. */
  const claim = async (params: ClaimParams, create = false): Promise<ClaimHandle<Row>> => {
    const { id: given, ...options } = params;
    const id = checkId(given);
    const { field, path, range, meta } = options;
    const target = { model: key, id, ...defined({ field, path, range, meta }) };
    const { handle, granted } = coordination.begin({ index, type, target, create }, options, () => get(id));
    await granted;
    if (create || get(id) !== undefined) return handle;
    handle.revoke();
    throw missing(id);
  };

  const missing = (id: string): Error => invalid('entity_not_found', `no ${key} with id "${id}"`, 'id');

  /** Does a write under the claim that it names, or under one that is taken for it alone. */
  const claimed = <T>(
    { claim: given, wait }: Params,
    id: string,
    options: string | undefined,
    verb: (options: string | undefined, sure: boolean) => Promise<T>,
    create = false,
  ): Promise<T> => {
    if (given == null) return verb(options, wait === 'confirmed');
    if (!isPlainObject(given)) throw notClaim(given);
    const under = (claimId: unknown): Promise<T> =>
      verb(JSON.stringify({ ...JSON.parse(options ?? '{}'), claim: claimId }), wait !== 'queued');
    if ('claimId' in given) return under(given['claimId']);
    return claim({ ...given, id }, create).then(({ claimId, revoke }) => under(claimId).finally(revoke));
  };

  /** Changes a row by what it is: read again and tried again while others are faster. */
  const reconcile = async (id: string, change: (current: Row) => unknown, text: string | undefined): Promise<Row> => {
    for (let tries = 1; ; tries++) {
      if (tries > 1 || get(id) === undefined) await read(retrieveText({ id, type: 'complete' }));
      const row = get(id);
      if (row === undefined) throw missing(id);
      const data: unknown = change(row);
      if (data == null) return row;
      const operation = { action: 'update', model: model.typename, id, data: JSON.parse(updateText(key, model, data)) };
      const options = { onStale: 'reject', ...JSON.parse(text ?? '{}'), wait: 'confirmed', current: true, operation };
      try {
        await session.send(ask(Ask.Commit, 0, JSON.stringify(options)), nothing);
        return get(id) ?? row;
      } catch (error) {
        if (tries >= RECONCILE_MAX || (error as AbloError).code !== 'stale_context') throw error;
      }
    }
  };

  const operations: Operations = {
    // Without a detour while the row is known: this is the most frequent call of all.
    get: (id) => cache.known(id) ?? local(() => cache.find(id)),
    getAll: (options) => local(() => cache.getAll(options as LocalOptions | undefined)),
    getCount: (options) => local(() => cache.getCount(options as LocalOptions | undefined)),
    onChange(callback, options) {
      if (typeof callback !== 'function')
        throw unfit('callback', 'a function', callback);
      return local(() => openView(session, index, model, callback, options as LocalOptions | undefined));
    },
    retrieve: coded(async (params) => (await read(retrieveText(params as unknown as Params)))[0]),
    list: coded(async (options) => read(listText(options as Params | undefined))),
    create: coded(async (given) => {
      const params = checkParams(given, 'create');
      const options = optionsText(params, CREATE_OWN, context);
      const data = createText(key, model, params['data']);
      const own = (params['data'] as Params)['id'];
      const id = checkId(params['id'] ?? own ?? newId());
      return claimed(params, id, options, (text, sure) => write(id, sure, ask(Ask.Create, index, id, data, text)), true);
    }),
    update: coded(async (given) => {
      const params = checkParams(given, 'update');
      const options = optionsText(params, UPDATE_OWN, context);
      const id = checkId(params['id']);
      const { data } = params;
      if (typeof data === 'function') {
        return claimed(params, id, options, (text) => reconcile(id, data as (row: Row) => unknown, text));
      }
      const fields = updateText(key, model, data);
      return claimed(params, id, options, (text, sure) => write(id, sure, ask(Ask.Update, index, id, fields, text)));
    }),
    delete: coded(async (given) => {
      const params = checkParams(given, 'delete');
      const options = optionsText(params, DELETE_OWN, context);
      const id = checkId(params['id']);
      return claimed(params, id, options, (text) => session.send(ask(Ask.Delete, index, id, undefined, text), nothing));
    }),
    claim: Object.assign(coded((params: ClaimParams) => claim(checkParams(params, 'claim') as unknown as ClaimParams)), {
      state: ({ id, field }: Lookup) => coordination.state({ model: key, id: checkId(id), field }),
      queue: ({ id, field }: Lookup) =>
        Object.freeze({ object: 'list' as const, data: coordination.queue({ model: key, id: checkId(id), field }) }),
      release: async (given: Lookup | ClaimHandle) => {
        if ('claimId' in given) coordination.release(given.claimId);
        else coordination.releaseRow(key, checkId(given.id));
      },
      reorder: ({ id, order }: Lookup & { readonly order: readonly Claim[] }) =>
        coordination.reorder(type, checkId(id), order),
    }),
    watch: coded(async (ids, options) => {
      const list = [ids].flat().map((id) => checkId(id));
      const { watch } = await import('./watch.js');
      return watch(coordination, { kind: model.scope ?? key, type, ids: list, ttl: options?.ttl });
    }),
  };
  return Object.freeze(operations);
}

function nothing(): void {}

function checkParams(params: unknown, verb: string): Params {
  checkObject(params, verb, 'write_options_invalid');
  return params;
}

/** Async functions of the interface reject with errors of this package only. */
function coded<A extends unknown[], T>(work: (...args: A) => Promise<T>): (...args: A) => Promise<T> {
  return async (...args) => {
    try {
      return await work(...args);
    } catch (error) {
      throw toAbloError(error);
    }
  };
}
