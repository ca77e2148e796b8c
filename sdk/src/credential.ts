/** Where tokens come from. */

import { AbloAuthenticationError, AbloConnectionError } from './errors.js';
import type { Minted } from './shell.js';

/** A token with its end, as endpoints that mint answer. */
export interface Credential {
  readonly token: string;
  /** Until when it is good: a date, its ISO 8601 text, or milliseconds since the epoch. Unknown: renewed every ten minutes. */
  readonly expiresAt?: string | number | Date | null | undefined;
}

/**
 * Resolves to a token; to `null` when nobody is signed in any more. A rejection means "try again later". With
 * `{ token, expiresAt }` the token is renewed when two thirds of its life are over; of a JWT that is known without.
 *
 * @example
 * import { Ablo, type CredentialResolver } from 'ablo-wasm';
 *
 * const apiKey: CredentialResolver = async () => {
 *   const response = await fetch('/api/credential', { method: 'POST' });
 *   if (response.status === 401) return null;
 *   if (!response.ok) throw new Error(`no session: ${response.status}`);
 *   return response.json();
 * };
 * await Ablo({ schema, baseURL: 'https://sync.example.com', apiKey }).ready();
 */
export type CredentialResolver = () => Promise<string | Credential | null>;

/** Asks an application's function, and checks what it resolves to. */
export async function mint(resolver: CredentialResolver | null): Promise<Minted | null> {
  let given: unknown;
  try {
    given = await resolver?.();
  } catch (error) {
    // Browsers quote what they cannot parse: that may be a token, and what is told here ends up in messages and logs.
    throw error instanceof SyntaxError ? new Error('the answer is not JSON') : error;
  }
  if (given === null) return null;
  const { token, expiresAt } = (typeof given === 'string' ? { token: given } : (given ?? {})) as Partial<Credential>;
  if (typeof token === 'string' && token.trim() !== '') return { token, expiresAt: toISO(expiresAt) ?? endOf(token) };
  // An application that answers undefined has made a mistake; nobody should be signed out for it.
  throw new AbloAuthenticationError(
    'the apiKey function must resolve to a non-empty string, to { token, expiresAt } or to null',
    { code: 'auth_no_credentials', param: 'apiKey' },
  );
}

/** What the core can read, if it is a moment at all. */
export function toISO(moment: Credential['expiresAt']): string | undefined {
  const date = new Date(moment ?? NaN);
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}

/** The end of a JSON web token (RFC 7519, 4.1.4). */
export function endOf(token: string): string | undefined {
  try {
    const claims = atob(token.split('.')[1]!.replace(/-/g, '+').replace(/_/g, '/'));
    return toISO((JSON.parse(claims) as { exp: number }).exp * 1000);
  } catch {
    return undefined;
  }
}

/** Obtains tokens from an endpoint of the application: a POST with its cookies. */
export function fromEndpoint(url: string, fetch: typeof globalThis.fetch): CredentialResolver {
  return async () => {
    const response = await fetch(url, { method: 'POST', credentials: 'include', headers: { Accept: 'application/json' } });
    if (response.status === 401) return null;
    if (!response.ok) throw new AbloConnectionError(`authEndpoint answered ${response.status}`);
    const text = await response.text();
    try {
      return JSON.parse(text) as Credential | string | null;
    } catch {
      return text;
    }
  };
}
