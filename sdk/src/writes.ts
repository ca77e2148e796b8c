/** Data and options of writes: checked against the schema and turned into the text that the core understands. */

import { AbloError, invalid } from './errors.js';
import type { FieldMeta } from './schema/field.js';
import { BASE_FIELDS, type ModelDef } from './schema/model.js';
import { checkJson, checkKeys, isPlainObject, show, unfit } from './values.js';

/** What rows of the 0.15 client carried besides data. Apps spread rows into writes, so these are dropped, not refused. */
const FRAMEWORK_FIELDS = ['__typename', '__class', 'clientId', 'syncStatus'];
const OPTION_KEYS = ['wait', 'readAt', 'onStale', 'idempotencyKey', 'label', 'claimRef', 'causedByTaskId', 'reads'];
const STALE_MODES = ['reject', 'overwrite', 'notify'];
const TEXT_MAX = 255;

/** The fields of a create as JSON: defaults filled in, everything checked. */
export function createText(name: string, model: ModelDef, data: unknown): string {
  const out = knownFields(name, model, data, true);
  for (const [field, meta] of Object.entries(model.fields)) {
    if (out[field] !== undefined) continue;
    const fallback = model.shape[field]?.initial;
    if (fallback !== undefined)
      out[field] = checkField(field, meta, typeof fallback === 'function' ? fallback() : fallback);
    else if (!meta.isOptional && !model.autoFill?.some((fill) => fill.field === field)) throw missing(name, field);
  }
  return JSON.stringify(out);
}

/** The fields of an update as JSON. */
export function updateText(name: string, model: ModelDef, data: unknown): string {
  return JSON.stringify(knownFields(name, model, data, false));
}

function knownFields(name: string, model: ModelDef, data: unknown, create: boolean): Record<string, unknown> {
  if (!isPlainObject(data)) throw unfit('data', 'a plain object', data, 'invalid_body');
  const out: Record<string, unknown> = {};
  for (const field of Object.keys(data)) {
    const value = data[field];
    if (value === undefined) continue;
    const meta = Object.hasOwn(model.fields, field) ? model.fields[field] : undefined;
    if (meta !== undefined) {
      if (value === null && !meta.isOptional && meta.type !== 'json') throw missing(name, field);
      out[field] = checkField(field, meta, value);
    } else if (create && field === 'organizationId') {
      out[field] = checkField(field, { type: 'string', isOptional: true, isIndexed: false }, value);
    } else if (!BASE_FIELDS.includes(field) && !FRAMEWORK_FIELDS.includes(field)) {
      const known = Object.keys(model.fields).join(', ');
      throw invalid('invalid_body', `unknown field "${field}" of ${name}, expected one of ${known}`, field);
    }
  }
  return out;
}

function missing(name: string, field: string): AbloError {
  return invalid('model_required_field_missing', `field "${field}" of ${name} is required`, field);
}

/** Checks a value against the declared type of its field. */
export function checkField(field: string, meta: FieldMeta, value: unknown): unknown {
  if (value === null) return value;
  const { type, enumValues } = meta;
  if (type === 'json') checkJson(value, field);
  else if (type === 'date') {
    const time = value instanceof Date ? value.getTime() : typeof value === 'string' ? Date.parse(value) : NaN;
    if (Number.isNaN(time)) throw mismatch(field, 'a Date or an ISO 8601 string', value);
  } else if (type === 'enum') {
    if (typeof value !== 'string' || enumValues?.includes(value) === false) {
      throw mismatch(field, `one of ${enumValues?.map(show).join(', ')}`, value);
    }
  } else if (typeof value !== type) throw mismatch(field, `a ${type}`, value);
  else if (type === 'number' && !Number.isFinite(value)) throw mismatch(field, 'a finite number', value);
  return value;
}

function mismatch(field: string, expected: string, value: unknown): AbloError {
  return unfit(field, expected, value, 'invalid_body', `field "${field}"`);
}

