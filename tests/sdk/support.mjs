/** Bundles the SDK with the stand-in for its core, and makes clients of a small schema. */

import { bundle } from './bundle.mjs';

export { settled } from './bundle.mjs';

const contents = `
  export * from './index.js';
  export { errorFromCore } from './errors.js';
  export { canonical } from './schema/json.js';
  export { page } from 'ablo-core';
`;
export const sdk = await import(await bundle(contents, 'stand-in-core.mjs'));
const { Ablo, defineSchema, field, model, page, relation } = sdk;
export { page };

export const schema = defineSchema({
  projects: model({ name: field.string() }, {}, { typename: 'Project', groups: { root: 'project' } }),
  tasks: model(
    {
      title: field.string(),
      rank: field.number().default(0),
      state: field.enum(['open', 'done']).default('open'),
      projectId: field.id().optional(),
      dueAt: field.date().optional(),
      extra: field.json().optional(),
      urgent: field.boolean().optional(),
    },
    { project: relation.belongsTo('projects', 'projectId', { parent: true }) },
    { typename: 'Task', computed: { label: (row) => `${row.title}#${row.rank}` } },
  ),
});

/** Position of `tasks` among the models. */
export const TASKS = 1;

export const task = (id, more = {}) => ({
  id,
  title: `task ${id}`,
  rank: 1,
  state: 'open',
  createdAt: '2026-01-02T03:04:05.000Z',
  updatedAt: '2026-01-02T03:04:05.000Z',
  ...more,
});

export const quiet = { warn() {} };

/** A client that has not loaded anything. */
export const makeClient = (options = {}) => Ablo({ schema, authToken: 'ek_test_1', logger: quiet, ...options });

/** A client that is ready, with its core. */
export async function readyClient(rows = [], options = {}) {
  const ablo = makeClient(options);
  await ablo.ready();
  const core = page.cores.at(-1);
  core.put(TASKS, rows);
  core.calls.length = 0;
  return { ablo, core };
}
