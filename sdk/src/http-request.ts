/**
 * One request of the stateless client: address, headers, credential, time limit, repetition, and what an answer means.
 *
 * A request is repeated only when that can do no harm: it reads, it names its own claim, or it carries an idempotency key
 * that is the same every time. A busy server (429, 503) has done nothing, so it may always be asked again.
 */

import type { AbloError } from './errors.js';
import type { Settings } from './options.js';
import type { Kit } from './stateless.js';

/** How long one attempt may take, in milliseconds. */
const ATTEMPT_MS = 30_000;
/** Most attempts of one call. */
const ATTEMPTS_MAX = 4;
/** Pause before the second attempt when the server names none, in milliseconds; doubled from then on. */
const PAUSE_MS = 250;
/** Longest pause that is worth waiting for, in milliseconds. A server that wants a longer one is for the caller. */
const PAUSE_MAX_MS = 30_000;
/** Added to the pause that a server names, at most, in milliseconds: those it turned away do not all come back at once. */
const JITTER_MS = 250;
/** How long a token is used whose end is not known, in milliseconds. */
const TOKEN_MS = 600_000;
/** The share of a token's life after which a new one is obtained. */
const TOKEN_SHARE = 2 / 3;
const TEXT_MAX = 200;

const BUSY = [429, 503];
const GATEWAY = [502, 504];
const SESSION_OVER = ['session_expired', 'jwt_expired'];
const KEY_OVER = 'apikey_expired';
const CLAIMED = [
  ...['claim_conflict', 'entity_claimed', 'claim_lost', 'claim_queued', 'claim_lease_unavailable', 'grant_timeout'],
  ...['model_claimed', 'model_claimed_timeout', 'queue_too_deep'],
];
const CAPABILITY = ['capability_scope_denied', 'capability_invalid'];
/** Server errors that the registry says will not go away by themselves. */
const FINAL = [
  ...['bootstrap_offline_no_cache', 'capability_auth_disabled', 'commit_offline_grace_expired', 'migration_failed'],
  ...['provisioner_unavailable', 'query_relation_target_unknown', 'schema_scope_invalid', 'schema_table_invalid'],
];
const WAITING = ['claim_queued', 'claim_wait_aborted'];
/** Members of the envelope that an error has under a name of its own. */
const ENVELOPE = ['type', 'code', 'message', 'reason', 'param', 'doc_url', 'request_id', 'error'];

export type Json = Readonly<Record<string, unknown>>;

/** What is asked. */
export interface Ask {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** Behind `/api`, not encoded. */
  readonly path: readonly string[];
  readonly query?: readonly (readonly [name: string, value: string])[];
  readonly body?: object;
  /** The idempotency key. */
  readonly key?: string;
  /** Whether the same request twice has the effect of one. Default: with a key, and for GET and DELETE. */
  readonly repeatable?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** What came of it. */
export interface Answer {
  readonly status: number;
  readonly body: Json;
}

export interface Line {
  send(ask: Ask): Promise<Answer>;
  /** The token in use, else the one that would be used; null when there is none. */
  token(): Promise<string | null>;
  /** Rejects, with this error, what is under way and whatever is asked from now on. */
  end(error: AbloError): void;
  /** Waits. Rejects when the client or the signal ends it. */
  pause(ms: number, signal?: AbortSignal): Promise<void>;
}

/** Opens the way to a server. Nothing is sent. */
export function openLine(options: Json, settings: Settings, kit: Kit): Line {
  const { AbloConnectionError } = kit;
  const base = /\/api$/.test(settings.baseUrl) ? settings.baseUrl : `${settings.baseUrl}/api`;
  const headers = readPairs(kit, options, 'defaultHeaders');
  const query = readPairs(kit, options, 'defaultQuery').filter(([, value]) => value !== null) as [string, string][];
  const tokens = new Tokens(settings, kit);
  const closing = new AbortController();

  const address = (ask: Ask): string => {
    const search = new URLSearchParams([...query, ...(ask.query ?? [])].map(([name, value]) => [name, value])).toString();
    return `${base}/${ask.path.map(encodeURIComponent).join('/')}${search && `?${search}`}`;
  };

  const headersOf = (ask: Ask, token: string): Headers => {
    const all = new Headers({ 'Content-Type': 'application/json', Authorization: `Bearer ${token}` });
    for (const [name, value] of headers) value === null ? all.delete(name) : all.set(name, value);
    if (ask.key !== undefined) all.set('Idempotency-Key', encodeKey(ask.key));
    return all;
  };

  const pause = (ms: number, signal?: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      const over = (end: () => void) => (): void => {
        clearTimeout(timer);
        for (const one of [signal, closing.signal]) one?.removeEventListener('abort', stop);
        end();
      };
      const stop = over(() => reject(closing.signal.aborted ? closing.signal.reason : signal?.reason));
      const timer = setTimeout(over(resolve), ms);
      for (const one of [signal, closing.signal]) {
        if (one?.aborted) return stop();
        one?.addEventListener('abort', stop);
      }
    });

