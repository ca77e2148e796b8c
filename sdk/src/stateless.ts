/**
 * `Ablo({ transport: 'http' })`: names only. What is behind them is in `http.ts`, a file of its own that the first call
 * loads: every method is asynchronous anyway, and a page that never makes such a client never loads it.
 */

import { CLAIM_KEYS, checkClaim, milliseconds } from './claim-options.js';
import { mint } from './credential.js';
import {
  AbloAuthenticationError,
  AbloClaimedError,
  AbloConnectionError,
  AbloError,
  AbloValidationError,
  errorFromCore,
  invalid,
  SyncSessionError,
  toAbloError,
} from './errors.js';
import type { Settings } from './options.js';
import { computedOf, finishRow } from './rows.js';
import { BASE_FIELDS } from './schema/model.js';
import { RESERVED_NAMES } from './schema/reserved.js';
import { checkId, checkJson, checkKeys, isPlainObject, newId, show } from './values.js';
import { createText, optionsText, updateText } from './writes.js';

/** What other files use of this bundle. Passed, not imported: a second copy would have other error classes. */
export const KIT = {
  ...{ AbloAuthenticationError, AbloClaimedError, AbloConnectionError, AbloError, AbloValidationError },
  ...{ BASE_FIELDS, CLAIM_KEYS, checkClaim, checkId, checkJson, checkKeys, computedOf, createText, errorFromCore, finishRow },
  ...{ isPlainObject, milliseconds, mint, newId, optionsText, show, SyncSessionError, toAbloError, updateText },
};
export type Kit = typeof KIT;

/** Does what a path of names, called with arguments, asks for: `['tasks', 'claim', 'state']`. */
export type Call = (path: readonly string[], given: readonly unknown[]) => Promise<unknown>;

const MEMBERS = ['ready', 'dispose', 'commits', 'claims', 'sessions', 'model', 'getAuthToken'];

/** Makes a client of names. Anything that is no member of the client is a model. */
export function createStateless(options: object, settings: Settings): unknown {
  let loading: Promise<Call> | undefined;
  const load = (): Promise<Call> =>
    (loading ??= import('./http.js').then(
      ({ connect }) => connect(options, settings, KIT),
      (cause: unknown) => {
        loading = undefined;
        throw new AbloConnectionError('cannot load ablo-wasm/http', { code: 'http_unavailable', retryable: true, cause });
      },
    ));
  const at = (path: readonly string[]): unknown => {
    const known: Record<string, unknown> = Object.assign(Object.create(null), path[0] ? {} : { schema: settings.schema });
    return new Proxy(() => undefined, {
      get(_, given) {
        const key = given === Symbol.asyncDispose ? 'dispose' : given;
        // A client that had a `then` could not be awaited.
        if (typeof key !== 'string' || key === 'then') return undefined;
        if (!(key in known)) {
          if (!path[0] && RESERVED_NAMES.includes(key) && !MEMBERS.includes(key)) {
            throw invalid('not_available', `${key} is not available with transport "http"`, key);
          }
          known[key] = at([...path, key]);
        }
        return known[key];
      },
      apply: (_, __, given: unknown[]) =>
        path[0] === 'model' && !path[1]
          ? at(['model', checkId(given[0], 'name')])
          : load().then((call) => call(path, given)),
    });
  };
  return at([]);
}
