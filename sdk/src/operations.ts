/** `ablo.<model>`: one object per model, made once. */

import { invalid, toAbloError } from './errors.js';
import { notYet } from './later.js';
import { type LocalOptions, listText, retrieveText } from './reads.js';
import { compact, type Row } from './rows.js';
import type { ModelDef } from './schema/model.js';
import { Ask } from './boundary.js';
import type { Session } from './session.js';
import { ask } from './session.js';
import type { ModelOperations } from './types.js';
import { checkId, isPlainObject, newId, show } from './values.js';
import { openView } from './view.js';
import { createText, optionsText, updateText } from './writes.js';

type Params = Readonly<Record<string, unknown>>;
type Operations = ModelOperations<Row, object, object>;

const CREATE_OWN = ['data', 'id', 'claim'];
const UPDATE_OWN = ['id', 'data', 'claim'];
const DELETE_OWN = ['id', 'claim'];

/** Makes the operations of the model at `index`. Every function works without its object: `const { get } = ablo.tasks`. */
export function createOperations(session: Session, index: number, key: string, model: ModelDef): Operations {
  const cache = session.models[index]!;
  const context = `${key} write`;

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

  const operations: Operations = {
    // Without a detour while the row is known: this is the most frequent call of all.
    get: (id) => cache.known(id) ?? local(() => cache.find(id)),
    getAll: (options) => local(() => cache.getAll(options as LocalOptions | undefined)),
    getCount: (options) => local(() => cache.getCount(options as LocalOptions | undefined)),
    onChange(callback, options) {
      if (typeof callback !== 'function')
        throw invalid('invalid_options', `onChange takes a function, got ${show(callback)}`, 'callback');
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
      return write(id, params['wait'] === 'confirmed', ask(Ask.Create, index, id, data, options));
    }),
    update: coded(async (given) => {
      const params = checkParams(given, 'update');
      const options = optionsText(params, UPDATE_OWN, context);
      const id = checkId(params['id']);
      const data = updateText(key, model, params['data']);
      return write(id, params['wait'] === 'confirmed', ask(Ask.Update, index, id, data, options));
    }),
    delete: coded(async (given) => {
      const params = checkParams(given, 'delete');
      const options = optionsText(params, DELETE_OWN, context);
      const id = checkId(params['id']);
      return session.send(ask(Ask.Delete, index, id, undefined, options), nothing);
    }),
    claim: coded(async () => {
      throw notYet('claim');
    }),
    watch: coded(async () => {
      throw notYet('watch');
    }),
  };
  for (const name of ['state', 'queue', 'release', 'reorder']) {
    Object.defineProperty(operations.claim, name, {
      value: () => {
        throw notYet('claim');
      },
    });
  }
  return Object.freeze(operations);
}

function nothing(): void {}

function checkParams(params: unknown, verb: string): Params {
  if (!isPlainObject(params)) throw invalid('write_options_invalid', `${verb} takes an object, got ${show(params)}`);
  if (params['claim'] != null) throw notYet('claim');
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
