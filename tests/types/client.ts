/** A client of the demo schema, used as an application uses it. */

import AbloDefault, {
  Ablo,
  AbloError,
  AbloStaleContextError,
  AbloValidationError,
  assertWriteOptions,
  type AbloOptions,
  type ModelOperations,
  type OutboxEntry,
  type Status,
  type StorageReport,
  type SyncStatus,
} from 'ablo-wasm';
import type { InferModel } from 'ablo-wasm/schema';

import { equal } from './equal.js';
import { schema, type AppSchema } from './schema.js';

type Task = InferModel<AppSchema, 'tasks'>;

const ablo = Ablo({ schema, apiKey: async () => 'ek_1', persistence: 'indexeddb' });
equal<typeof AbloDefault, typeof Ablo>(true);
equal<typeof ablo, Ablo<AppSchema>>(true);
equal<typeof ablo.schema, AppSchema>(true);

const options: AbloOptions<AppSchema> = { schema, authToken: null, baseURL: 'localhost:8787', wasm: new Uint8Array() };
const namespaced: Ablo.Options<AppSchema> = options;
export const again = Ablo(namespaced);
export type ProjectName = Ablo.Schema.InferModel<AppSchema, 'projects'>['name'];

// @ts-expect-error a schema is required
Ablo({ apiKey: 'pk_1' });
// @ts-expect-error no such option
Ablo({ schema, databaseURL: 'x' });
// @ts-expect-error no such transport
Ablo({ schema, transport: 'tcp' });
// @ts-expect-error a resolver resolves to a string or null
Ablo({ schema, apiKey: async () => undefined });

export async function reads(): Promise<void> {
  equal<Task | undefined, ReturnType<typeof ablo.tasks.get>>(true);
  const open = ablo.tasks.getAll({
    where: { state: 'open', projectId: undefined },
    orderBy: { rank: 'desc' },
    limit: 10,
  });
  equal<readonly Task[], typeof open>(true);
  ablo.tasks.getAll({ filter: (row) => row.rank > 3, offset: 2, state: 'archived' });
  const count: number = ablo.tasks.getCount({ where: { dueAt: null } });
  const stop: () => void = ablo.tasks.onChange((rows) => rows.map((row) => row.title + count), {
    where: { urgent: true },
  });
  stop();
  const one = await ablo.tasks.retrieve({ id: 't1', expand: ['project'] });
  equal<Task | undefined, typeof one>(true);
  const list = await ablo.tasks.list({
    where: [
      ['state', 'open'],
      ['rank', '>=', 5],
      ['projectId', 'IN', ['p1', 'p2']],
    ],
    type: 'complete',
  });
  equal<readonly Task[], typeof list>(true);
  await ablo.tasks.list({ where: { state: ['open', 'done'] } });

  // @ts-expect-error results are read-only
  open.push(open[0]!);
  // @ts-expect-error no such model
  ablo.decks.getAll();
  // @ts-expect-error no such field
  ablo.tasks.getAll({ where: { titel: 'x' } });
  // @ts-expect-error no such field, in a model without computed ones
  ablo.projects.getAll({ where: { nam: 'x' } });
  // @ts-expect-error not one of the values
  ablo.tasks.getAll({ where: { state: 'closed' } });
  // @ts-expect-error no such direction
  ablo.tasks.getAll({ orderBy: { rank: 'up' } });
  // @ts-expect-error no such option
  ablo.tasks.getAll({ sort: 'rank' });
  // @ts-expect-error a count has no window
  ablo.tasks.getCount({ limit: 3 });
  // @ts-expect-error no such operator
  await ablo.tasks.list({ where: [['rank', '~', 5]] });
  // @ts-expect-error no such field
  await ablo.tasks.list({ where: [['rnk', 5]] });
}

