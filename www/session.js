// Which data set, as whom, and the client for it.

import { Ablo } from 'ablo-wasm';
import { schema } from './schema.js';

/** The data sets: each is an organization of its own on the server. */
export const DATA_SETS = {
  demo: { label: 'Example board', tasks: 43 },
  'load-1k': { label: '1,000 tasks', tasks: 1_000 },
  'load-10k': { label: '10,000 tasks', tasks: 10_000 },
  'load-100k': { label: '100,000 tasks', tasks: 100_000 },
};

const params = new URLSearchParams(location.search);

/** What the address asks for: `?data=load-10k&user=grace`. */
export const place = {
  data: Object.hasOwn(DATA_SETS, params.get('data') ?? '') ? params.get('data') : 'demo',
  user: params.get('user') === 'grace' ? 'grace' : 'ada',
};

/** The address of this page with another data set or user. */
export function addressOf(changes) {
  return `?${new URLSearchParams({ ...place, ...changes })}`;
}

/**
 * A client of the server that this page comes from.
 *
 * Here keys come from a file. In an application this function asks your backend, which knows who is signed in:
 * `apiKey: async () => (await fetch('/api/session', { method: 'POST' })).text()`.
 */
export function connect(participant, options = {}) {
  return Ablo({
    schema,
    baseURL: location.origin,
    ...options,
    apiKey: async () => {
      const keys = await (await fetch('dev-keys.json')).json();
      return keys.find((key) => key.participantId === participant && key.organizationId === place.data)?.token ?? null;
    },
  });
}
