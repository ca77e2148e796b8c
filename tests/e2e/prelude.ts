/**
 * What the examples of the documentation take for granted: a schema, a client that is ready, two tasks of a project,
 * and two functions of an application. Runs in the page before each example.
 */

import { Ablo, defineSchema, field, type InferModel, model, relation } from 'ablo-wasm';

const appSchema = defineSchema({
  projects: model({ name: field.string() }, {}, { typename: 'Project' }),
  tasks: model(
    {
      title: field.string(),
      done: field.boolean().default(false),
      rank: field.number().default(0),
      projectId: field.id().optional(),
    },
    { project: relation.belongsTo('projects', 'projectId') },
    { typename: 'Task' },
  ),
});
type AppSchema = typeof appSchema;

const client = Ablo({ schema: appSchema, baseURL: location.origin, apiKey: 'ek_test_ada' });
const rejected: Error[] = [];
client.on('write:rejected', ({ error }) => rejected.push(error));
await client.ready();
await client.projects.create({ id: 'p1', data: { name: 'Support' } });
const t1 = await client.tasks.create({ id: 't1', data: { title: 'Call back', projectId: 'p1' } });
await client.tasks.create({ id: 't2', data: { title: 'Send the invoice', rank: 1, projectId: 'p1' } });
await client.waitForFlush();

declare global {
  var schema: AppSchema;
  var ablo: Ablo<AppSchema>;
  /** The task with the id `t1`. */
  var task: InferModel<AppSchema, 'tasks'>;
  /** Puts rows on the page. */
  var render: (rows: readonly unknown[]) => void;
  /** Tells the user something. */
  var show: (...text: unknown[]) => void;
  /** What a comment `// → value` becomes. */
  var expectEqual: (actual: unknown, expected: unknown) => void;
}

const shown: unknown[] = [];
let checks = 0;
Object.assign(globalThis, {
  schema: appSchema,
  ablo: client,
  task: t1,
  render: (rows: readonly unknown[]) => void shown.push(...rows),
  show: (...text: unknown[]) => void shown.push(...text),
  expectEqual(actual: unknown, expected: unknown) {
    checks += 1;
    const [is, promised] = [actual, expected].map((value) => JSON.stringify(value) ?? String(value));
    if (is !== promised) throw new Error(`the example promises ${promised}, but it is ${is}`);
  },
});

/** Ends the example: what it wrote must have been accepted. Returns how many values were checked. */
export async function finish(): Promise<number> {
  await client.waitForFlush().catch((error: { code?: string }) => {
    if (error.code !== 'client_disposed') throw error;
  });
  if (rejected[0] !== undefined) throw rejected[0];
  return checks;
}
