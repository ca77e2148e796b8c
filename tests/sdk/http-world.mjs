/**
 * What tests of the stateless client need: the client as it is bundled, `ablo-server` with its faults, and a way to see
 * what is asked. `cargo xtask test` sets ABLO_SERVER. Everything that a test starts ends with it.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { build } from 'esbuild';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SERVER = process.env.ABLO_SERVER ?? join(ROOT, 'target/debug/ablo-server');

const directory = await mkdtemp(join(tmpdir(), 'ablo-http-'));
after(() => rm(directory, { recursive: true, force: true }));
const outfile = join(directory, 'sdk.mjs');
await build({
  stdin: {
    contents: `
      export * from './index.js';
      export { isRetryable, readRetryAfter } from './http-request.js';
    `,
    resolveDir: join(ROOT, 'sdk/src'),
    loader: 'ts',
  },
  // There is no core to fall back to: whatever needs one fails.
  alias: { 'ablo-core': join(ROOT, 'tests/sdk/no-core.mjs') },
  bundle: true,
  format: 'esm',
  // As in the package: what depends on the names of classes and functions must show here.
  minify: true,
  target: 'es2022',
  outfile,
  logLevel: 'warning',
});
/** Address of the client's bundle. */
export const bundle = pathToFileURL(outfile).href;
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

const key = (token, participantKind, participantId, more) => {
  return { token, participantKind, participantId, organizationId: 'acme', ...more };
};
const KEYS = [
  key('ek_test_ada', 'user', 'ada'),
  key('rk_test_bot', 'agent', 'bot'),
  key('rk_test_other', 'agent', 'other'),
  key('rk_test_reader', 'agent', 'reader', { operations: ['projects.*'] }),
  key('sk_test_backend', 'system', 'backend'),
];

/** A running `ablo-server` that can misbehave. */
export class Server {
  url;
  #process;
  #clients = [];

  static async start(t, rows = {}) {
    const server = new Server();
    const file = async (name, value) => {
      await writeFile(join(directory, name), JSON.stringify(value));
      return join(directory, name);
    };
    const args = ['--listen', '127.0.0.1:0', '--faults', '--log', 'error', '--keys', await file('keys.json', KEYS)];
    args.push('--schema', await file('schema.json', sdk.toSchemaJSON(schema)));
    args.push('--seed-file', await file('seed.json', rows), '--seed-organization', 'acme');
    server.#process = spawn(SERVER, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => server.stop());
    for await (const line of createInterface({ input: server.#process.stdout })) {
      server.url = line.split(' ')[1];
      return server;
    }
    throw new Error(`${SERVER} did not start: build it with \`cargo build -p ablo-server\``);
  }

  /** After its clients: they give back what they hold. */
  async stop() {
    await this.faults({ reset: true });
    await Promise.all(this.#clients.map((ablo) => ablo.dispose()));
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill('SIGKILL');
    await once(this.#process, 'exit');
  }

  /** Makes it misbehave (`server/src/faults`). How often each address was asked for. */
  async faults(change) {
    const response = await fetch(`${this.url}/faults`, { method: 'POST', body: JSON.stringify(change) });
    const answer = await response.json();
    if (!response.ok) throw new Error(JSON.stringify(answer));
    return answer.requests;
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

/** Two tasks of a project. */
export const ROWS = {
  Project: [{ id: 'p1', name: 'Support' }],
  Task: [
    { id: 't1', title: 'Call back', done: false, rank: 0, projectId: 'p1' },
    { id: 't2', title: 'Send the invoice', done: false, rank: 1, projectId: 'p1' },
  ],
};