  /** One attempt: status, headers and text, all of it within its time. */
  const attempt = async (ask: Ask, token: string): Promise<{ response: Response; text: string }> => {
    const abort = new AbortController();
    const stop = (): void => abort.abort();
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      stop();
    }, ATTEMPT_MS);
    const signals = [ask.signal, closing.signal];
    for (const signal of signals) signal?.addEventListener('abort', stop);
    try {
      if (signals.some((signal) => signal?.aborted)) stop();
      const body = ask.body === undefined ? null : JSON.stringify(ask.body);
      const { method } = ask;
      const init = { method, headers: headersOf(ask, token), body, signal: abort.signal, cache: 'no-store' } as const;
      const response = await settings.fetch(address(ask), init);
      return { response, text: await response.text() };
    } catch (cause) {
      if (closing.signal.aborted) throw closing.signal.reason;
      if (ask.signal?.aborted) throw ask.signal.reason;
      const why = late ? `did not answer within ${ATTEMPT_MS / 1000} seconds` : 'cannot be reached';
      const tail = ask.method !== 'GET' ? '; whether it was carried out is not known' : '';
      throw new AbloConnectionError(`the server ${why} (${ask.method} /${ask.path.join('/')})${tail}`, {
        code: ask.method === 'GET' ? 'request_failed' : 'commit_no_result',
        retryable: true,
        cause,
      });
    } finally {
      clearTimeout(timer);
      for (const signal of signals) signal?.removeEventListener('abort', stop);
    }
  };

  const send = async (ask: Ask): Promise<Answer> => {
    const repeatable = ask.repeatable ?? (ask.key !== undefined || ['GET', 'DELETE'].includes(ask.method));
    let renewed = false;
    for (let count = 1; ; count += 1) {
      if (closing.signal.aborted) throw closing.signal.reason;
      let error: AbloError;
      let wait: number | undefined;
      let again: boolean;
      let token: string | undefined;
      try {
        token = await tokens.take();
        const { response, text } = await attempt(ask, token);
        if (response.ok) return { status: response.status, body: readBody(text) };
        wait = readRetryAfter(response.headers.get('retry-after'));
        error = failureOf(kit, response.status, text, response.headers.get('x-request-id'), wait, token);
        if (error.code === KEY_OVER && !renewed && tokens.renew(token)) {
          renewed = true;
          continue;
        }
        again = BUSY.includes(response.status) || (repeatable && GATEWAY.includes(response.status));
      } catch (thrown) {
        if (!(thrown instanceof AbloConnectionError)) throw thrown;
        error = thrown;
        // Without a token nothing has been sent.
        again = token === undefined || repeatable;
      }
      if (!again || !error.retryable || count >= ATTEMPTS_MAX || PAUSE_MAX_MS < (wait ?? 0)) throw error;
      const ms = wait === undefined ? Math.random() * PAUSE_MS * 2 ** count : wait + Math.random() * JITTER_MS;
      await pause(ms, ask.signal);
    }
  };

  const readBody = (text: string): Json => {
    if (text.trim() === '') return {};
    const body = parse(text);
    if (kit.isPlainObject(body)) return body;
    // A captive portal says 200 to everything.
    throw new AbloConnectionError('the answer is not a JSON object: is baseURL the address of the service?', {
      code: 'protocol_violation',
      param: 'baseURL',
    });
  };

  return {
    send,
    pause,
    token: async () => tokens.known ?? (tokens.isPossible ? tokens.take() : null),
    end: (error) => closing.abort(error),
  };
}

