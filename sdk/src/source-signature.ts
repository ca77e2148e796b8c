/**
 * Signatures of requests to a data source (protocol, section 16.1): those of Standard Webhooks, with one difference.
 * The key is the API key as it stands, the UTF-8 bytes of all of it; libraries for Standard Webhooks would decode it.
 *
 * The cryptography is the platform's (`crypto.subtle`), which also compares without telling by its time how much was
 * right.
 */

import { AbloAuthenticationError } from './index.js';

/** Names of the headers of a signed request. */
export const ABLO_SOURCE_HEADERS = Object.freeze({
  id: 'webhook-id',
  timestamp: 'webhook-timestamp',
  signature: 'webhook-signature',
} as const);

/** How far the time of a signature may be from now, in milliseconds, when nobody says otherwise. */
const TOLERANCE_MS = 5 * 60_000;
const VERSION = 'v1';

/** What is wrong with the signature of a request. */
export type SourceSignatureCode =
  | 'source_id_missing'
  | 'source_timestamp_missing'
  | 'source_timestamp_invalid'
  | 'source_timestamp_expired'
  | 'source_signature_missing'
  | 'source_signature_invalid';

/** A request is not signed, not signed with this key, or not lately. To be answered with status 401. */
export class SourceSignatureError extends AbloAuthenticationError {
  declare readonly code: SourceSignatureCode;
  static {
    Object.defineProperty(this.prototype, 'name', { value: 'SourceSignatureError', configurable: true });
  }
  constructor(code: SourceSignatureCode, message: string) {
    super(message, { code, httpStatus: 401 });
  }
}

/** What is signed, and with what. */
export interface SignSourceRequest {
  /** The project's API key. */
  readonly apiKey: string;
  /** Id of the message, the same when it is sent again. */
  readonly id: string;
  /** The body, byte for byte. */
  readonly body: string;
  /** When it is sent, in milliseconds since 1970; what is signed are whole seconds. Default: now. */
  readonly now?: number | undefined;
}

/** What is checked, and with what. */
export interface VerifySourceRequest {
  /** The project's API key. */
  readonly apiKey: string;
  /** The headers of the request: those of a `Request`, or an object with lower-case names. */
  readonly headers: Headers | Readonly<Record<string, string | undefined>>;
  /** The body as it came, before it is parsed. */
  readonly body: string;
  /** How far its time may be from now, in milliseconds, rounded up to seconds. Default: 300000, five minutes. */
  readonly toleranceMs?: number | undefined;
  /** The time, in milliseconds since 1970. Default: now. */
  readonly now?: number | undefined;
}

/** A good signature, with what it is good for; or what is wrong. */
export type SourceSignatureVerification =
  | { readonly ok: true; readonly id: string; readonly timestamp: number }
  | { readonly ok: false; readonly error: SourceSignatureError };

/**
 * The headers that sign a request.
 *
 * @example
 * import { signAbloSourceRequest } from 'ablo-wasm/source';
 *
 * const headers = await signAbloSourceRequest({ apiKey: 'sk_test_backend', id: 'msg_1', body: '{}', now: 1.7829e12 });
 * headers['webhook-timestamp']; // → '1782900000'
 */
export async function signAbloSourceRequest(request: SignSourceRequest): Promise<Record<string, string>> {
  const { apiKey, id, body, now = Date.now() } = request;
  const timestamp = String(Math.floor(now / 1000));
  const signature = await crypto.subtle.sign('HMAC', await importKey(apiKey, 'sign'), signedText(id, timestamp, body));
  return {
    [ABLO_SOURCE_HEADERS.id]: id,
    [ABLO_SOURCE_HEADERS.timestamp]: timestamp,
    [ABLO_SOURCE_HEADERS.signature]: `${VERSION},${btoa(String.fromCharCode(...new Uint8Array(signature)))}`,
  };
}

/**
 * Checks the signature of a request. Never rejects for what a request brings: the result says what is wrong with it.
 *
 * @example
 * import { signAbloSourceRequest, verifyAbloSourceRequest } from 'ablo-wasm/source';
 *
 * const apiKey = 'sk_test_backend';
 * const headers = await signAbloSourceRequest({ apiKey, id: 'msg_1', body: '{}' });
 * const good = await verifyAbloSourceRequest({ apiKey, headers, body: '{}' });
 * good.ok; // → true
 * const bad = await verifyAbloSourceRequest({ apiKey, headers, body: '[]' });
 * bad.ok ? null : bad.error.code; // → 'source_signature_invalid'
 */
export async function verifyAbloSourceRequest(request: VerifySourceRequest): Promise<SourceSignatureVerification> {
  const { apiKey, headers, body, toleranceMs = TOLERANCE_MS, now = Date.now() } = request;
  const header = (name: string): string =>
    (headers instanceof Headers ? headers.get(name) : headers[name]) ?? '';
  const fail = (code: SourceSignatureCode, message: string): SourceSignatureVerification => ({
    ok: false,
    error: new SourceSignatureError(code, message),
  });
  const id = header(ABLO_SOURCE_HEADERS.id);
  if (id === '') return fail('source_id_missing', `the header ${ABLO_SOURCE_HEADERS.id} is missing`);
  const stamp = header(ABLO_SOURCE_HEADERS.timestamp).trim();
  if (stamp === '') return fail('source_timestamp_missing', `the header ${ABLO_SOURCE_HEADERS.timestamp} is missing`);
  const timestamp = Number(stamp);
  if (!/^\d+$/.test(stamp) || !Number.isSafeInteger(timestamp))
    return fail('source_timestamp_invalid', `${ABLO_SOURCE_HEADERS.timestamp} must be Unix time in whole seconds`);
  const tolerance = Math.ceil(toleranceMs / 1000);
  if (Math.abs(Math.floor(now / 1000) - timestamp) > tolerance)
    return fail('source_timestamp_expired', `signed more than ${tolerance} s before or after now: check the clocks`);
  const prefix = `${VERSION},`;
  const entries = header(ABLO_SOURCE_HEADERS.signature).split(' ').filter((entry) => entry.startsWith(prefix));
  if (entries.length === 0)
    return fail('source_signature_missing', `${ABLO_SOURCE_HEADERS.signature} has no ${VERSION} signature`);
  const key = await importKey(apiKey, 'verify');
  const text = signedText(id, String(timestamp), body);
  for (const entry of entries) {
    const signature = fromBase64(entry.slice(prefix.length));
    if (signature && (await crypto.subtle.verify('HMAC', key, signature, text))) return { ok: true, id, timestamp };
  }
  return fail('source_signature_invalid', 'no signature fits body and API key: are both sides using the same key?');
}

const utf8 = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

const signedText = (id: string, timestamp: string, body: string): Uint8Array<ArrayBuffer> =>
  utf8(`${id}.${timestamp}.${body}`);

async function importKey(apiKey: string, usage: 'sign' | 'verify'): Promise<CryptoKey> {
  if (!apiKey) {
    const options = { code: 'apikey_missing', param: 'apiKey' };
    throw new AbloAuthenticationError('an apiKey is needed to sign and to verify', options);
  }
  return crypto.subtle.importKey('raw', utf8(apiKey), { name: 'HMAC', hash: 'SHA-256' }, false, [usage]);
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
