/** Checks of what an application passes in, before any of it crosses into the core. */

import { type AbloError, invalid } from './errors.js';

/** Whether a string has no lone surrogates: one that has cannot be sent and would come back as another string. */
export function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}

export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // An object of another realm has another Object.prototype, which again has none above it.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** Refuses parameters that are no object. */
export function checkObject(value: unknown, call: string, code = 'invalid_options'): asserts value is Record<string, unknown> {
  if (!isPlainObject(value)) throw invalid(code, `${call} takes an object, got ${show(value)}`);
}

/** A value for an error message. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object' && value !== null) return value instanceof Date ? 'an invalid Date' : 'an object';
  return String(value);
}

/** The error for a value that is not what it must be. */
export function unfit(param: string, expected: string, got: unknown, code = 'invalid_options', what = param): AbloError {
  return invalid(code, `${what} must be ${expected}, got ${show(got)}`, param);
}

/** The error for a name that is none of those that there are. */
export function notOneOf(
  what: string,
  given: unknown,
  known: readonly string[],
  param: string,
  code = 'invalid_options',
): AbloError {
  return invalid(code, `unknown ${what} ${show(given)}, expected one of ${known.join(', ')}`, param);
}

/** Checks an id: a non-empty well-formed string. */
export function checkId(id: unknown, param = 'id'): string {
  if (typeof id === 'string' && id !== '' && isWellFormed(id)) return id;
  throw unfit(param, 'a non-empty string without lone surrogates', id, 'invalid_id');
}

/** Refuses keys that are not in `known`, so that a misspelt option cannot pass unnoticed. */
export function checkKeys(value: object, known: readonly string[], code: string, what: string): void {
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) {
      throw notOneOf(what, key, known, key, code);
    }
  }
}

/**
 * Checks that JSON can carry a value unchanged. `undefined` members are left out by JSON and allowed, dates become ISO
 * strings; what JSON would drop or alter in silence is refused.
 *
 * @param param the field or option to name in the error
 */
export function checkJson(value: unknown, param: string, code = 'invalid_body', above: readonly object[] = []): void {
  const fail = (what: string): never => {
    throw invalid(code, `${param} holds ${what}, which JSON cannot carry`, param);
  };
  if (typeof value === 'number' && !Number.isFinite(value)) fail(String(value));
  if (typeof value === 'bigint' || typeof value === 'symbol' || typeof value === 'function') fail(`a ${typeof value}`);
  if (typeof value !== 'object' || value === null) return;
  if (value instanceof Date) {
    if (Number.isNaN(value.getTime())) fail('an invalid Date');
    return;
  }
  if (above.includes(value)) fail('a cycle');
  if (above.length > DEPTH_MAX) fail(`more than ${DEPTH_MAX} levels`);
  if (!Array.isArray(value) && !isPlainObject(value)) fail(`an instance of ${value.constructor?.name ?? 'a class'}`);
  const path = [...above, value];
  for (const member of Object.values(value)) checkJson(member, param, code, path);
}

const DEPTH_MAX = 200;

/** A new UUID, version 4. */
export function newId(): string {
  // randomUUID exists in secure contexts only; plain http on a local network is none.
  if (typeof crypto.randomUUID === 'function') return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const text = hex(bytes);
  return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join('-');
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