/** Headers carry no other characters; the body has the key as it stands, and counts. */
function encodeKey(key: string): string {
  return /^[\x20-\x7e]*$/.test(key) ? key : encodeURIComponent(key);
}

function readPairs(kit: Kit, options: Json, name: string): [string, string | null][] {
  const wrong = (param: string, expected: string): never => {
    throw new kit.AbloValidationError(`${param} must be ${expected}`, { code: 'invalid_options', param });
  };
  const given = options[name] ?? {};
  if (!kit.isPlainObject(given)) return wrong(name, 'an object of names and texts');
  const pairs = Object.entries(given).filter(([, value]) => value !== undefined);
  for (const [key, value] of pairs) {
    // The value is not quoted: it may be a secret.
    if (value !== null && typeof value !== 'string') wrong(`${name}.${key}`, 'a string or null');
    try {
      if (name === 'defaultHeaders') new Headers([[key, (value as string | null) ?? '']]);
    } catch {
      wrong(`${name}.${key}`, 'a header: a name without spaces, a value without line breaks');
    }
  }
  return pairs as [string, string | null][];
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** Milliseconds: `Retry-After` is a number of seconds or a date (RFC 9110, 10.2.3). */
export function readRetryAfter(value: string | null, now = Date.now()): number | undefined {
  if (value === null || value.trim() === '') return undefined;
  const ms = /^\s*\d+\s*$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

/**
 * The error that an answer is (protocol 13.2 to 13.5). The registry of codes is in the core, which this client does not
 * load: the class follows from code and status as there; whether it may go away from the status and the exceptions above.
 */
export function failureOf(
  kit: Kit,
  status: number | undefined,
  text: string,
  requestId: string | null = null,
  retryAfterMs?: number,
  token?: string,
): AbloError {
  const parsed = parse(text);
  const body: Json = kit.isPlainObject(parsed) ? parsed : {};
  const nested: Json = kit.isPlainObject(body['error']) ? body['error'] : {};
  const string = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined);
  const code = string(body['code']) ?? string(nested['code']) ?? string(body['error']);
  const said = string(nested['message']) ?? string(body['reason']) ?? string(body['message']) ?? string(body['error']);
  const plain = parsed === undefined ? string(text.trim().slice(0, TEXT_MAX)) : undefined;
  const message = hide(said ?? plain ?? `HTTP ${status}`, token);
  const param = string(body['param']) ?? string(nested['param']) ?? string(nested['field']);
  // In a receipt the rest of the body is about the commit, not about the error.
  const { requiredCapability, claims, heldByClaim } = body;
  const about: Json = body['error'] === nested ? { requiredCapability, claims, heldByClaim, ...nested } : body;
  const details = Object.fromEntries(
    Object.entries(about).filter(([name, value]) => !ENVELOPE.includes(name) && value !== undefined),
  );
  return kit.errorFromCore({
    class: classOf(code, status),
    code: code as string,
    message,
    retryable: status !== undefined && isRetryable(code, status),
    ...(status === undefined ? {} : { httpStatus: status }),
    ...(requestId === null ? {} : { requestId }),
    ...(param === undefined ? {} : { param }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(Object.keys(details).length === 0 ? {} : { details }),
  });
}

/** A server that repeats what it was sent must not put a token into a message. */
function hide(text: string, token: string | undefined): string {
  return token === undefined ? text : text.replaceAll(token, '[key]');
}

export function isRetryable(code: string | undefined, status: number): boolean {
  if (code !== undefined && (WAITING.includes(code) || FINAL.includes(code))) return WAITING.includes(code);
  return status === 429 || status >= 500;
}

function classOf(code = '', status = 0): string {
  if (SESSION_OVER.includes(code)) return 'SyncSessionError';
  if (CAPABILITY.includes(code)) return 'CapabilityError';
  if (CLAIMED.includes(code)) return 'AbloClaimedError';
  if (code === 'stale_context') return 'AbloStaleContextError';
  if (status >= 500) return 'AbloServerError';
  const classes: Record<number, string> = {
    400: 'AbloValidationError',
    401: 'AbloAuthenticationError',
    403: 'AbloPermissionError',
    409: 'AbloIdempotencyError',
    422: 'AbloValidationError',
    429: 'AbloRateLimitError',
  };
  return classes[status] ?? 'AbloError';
}

/** The bearer of requests: one that was given, or one that is minted, once for all who wait for it. */
class Tokens {
  /** In use, unless its time is over. */
  known: string | undefined;
  /** When to look for another one, and when this one is over: milliseconds since the epoch. */
  #until = Infinity;
  #end = Infinity;
  #minting: Promise<string> | undefined;
  #hadOne: boolean;
  readonly #settings: Settings;
  readonly #kit: Kit;

  constructor(settings: Settings, kit: Kit) {
    this.#settings = settings;
    this.#kit = kit;
    const { apiKey, authToken } = settings;
    const given = apiKey ?? authToken;
    if (given !== null) this.known = checkToken(given, kit);
    this.#hadOne = given !== null;
  }

  /** Whether there is a token, or a function to ask for one. */
  get isPossible(): boolean {
    return this.known !== undefined || this.#settings.credential !== null;
  }

  /** A token that is good, as far as is known here. */
  async take(): Promise<string> {
    if (this.known !== undefined && Date.now() < this.#until) return this.known;
    if (this.#settings.credential !== null) {
      return (this.#minting ??= this.#mint().finally(() => (this.#minting = undefined)));
    }
    throw new this.#kit.AbloAuthenticationError('there is no key: give apiKey, authToken or authEndpoint', {
      code: 'api_key_required',
      param: 'apiKey',
    });
  }

  /** The server says that a token's time is over. Whether there may be another one. */
  renew(used: string): boolean {
    if (this.#settings.credential === null) return false;
    // Somebody else may have renewed it meanwhile.
    if (this.known === used) this.known = undefined;
    return true;
  }

  async #mint(): Promise<string> {
    const { AbloConnectionError, AbloAuthenticationError, AbloError, SyncSessionError } = this.#kit;
    const now = Date.now();
    const minted = await this.#kit.mint(this.#settings.credential).catch((cause: unknown) => {
      // Renewed ahead of its end: the old one still does.
      if (this.known !== undefined && now < this.#end) return undefined;
      if (cause instanceof AbloError && !(cause instanceof AbloConnectionError)) throw cause;
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new AbloConnectionError(`the apiKey function failed: ${why}`, {
        code: 'credential_unavailable',
        retryable: true,
        cause,
      });
    });
    if (minted === undefined) return this.known!;
    if (minted === null) {
      this.known = undefined;
      if (this.#hadOne) throw new SyncSessionError('nobody is signed in any more: the apiKey function resolved to null');
      throw new AbloAuthenticationError('nobody is signed in: the apiKey function resolved to null', {
        code: 'auth_no_credentials',
        param: 'apiKey',
      });
    }
    this.#end = minted.expiresAt === undefined ? now + TOKEN_MS / TOKEN_SHARE : Date.parse(minted.expiresAt);
    this.#until = now + (this.#end - now) * TOKEN_SHARE;
    this.#hadOne = true;
    return (this.known = checkToken(minted.token, this.#kit));
  }
}

function checkToken(given: string, kit: Kit): string {
  const token = given.trim();
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new kit.AbloAuthenticationError('the key is empty, or has characters that no header can carry', {
    code: 'apikey_invalid',
    param: 'apiKey',
  });
}