export async function writes(): Promise<void> {
  const task = await ablo.tasks.create({ data: { title: 'x', urgent: null, projectId: 'p1', dueAt: new Date() } });
  equal<Task, typeof task>(true);
  await ablo.tasks.update({
    id: task.id,
    data: { state: 'done', dueAt: null },
    wait: 'confirmed',
    readAt: 4,
    onStale: 'notify',
  });
  const gone: void = await ablo.tasks.delete({ id: task.id, idempotencyKey: 'k', label: 'tidy' });
  const receipt = await ablo.commits.create({ operation: { action: 'archive', model: 'Task', id: task.id } });
  equal<number | undefined, typeof receipt.lastSyncId>(true);
  const watermark: Ablo.Commit.Receipt = receipt;

  // @ts-expect-error title is required
  await ablo.tasks.create({ data: { urgent: null, projectId: 'p1' } });
  // @ts-expect-error no such field
  await ablo.tasks.update({ id: 't1', data: { titel: 'x' } });
  // @ts-expect-error not a string
  await ablo.tasks.update({ id: 't1', data: { title: 7 } });
  // @ts-expect-error a required field cannot be cleared
  await ablo.tasks.update({ id: 't1', data: { title: null } });
  // @ts-expect-error an id is required
  await ablo.tasks.update({ data: { title: 'x' } });
  // @ts-expect-error no such option
  await ablo.tasks.delete({ id: 't1', timeout: 5 });
  // @ts-expect-error no such way to wait
  await ablo.tasks.delete({ id: 't1', wait: 'sent' });
  // @ts-expect-error no such action
  await ablo.commits.create({ operation: { action: 'upsert', model: 'Task' } });
  return void [gone, watermark];
}

export async function observes(): Promise<void> {
  await ablo.ready();
  const stops: (() => void)[] = [
    ablo.onStatus((status) => equal<Status, typeof status>(true)),
    ablo.subscribe(({ models }) => models.includes('tasks')),
    ablo.on('write:rejected', ({ error, transaction }) => transaction.modelId + String(error.code)),
    ablo.on('conflict:notified', ({ notifications }) => notifications[0]?.conflictingFields),
    ablo.onSessionError((error) => error.message),
    ablo.onMutationFailure(({ transaction, error }) => [transaction.modelName, error.retryable]),
  ];
  for (const stop of stops) stop();
  equal<SyncStatus, typeof ablo.syncStatus>(true);
  equal<'memory' | 'indexeddb', typeof ablo.status.durability>(true);
  equal<string | null, typeof ablo.organizationId>(true);
  ablo.setCredentialRefresher(async () => null);
  ablo.setCredentialRefresher(null);
  await ablo.waitForFlush(1000);
  await ablo.waitForConfirmation('Task', 't1');
  ablo.on('storage:problem', ({ error }) => error.code);
  equal<number | undefined, typeof ablo.status.storage.quota>(true);
  equal<AbloError | undefined, typeof ablo.status.storage.problem>(true);
  await using scoped = Ablo({ schema });
  await scoped.dispose();

  // @ts-expect-error no such event
  ablo.on('write:done', () => {});
  // @ts-expect-error a client's members are read-only
  ablo.tasks = ablo.tasks;
  // @ts-expect-error snapshots are read-only
  ablo.status.pendingWrites = 0;
}

export async function keeps(): Promise<void> {
  const stop: () => void = ablo.outbox.onChange((entries) => equal<readonly OutboxEntry[], typeof entries>(true));
  stop();
  const [entry] = ablo.outbox.list({ stage: 'rejected' });
  equal<Date | undefined, typeof entry extends { createdAt: infer D } | undefined ? D | undefined : never>(true);
  if (entry?.error?.retryable) await ablo.outbox.retry(entry.id);
  await ablo.outbox.edit('l1', { title: entry?.operations[0]?.data?.['title'] });
  await ablo.outbox.discard('l1');
  const granted: boolean = await ablo.storage.persist();
  const { usage } = await ablo.storage.estimate();
  equal<number | undefined, typeof usage>(true);
  const report: StorageReport = await ablo.storage.export();
  await ablo.purge();

  // @ts-expect-error no such stage
  ablo.outbox.list({ stage: 'confirmed' });
  // @ts-expect-error entries are read-only
  ablo.outbox.get('l1')!.attempts = 0;
  // @ts-expect-error the report names fields, not their values
  return void [granted, report.outbox[0]?.operations[0]?.data];
}

export function errors(error: unknown): unknown {
  assertWriteOptions({ wait: 'queued' }, 'tasks write');
  if (error instanceof AbloStaleContextError) return error.conflicts?.[0]?.observedSyncId;
  if (error instanceof AbloValidationError) return error.param;
  if (error instanceof AbloError) return [error.code, error.retryable, error.httpStatus, error.toJSON()];
  return new AbloError('x', { code: 'y', cause: error });
}

/** Code that works on any model with a title. */
export function titles<T extends { readonly title: string }>(model: ModelOperations<T>): string[] {
  return model.getAll().map((row) => row.title);
}
titles(ablo.tasks);
