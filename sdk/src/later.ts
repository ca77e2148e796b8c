/** Members of the interface that come with a later version. Using one throws an error that says so. */

import { type AbloError, AbloAuthenticationError, invalid } from './errors.js';
import { INTERNAL_NAMES, LATER_NAMES } from './schema/reserved.js';

/** The error for using `name`. */
function notYet(name: string): AbloError {
  if (name === 'sessions') {
    return new AbloAuthenticationError('sessions are made on a server, with a secret key', {
      code: 'apikey_missing',
      param: name,
    });
  }
  return invalid('not_available', `${name} is not available in this version of ablo-wasm`, name);
}

/** Gives a client the members that are missing. They are not enumerable, so that printing a client does not trip over them. */
export function defineLater(client: object): void {
  for (const name of [...LATER_NAMES, ...INTERNAL_NAMES]) {
    Object.defineProperty(client, name, {
      enumerable: false,
      get: () => {
        throw notYet(name);
      },
    });
  }
}
