/** The stateless client of the demo schema, used as a worker uses it. */

import { Ablo, AbloClaimedError, type AbloHttpClient, type AbloHttpOptions } from 'ablo-wasm';
import type { Claim, ClaimHandle, ModelClaim } from 'ablo-wasm/http';
import type { InferModel } from 'ablo-wasm/schema';

import { equal } from './equal.js';
import { schema, type AppSchema } from './schema.js';

type Task = InferModel<AppSchema, 'tasks'>;

const desk = Ablo({ schema, transport: 'http', apiKey: async () => 'rk_1', defaultHeaders: { 'x-a': 'b', 'x-c': null } });
equal<typeof desk, AbloHttpClient<AppSchema>>(true);
equal<typeof desk, Ablo.Http<AppSchema>>(true);
equal<typeof desk.schema, AppSchema>(true);
const live = Ablo({ schema, transport: 'websocket' });
equal<typeof live, Ablo<AppSchema>>(true);
const options: AbloHttpOptions<AppSchema> = { schema, transport: 'http', authToken: null, defaultQuery: { a: undefined } };
export const again: Ablo.Http<AppSchema> = Ablo(options);

// @ts-expect-error nothing is kept
Ablo({ schema, transport: 'http', persistence: 'indexeddb' });
// @ts-expect-error no such transport
Ablo({ schema, transport: 'tcp' });
// @ts-expect-error headers are texts
Ablo({ schema, transport: 'http', defaultHeaders: { 'x-a': 7 } });

export async function reads(): Promise<void> {
  await desk.ready();
  const { data, stamp, claims } = await desk.tasks.retrieve({ id: 't1', ifClaimed: 'fail' });
  equal<Task, typeof data>(true);
  equal<number, typeof stamp>(true);
  equal<readonly ModelClaim[], typeof claims>(true);
  const list = await desk.tasks.list({ where: { state: 'open', projectId: 'p1' }, orderBy: { rank: 'desc' }, limit: 5, startingAfter: 't1' });
  equal<readonly Task[], typeof list>(true);
  const any = await desk.model('anything').retrieve({ id: 'x' });
  equal<Readonly<Record<string, unknown>>, typeof any.data>(true);

  // @ts-expect-error there are no local rows
  desk.tasks.getAll();
  // @ts-expect-error nor a status
  desk.status;
  // @ts-expect-error no such model
  desk.decks.list();
  // @ts-expect-error no such field
  await desk.tasks.list({ where: { titel: 'x' } });
  // @ts-expect-error only equality
  await desk.tasks.list({ where: { state: ['open', 'done'] } });
  // @ts-expect-error only equality
  await desk.tasks.list({ where: [['rank', '>', 5]] });
  // @ts-expect-error relations do not come along
  await desk.tasks.retrieve({ id: 't1', expand: ['project'] });
}

export async function writes(): Promise<void> {
  const receipt = await desk.tasks.create({ data: { title: 'x', urgent: null, projectId: 'p1' }, idempotencyKey: 'k' });
  equal<Ablo.Commit.Receipt, typeof receipt>(true);
  await desk.tasks.update({ id: 't1', data: { state: 'done' }, claim: { reason: 'closing', ttl: '30s', queue: false } });
  await desk.tasks.delete({ id: 't1', readAt: 4, onStale: 'notify', wait: 'confirmed' });
  await using claim = await desk.tasks.claim({ id: 't1', ttl: 90, pollInterval: 500, signal: AbortSignal.timeout(9000) });
  equal<ClaimHandle<Task>, typeof claim>(true);
  equal<Task | undefined, typeof claim.data>(true);
  await desk.tasks.update({ id: 't1', data: { rank: claim.data!.rank + 1 }, claim });
  await desk.commits.create({ operation: { action: 'archive', model: 'tasks', id: 't1' }, claim, reads: [] });
  const state: Claim | null = await desk.tasks.claim.state({ id: 't1' });
  const { data } = await desk.tasks.claim.queue({ id: 't1', field: 'title' });
  await desk.tasks.claim.reorder({ id: 't1', order: data });
  await desk.tasks.claim.release(claim);
  await desk.tasks.claim.release({ id: state?.id ?? '' });
  await desk.claims.waitFor({ model: 'tasks', id: 't1' }, { pollInterval: 500, timeout: 9000 });
  const session = await desk.sessions.create({ agent: { id: 'a' }, can: { tasks: ['read', 'update'] } });
  equal<string, typeof session.token>(true);

  // @ts-expect-error title is required
  await desk.tasks.create({ data: { urgent: null, projectId: 'p1' } });
  // @ts-expect-error not sent over HTTP
  await desk.tasks.update({ id: 't1', data: { rank: 1 }, label: 'x' });
  // @ts-expect-error no such unit
  await desk.tasks.claim({ id: 't1', ttl: '5 minutes' });
  // @ts-expect-error no such verb
  await desk.sessions.create({ agent: { id: 'a' }, can: { tasks: ['archive'] } });
  // @ts-expect-error no such model
  await desk.sessions.create({ agent: { id: 'a' }, can: { decks: ['read'] } });
}

export function holder(error: unknown): unknown {
  return error instanceof AbloClaimedError ? error.claims?.[0] : undefined;
}
