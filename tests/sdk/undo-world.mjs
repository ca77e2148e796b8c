/**
 * What tests of undo need: the package as it is built, clients with its core, and `ablo-server`. Everything that a test
 * starts ends with it.
 */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { ROOT } from './bundle.mjs';
import { key, ROWS } from './fixtures.mjs';
import { Server as AnyServer } from './server.mjs';

const { Ablo, defineSchema, field, model, relation, ...rest } = await import(join(ROOT, 'pkg/index.js'));
export const sdk = { Ablo, ...rest };
export const { undoScope } = await import(join(ROOT, 'pkg/undo.js'));

export const schema = defineSchema({
  projects: model({ name: field.string() }, {}, { typename: 'Project' }),
  tasks: model(
    {
      title: field.string(),
      done: field.boolean().default(false),
      rank: field.number().default(0),
      projectId: field.id().optional(),
      layout: field.json().optional(),
    },
    { project: relation.belongsTo('projects', 'projectId') },
    { typename: 'Task' },
  ),
});

const user = (id, more) => key(`ek_test_${id}`, 'user', id, more);
const KEYS = [user('ada'), user('grace'), user('lin', { operations: ['projects.*', 'tasks.delete'] })];
const wasm = await WebAssembly.compile(await readFile(join(ROOT, 'pkg/ablo_wasm_bg.wasm')));

export class Server extends AnyServer {
  #clients = [];

  static start(t) {
    const files = { keys: KEYS, schema: rest.toSchemaJSON(schema), 'seed-file': ROWS };
    return super.start(t, files, ['--faults', '--seed-organization', 'acme']);
  }

  /** After its clients. */
  async stop(signal) {
    await Promise.all(this.#clients.splice(0).map((ablo) => ablo.dispose()));
    return super.stop(signal);
  }

  /** A client of somebody, not started. */
  make(name = 'ada', options = {}) {
    const ablo = Ablo({ schema, baseURL: this.url, apiKey: `ek_test_${name}`, wasm, ...options });
    this.#clients.push(ablo);
    return ablo;
  }

  /** A client that is ready and connected. */
  async client(name, options) {
    const ablo = this.make(name, options);
    await ablo.ready();
    await until(ablo, () => ablo.status.connection.state === 'connected');
    return ablo;
  }
}

/** Resolves when something is so, which may change with rows or with the status of a client. */
export function until(ablo, isSo) {
  return new Promise((resolve) => {
    const stops = [];
    const check = () => {
      if (!isSo()) return;
      for (const stop of stops.splice(0)) stop();
      resolve();
    };
    stops.push(ablo.subscribe(check), ablo.onStatus(check));
    check();
  });
}

/** What is told to a listener: a list that grows, and `next()` for what comes after what was asked for before. */
export function listen(subscribe) {
  const told = [];
  let seen = 0;
  let wake;
  subscribe((value) => {
    told.push(value);
    wake?.();
  });
  const next = async () => {
    while (told.length <= seen) await new Promise((resolve) => (wake = resolve));
    return told[seen++];
  };
  return Object.assign(told, { next });
}
