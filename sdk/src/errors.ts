/**
 * The error classes. Match on the class or on `code`, never on the message.
 *
 * The core decides which class an error has; this file only gives it a body. Classes set `name` and `type` on their
 * prototypes, because minified builds rename constructors.
 */

import type { CoreError } from './boundary.js';

/** What an error can be built with besides its message. */
export interface AbloErrorOptions {
  code?: string | undefined;
  retryable?: boolean | undefined;
  httpStatus?: number | undefined;
  requestId?: string | undefined;
  cause?: unknown;
  param?: string | undefined;
  docUrl?: string | undefined;
  details?: Record<string, unknown> | undefined;
}

/** What a server demands of whoever wants to do this. */
export interface RequiredCapability {
  readonly scope: string;
  readonly constraints?: Record<string, unknown>;
  readonly issuer?: string;
  readonly ttlSeconds?: number;
  readonly nonce?: string;
}

/** A claim that stands in the way, as far as it is known. */
export type ClaimContext = Readonly<Record<string, unknown>>;

const OPTIONAL = ['code', 'httpStatus', 'requestId', 'param', 'docUrl', 'details'] as const;
const DOCS = 'https://docs.abloatai.com/errors#';

/**
 * Every error of this package is one of these.
 *
 * @example
 * try {
 *   await ablo.tasks.update({ id: 'no such task', data: { done: true } });
 * } catch (error) {
 *   if (!(error instanceof AbloError)) throw error;
 *   error.code; // → 'entity_not_found'
 *   error.retryable; // → false
 * }
 */
export class AbloError extends Error {
  /** Name of the class family, for example `'AbloValidationError'`. */
  declare readonly type: string;
  /** What happened, from the registry of codes. Codes newer than this package pass through. */
  declare readonly code?: string;
  /** Whether the same call, unchanged, may succeed later. */
  readonly retryable: boolean;
  /** Status of the HTTP answer behind the error. Absent on errors raised locally. */
  declare readonly httpStatus?: number;
  /** Id of the request, for support. */
  declare readonly requestId?: string;
  /** The option or field that was wrong. */
  declare readonly param?: string;
  /** Page that explains the code. */
  declare readonly docUrl?: string;
  /** More about it, depending on the code. */
  declare readonly details?: Record<string, unknown>;

  constructor(message: string, options: AbloErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.retryable = options.retryable ?? false;
    const values = { docUrl: options.code && DOCS + options.code, ...options };
    for (const key of OPTIONAL) {
      if (values[key] !== undefined) Object.assign(this, { [key]: values[key] });
    }
  }

  /** `{ type, code?, param?, message, doc_url?, request_id?, …details }`. */
  toJSON(): Record<string, unknown> {
    const { type, code, param, message, docUrl, requestId, details } = this;
    return { type, code, param, message, doc_url: docUrl, request_id: requestId, ...details };
  }
}

function named(constructor: { prototype: object }, name: string, type = name): void {
  for (const [key, value] of Object.entries({ name, type })) {
    Object.defineProperty(constructor.prototype, key, { value, configurable: true, writable: true });
  }
  Object.defineProperty(constructor, 'name', { value: name, configurable: true });
}
named(AbloError, 'AbloError');

/** The credential is missing, refused or of the wrong kind. */
export class AbloAuthenticationError extends AbloError {
  static {
    named(this, 'AbloAuthenticationError');
  }
}

/**
 * The login is over: sign in again.
 *
 * @example
 * try {
 *   await ablo.ready();
 * } catch (error) {
 *   if (!SyncSessionError.isSessionError(error)) throw error;
 *   location.assign('/login');
 * }
 */
export class SyncSessionError extends AbloAuthenticationError {
  readonly isSessionError = true;
  readonly statusCode: number;
  static {
    named(this, 'SyncSessionError', 'AbloAuthenticationError');
  }
  constructor(message: string, statusCode = 401, options: AbloErrorOptions = {}) {
    super(message, { code: 'session_expired', ...options });
    this.statusCode = statusCode;
  }
  /** Whether `error` says that the login is over, also when it comes from another copy of this package. */
  static isSessionError(error: unknown): boolean {
    return (error as { isSessionError?: unknown } | null | undefined)?.isSessionError === true;
  }
}

/** Signed in, but not allowed. */
export class AbloPermissionError extends AbloError {
  static {
    named(this, 'AbloPermissionError');
  }
}

/** Not allowed for want of a capability. The message begins with the code. */
export class CapabilityError extends AbloPermissionError {
  declare readonly requiredCapability?: RequiredCapability;
  static {
    named(this, 'CapabilityError', 'AbloPermissionError');
  }
  constructor(
    code: string,
    message: string,
    requiredCapability?: RequiredCapability | undefined,
    options: AbloErrorOptions = {},
  ) {
    super(`${code}: ${message}`, { ...options, code });
    if (requiredCapability !== undefined) this.requiredCapability = requiredCapability;
  }
}

