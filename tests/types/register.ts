/** An application that says once which schema is its own. */

import type { Model } from 'ablo-wasm';

import { equal } from './equal.js';
import type { AppSchema } from './schema.js';

declare module 'ablo-wasm' {
  interface Register {
    Schema: AppSchema;
  }
}

equal<Model<'tasks'>['state'], 'open' | 'done'>(true);
equal<Model<AppSchema, 'projects'>['name'], string>(true);
equal<Model<'decks'>, never>(true);
