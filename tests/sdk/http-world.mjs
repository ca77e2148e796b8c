/**
 * What tests of the stateless client need: the client as it is bundled, `ablo-server` with its faults, and a way to see
 * what is asked. Everything that a test starts ends with it.
 */

import { bundle as bundled } from './bundle.mjs';
import { key } from './fixtures.mjs';
import { Server as AnyServer } from './server.mjs';

const contents = `
  export * from './index.js';
  export { isRetryable, readRetryAfter } from './http-request.js';
`;
/** Address of the client's bundle. There is no core to fall back to: whatever needs one fails. */
export const bundle = await bundled(contents, 'no-core.mjs');
export const sdk = await import(bundle);
const { Ablo, defineSchema, field, model, relation } = sdk;

export const schema = defineSchema({
  projects: model({ name: field.string() }, {}, { typename: 'Project' }),
  tasks: model(
    {
      title: field.string(),
      done: field.boolean().default(false),
      rank: field.number().default(0),
      projectId: field.id().optional(),
    },
    { project: relation.belongsTo('projects', 'projectId') },
    { typename: 'Task', computed: { label: (row) => `${row.title}#${row.rank}` } },
  ),
});

const KEYS = [
  key('ek_test_ada', 'user', 'ada'),
  key('rk_test_bot', 'agent', 'bot'),
  key('rk_test_other', 'agent', 'other'),
  key('rk_test_reader', 'agent', 'reader', { operations: ['projects.*'] }),
  key('sk_test_backend', 'system', 'backend'),
];

/** A server that can misbehave, and clients of it. */
export class Server extends AnyServer {
  #clients = [];

  static start(t, rows = {}) {
    const files = { keys: KEYS, schema: sdk.toSchemaJSON(schema), 'seed-file': rows };
    return super.start(t, files, ['--faults', '--seed-organization', 'acme']);
  }

  /** After its clients: they give back what they hold. */
  async stop(signal) {
    await this.faults({ reset: true });
    await Promise.all(this.#clients.map((ablo) => ablo.dispose()));
    return super.stop(signal);
  }

  /** A client of it, `ablo`, in the list of what it asks for. Disposed of at the end of the test. */
  client(options = {}) {
    const asked = [];
    const spy = async (url, init) => {
      const request = { method: init.method, url, headers: init.headers, body: init.body === null ? undefined : JSON.parse(init.body) };
      asked.push(request);
      return fetch(url, init);
    };
    const ablo = Ablo({ schema, transport: 'http', baseURL: this.url, apiKey: 'rk_test_bot', fetch: spy, ...options });
    this.#clients.push(ablo);
    return Object.assign(asked, { ablo });
  }
}

/** What a promise is rejected with. */
export async function rejection(promise) {
  const value = await promise.then((resolved) => ({ resolved }), (error) => error);
  if ('resolved' in value) throw new Error(`expected a rejection, got ${JSON.stringify(value.resolved)}`);
  return value;
}