/**
 * Too many requests.
 *
 * @example
 * ablo.on('sync:error', ({ error }) => {
 *   if (error instanceof AbloRateLimitError) show(`trying again in ${error.retryAfterSeconds ?? 'a few'} seconds`);
 * });
 */
export class AbloRateLimitError extends AbloError {
  /** Seconds to wait, when the server said so. */
  declare readonly retryAfterSeconds?: number;
  static {
    named(this, 'AbloRateLimitError');
  }
}

/** In conflict with something that exists already. */
export class AbloIdempotencyError extends AbloError {
  static {
    named(this, 'AbloIdempotencyError');
  }
}

/** The server could not be reached, or did not answer in time. */
export class AbloConnectionError extends AbloError {
  static {
    named(this, 'AbloConnectionError');
  }
}

/**
 * The call itself was wrong.
 *
 * @example
 * try {
 *   await ablo.tasks.create({ data: { title: 'Call back', rank: NaN } });
 * } catch (error) {
 *   if (!(error instanceof AbloValidationError)) throw error;
 *   error.param; // → 'rank'
 * }
 */
export class AbloValidationError extends AbloError {
  static {
    named(this, 'AbloValidationError');
  }
}

/** The server failed. */
export class AbloServerError extends AbloError {
  static {
    named(this, 'AbloServerError');
  }
}

/** The row changed after the state that the write was based on. */
export class AbloStaleContextError extends AbloError {
  /** Watermark that the write was based on. */
  declare readonly readAt?: number;
  /** What changed since. */
  declare readonly conflicts?: readonly { model: string; id: string; observedSyncId: number }[];
  static {
    named(this, 'AbloStaleContextError');
  }
}

/** Somebody else holds the row. */
export class AbloClaimedError extends AbloError {
  /** The claims in the way, when known. */
  declare readonly claims?: readonly ClaimContext[];
  static {
    named(this, 'AbloClaimedError');
  }
}

const CLASSES: Record<string, new (message: string, options?: AbloErrorOptions) => AbloError> = {
  AbloAuthenticationError,
  AbloPermissionError,
  AbloRateLimitError,
  AbloIdempotencyError,
  AbloConnectionError,
  AbloValidationError,
  AbloServerError,
  AbloStaleContextError,
  AbloClaimedError,
};

/** Gives an error of the core its class. */
export function errorFromCore(json: string | CoreError): AbloError {
  const raw: CoreError = typeof json === 'string' ? JSON.parse(json) : json;
  const { class: name, message, details } = raw;
  if (name === 'SyncSessionError') return new SyncSessionError(message, raw.httpStatus, raw);
  if (name === 'CapabilityError') {
    const prefix = `${raw.code}: `;
    const text = message.startsWith(prefix) ? message.slice(prefix.length) : message;
    return new CapabilityError(raw.code, text, details?.['requiredCapability'] as RequiredCapability | undefined, raw);
  }
  const error = new (CLASSES[name] ?? AbloError)(message, raw);
  const extras = {
    AbloRateLimitError: { retryAfterSeconds: raw.retryAfterMs === undefined ? undefined : raw.retryAfterMs / 1000 },
    AbloStaleContextError: { readAt: details?.['readAt'], conflicts: details?.['conflicts'] },
    AbloClaimedError: { claims: details?.['claims'] ?? (details?.['heldByClaim'] && [details['heldByClaim']]) },
  }[name];
  for (const [key, value] of Object.entries(extras ?? {})) {
    if (value !== undefined) Object.assign(error, { [key]: value });
  }
  return error;
}

/**
 * Makes an {@link AbloError} of anything that was thrown: those pass unchanged, other errors keep message, code and
 * cause, the core's error texts get their class.
 *
 * @example
 * const error = toAbloError(new TypeError('the disk is full'));
 * error.message; // → 'the disk is full'
 */
export function toAbloError(thrown: unknown): AbloError {
  if (thrown instanceof AbloError) return thrown;
  if (typeof thrown === 'string' && thrown.startsWith('{"class"')) return errorFromCore(thrown);
  if (thrown instanceof Error) {
    const { code } = thrown as { code?: unknown };
    return new AbloError(thrown.message, { code: typeof code === 'string' ? code : undefined, cause: thrown });
  }
  return new AbloError(String(thrown), { cause: thrown });
}

/** An error in how something was called. */
export function invalid(code: string, message: string, param?: string): AbloValidationError {
  return new AbloValidationError(message, { code, param });
}
