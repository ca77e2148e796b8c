/** Options of reads: checked, turned into the text that the core understands, and into keys of the query cache. */

import { invalid } from './errors.js';
import { BASE_FIELDS, type ModelDef } from './schema/model.js';
import { checkId, checkJson, checkKeys, checkObject, isPlainObject, unfit } from './values.js';

/** Options of a local read with the types taken off. */
export interface LocalOptions {
  readonly where?: Readonly<Record<string, unknown>> | undefined;
  // Rows of any type: what the application's function takes is between it and the public types.
  readonly filter?: ((row: any) => boolean) | undefined;
  readonly orderBy?: Readonly<Record<string, 'asc' | 'desc' | undefined>> | undefined;
  readonly limit?: number | undefined;
  readonly offset?: number | undefined;
  readonly state?: 'live' | 'archived' | 'all' | undefined;
}

const LOCAL_KEYS = ['where', 'filter', 'orderBy', 'limit', 'offset', 'state'];
const LIST_KEYS = ['where', 'orderBy', 'limit', 'type', 'expand'];
const ANSWERS = ['complete', 'unknown'];
const RETRIEVE_KEYS = ['id', 'type', 'expand'];
const STATES = ['live', 'archived', 'all'];
const DIRECTIONS = ['asc', 'desc'];

/**
 * A string that two option objects share only when they ask for the same; filters left out. Written by hand because it
 * is most of the cost of a repeated `getAll`: JSON.stringify takes three times as long. Lengths keep one part from
 * running into the next.
 */
export function cacheKey(options: LocalOptions | undefined): string {
  if (options === undefined) return '';
  let key = '';
  for (const name in options) {
    if (name === 'where') key += conditionsKey(options.where);
    else if (name === 'orderBy') for (const field in options.orderBy) key += `^${field}:${options.orderBy[field]};`;
    else if (name === 'limit' || name === 'offset' || name === 'state') key += `|${name}${options[name]}`;
    // Here and not only where the text is made: an option that is none must not slip through on a hit.
    else if (name !== 'filter') checkKeys(options, LOCAL_KEYS, 'invalid_options', 'read option');
  }
  return key;
}

function conditionsKey(where: LocalOptions['where']): string {
  let key = '';
  for (const field in where) {
    const value = where[field];
    key += `${field.length}:${field}`;
    if (typeof value === 'string') key += `"${value.length}:${value}`;
    else key += typeof value === 'object' ? JSON.stringify(value) : String(value);
    key += ';';
  }
  return key;
}

/** The text of a local read, or undefined when it asks for everything in any order. */
export function queryText(model: ModelDef, options: LocalOptions | undefined): string | undefined {
  if (options === undefined) return undefined;
  checkKeys(options, LOCAL_KEYS, 'invalid_options', 'read option');
  const { where, orderBy, limit, offset } = options;
  const query: Record<string, unknown> = {};
  if (where) query['where'] = localWhere(model, where);
  if (orderBy !== undefined) {
    if (!isPlainObject(orderBy)) {
      throw unfit('orderBy', 'an object', orderBy);
    }
    checkField(model, orderBy, 'orderBy');
    for (const [field, direction] of Object.entries(orderBy)) oneOf(direction, DIRECTIONS, `orderBy.${field}`);
    query['orderBy'] = orderBy;
  }
  if (checkCount(limit, 'limit')) query['limit'] = limit;
  if (checkCount(offset, 'offset')) query['offset'] = offset;
  const state = oneOf(options.state, STATES, 'state');
  if (state !== undefined && state !== 'live') query['state'] = state;
  return Object.keys(query).length === 0 ? undefined : JSON.stringify(query);
}

/**
 * For reads with a filter function: the options without filter and window, which is what the core is asked, and how to
 * get from those rows to the result. A filter needs every row that `where` lets through.
 */
export function splitFilter<T>(options: LocalOptions): { bare: LocalOptions; select: (rows: readonly T[]) => T[] } {
  const { filter, limit = 0, offset = 0, ...bare } = options;
  if (typeof filter !== 'function') {
    throw unfit('filter', 'a function', filter);
  }
  checkCount(limit, 'limit');
  checkCount(offset, 'offset');
  return {
    bare,
    select: (rows) => rows.filter((row) => filter(row)).slice(offset, limit === 0 ? undefined : offset + limit),
  };
}

/** The text of `list`: clauses instead of an object. The core knows which fields and operators there are. */
export function listText(options: Readonly<Record<string, unknown>> = {}): string {
  checkObject(options, 'list');
  checkKeys(options, LIST_KEYS, 'invalid_options', 'read option');
  checkJson(options, 'options', 'invalid_options');
  const { where, orderBy, limit, type } = options;
  if (where != null && !isPlainObject(where) && !Array.isArray(where)) {
    throw unfit('where', 'an object or a list of clauses', where);
  }
  if (orderBy != null && !isPlainObject(orderBy)) {
    throw unfit('orderBy', 'an object', orderBy);
  }
  for (const [field, direction] of Object.entries(orderBy ?? {})) oneOf(direction, DIRECTIONS, `orderBy.${field}`);
  checkCount(limit ?? undefined, 'limit');
  oneOf(type ?? undefined, ANSWERS, 'type');
  const clauses = isPlainObject(where)
    ? Object.entries(where).map(([field, value = null]) => (Array.isArray(value) ? [field, 'IN', value] : [field, value]))
    : where;
  return JSON.stringify({ ...options, where: clauses });
}

/** The text of `retrieve`. */
export function retrieveText(params: Readonly<Record<string, unknown>>): string {
  checkObject(params, 'retrieve');
  checkKeys(params, RETRIEVE_KEYS, 'invalid_options', 'read option');
  checkId(params['id']);
  oneOf(params['type'], ANSWERS, 'type');
  return JSON.stringify(params);
}

function localWhere(model: ModelDef, where: unknown): Record<string, unknown> {
  if (!isPlainObject(where))
    throw unfit('where', 'a plain object', where);
  checkField(model, where, 'where');
  return withNulls(where);
}

/** An undefined value asks for rows without the field. JSON would drop the condition and answer with every row. */
function withNulls(where: Record<string, unknown>): Record<string, unknown> {
  checkJson(where, 'where', 'invalid_options');
  return Object.fromEntries(Object.entries(where).map(([field, value]) => [field, value ?? null]));
}

function checkField(model: ModelDef, fields: Record<string, unknown>, param: string): Record<string, unknown> {
  for (const field of Object.keys(fields)) {
    if (Object.hasOwn(model.fields, field) || BASE_FIELDS.includes(field)) continue;
    const known = [...Object.keys(model.fields), ...BASE_FIELDS].join(', ');
    throw invalid(
      'query_invalid_identifier',
      `${param}: unknown field "${field}", expected one of ${known}`,
      `${param}.${field}`,
    );
  }
  return fields;
}

/** Whether a count is given and not 0. */
function checkCount(count: unknown, param: string): boolean {
  if (count === undefined || (Number.isSafeInteger(count) && (count as number) >= 0)) return Boolean(count);
  throw unfit(param, 'a non-negative integer', count);
}

function oneOf(value: unknown, allowed: readonly string[], param: string): string | undefined {
  if (value === undefined || allowed.includes(value as string)) return value as string | undefined;
  throw unfit(param, `one of ${allowed.join(', ')}`, value);
}
