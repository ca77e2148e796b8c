/** Checks of the options of a claim, for both transports. */

import type { ClaimOptions } from './coordination-types.js';
import { checkJson, checkKeys, checkObject, isPlainObject, unfit } from './values.js';

/** Options of a claim, beside those of the wait. */
export const CLAIM_KEYS = ['reason', 'description', 'field', 'path', 'range', 'meta', 'ttl', 'queue', 'maxQueueDepth'];
const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Checks the options of a claim, but for `ttl`. */
export function checkClaim(options: ClaimOptions): ClaimOptions {
  checkObject(options, 'claim', 'write_options_invalid');
  checkKeys(options, [...CLAIM_KEYS, 'waitTimeoutMs', 'signal'], 'write_options_invalid', 'option of a claim');
  const { signal, ...rest } = options as ClaimOptions;
  const check = (params: readonly string[], expected: string, isGood: (value: unknown) => boolean): void => {
    for (const param of params) {
      const value = options[param];
      if (value !== undefined && !isGood(value)) throw unfit(param, expected, value, 'write_options_invalid');
    }
  };
  check(['reason', 'description', 'field', 'path'], 'a string', (value) => typeof value === 'string');
  check(['maxQueueDepth', 'waitTimeoutMs'], 'a non-negative integer', (value) => Number.isSafeInteger(value) && (value as number) >= 0);
  check(['queue'], 'true or false', (value) => typeof value === 'boolean');
  check(['meta'], 'a plain object', isPlainObject);
  check(['signal'], 'an AbortSignal', (value) => value instanceof AbortSignal);
  checkJson(rest, 'claim', 'write_options_invalid');
  return { queue: true, ...options };
}

/** A duration in milliseconds. */
export function milliseconds(duration: unknown): number | undefined {
  if (duration === undefined) return undefined;
  const [, digits, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(String(duration)) ?? [];
  const ms = typeof duration === 'number' ? duration * 1000 : Number(digits) * MILLISECONDS[unit ?? 'ms']!;
  if (ms > 0 && Number.isFinite(ms)) return ms;
  const rule = 'a positive number of seconds, or a text such as "500ms", "30s", "2m", "1h"';
  throw unfit('ttl', rule, duration, 'duration_invalid');
}