/**
 * The write options among the parameters of a call as JSON, or undefined when there are none.
 *
 * @param own names of the call's parameters that are not write options
 */
export function optionsText(
  params: Readonly<Record<string, unknown>>,
  own: readonly string[],
  context: string,
): string | undefined {
  checkKeys(params, [...own, ...OPTION_KEYS], 'write_options_invalid', `option of a ${context}`);
  let options: Record<string, unknown> | undefined;
  for (const key of OPTION_KEYS) {
    const value = params[key];
    if (value !== undefined && value !== null && !own.includes(key)) (options ??= {})[key] = value;
  }
  if (options === undefined) return undefined;
  assertWriteOptions(options, context);
  const { claimRef } = options;
  if (isPlainObject(claimRef)) options['claimRef'] = claimRef['id'];
  return JSON.stringify(options);
}

/**
 * Checks write options by the rules of every write.
 *
 * @param context named in the message, for example `'tickets write'`
 * @throws AbloValidationError `write_options_invalid`, with the option in `param`
 * @example
 * async function finishAll(options: { label: string; wait?: 'queued' | 'confirmed' }) {
 *   assertWriteOptions(options, 'finishAll');
 *   for (const { id } of ablo.tasks.getAll()) await ablo.tasks.update({ id, data: { done: true }, ...options });
 * }
 * await finishAll({ label: 'end of the day', wait: 'confirmed' });
 */
export function assertWriteOptions(value: unknown, context = 'write'): void {
  const fail = (param: string, expected: string, got: unknown): never => {
    throw unfit(param, expected, got, 'write_options_invalid', `${context}: ${param}`);
  };
  if (!isPlainObject(value)) return fail('options', 'a plain object', value);
  const { wait, readAt, onStale, idempotencyKey, label, claim, claimRef, causedByTaskId, reads } = value;
  const isText = (text: unknown): text is string => typeof text === 'string' && text.length <= TEXT_MAX;
  if (wait !== undefined && wait !== 'queued' && wait !== 'confirmed') fail('wait', '"queued" or "confirmed"', wait);
  if (readAt != null && !(Number.isSafeInteger(readAt) && (readAt as number) >= 0)) {
    fail('readAt', 'a non-negative integer', readAt);
  }
  if (onStale != null && !STALE_MODES.includes(onStale as string))
    fail('onStale', `one of ${STALE_MODES.join(', ')}`, onStale);
  if (idempotencyKey != null && !(isText(idempotencyKey) && idempotencyKey !== '')) {
    fail('idempotencyKey', 'a string of 1 to 255 characters', idempotencyKey);
  }
  if (label !== undefined && !isText(label)) fail('label', 'a string of up to 255 characters', label);
  for (const [param, claimed] of Object.entries({ claim, claimRef })) {
    const id = isObject(claimed) ? (claimed['id'] ?? claimed['claimId']) : claimed;
    if (claimed != null && typeof id !== 'string') fail(param, 'a claim id or an object with one', claimed);
  }
  if (causedByTaskId != null && typeof causedByTaskId !== 'string') fail('causedByTaskId', 'a string', causedByTaskId);
  if (reads != null) checkReads(reads, fail);
}

function checkReads(reads: unknown, fail: (param: string, expected: string, got: unknown) => never): void {
  if (!Array.isArray(reads)) return fail('reads', 'an array of read dependencies', reads);
  for (const [at, read] of (reads as unknown[]).entries()) {
    const row = isObject(read) && typeof read['model'] === 'string' && typeof read['id'] === 'string';
    const group = isObject(read) && typeof read['group'] === 'string';
    if (!(row || group) || !Number.isSafeInteger(read['readAt'])) {
      fail(`reads.${at}`, '{ model, id, readAt } or { group, readAt }', read);
    }
  }
  checkJson(reads, 'reads', 'write_options_invalid');
}

export function notClaim(value: unknown): AbloError {
  return unfit('claim', 'the handle of a claim', value, 'write_options_invalid');
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
