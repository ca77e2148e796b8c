/** Claims of the stateless client: taken, waited for, written under, lost and given back. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ROWS } from './fixtures.mjs';
import { rejection, sdk, Server } from './http-world.mjs';

const { AbloClaimedError, AbloConnectionError } = sdk;
/** How often waits ask, in milliseconds. */
const OFTEN = { pollInterval: 5 };

const world = async (t) => {
  const server = await Server.start(t, ROWS);
  const asked = server.client();
  const others = server.client({ apiKey: 'rk_test_other' });
  return { server, asked, bot: asked.ablo, others, other: others.ablo };
};

test('a claim reads the row, keeps others out, and is given back at the end of its block', async (t) => {
  const { asked, bot, other } = await world(t);
  const handle = await bot.tasks.claim({ id: 't1', reason: 'triaging', description: 'reading it', ttl: '2m', meta: { step: 1 } });
  assert.deepEqual([handle.object, handle.waited, handle.reason, handle.data.title], ['claim', false, 'triaging', 'Call back']);
  assert.deepEqual(handle.target, { model: 'tasks', id: 't1', meta: { step: 1 } });
  assert.equal(typeof handle.readAt, 'number');
  assert.deepEqual([asked[0].method, new URL(asked[0].url).pathname], ['POST', '/api/v1/models/tasks/t1/claim']);
  const meta = { step: 1, description: 'reading it' };
  assert.deepEqual(asked[0].body, { action: 'triaging', ttl: '2m', description: 'reading it', meta, queue: true });
  const state = await other.tasks.claim.state({ id: 't1' });
  assert.deepEqual(
    [state.id, state.heldBy, state.participantKind, state.reason, state.description, state.status, state.target.type],
    [handle.claimId, 'bot', 'agent', 'triaging', 'reading it', 'active', 'tasks'],
  );
  const refused = await rejection(other.tasks.update({ id: 't1', data: { rank: 1 } }));
  assert.ok(refused instanceof AbloClaimedError);
  assert.deepEqual([refused.code, refused.claims[0].claimId], ['entity_claimed', handle.claimId]);
  const { claims } = await other.tasks.retrieve({ id: 't1' });
  assert.deepEqual(claims.map(({ id, actor }) => [id, actor]), [[handle.claimId, 'bot']]);
  const held = await rejection(other.tasks.retrieve({ id: 't1', ifClaimed: 'fail' }));
  assert.deepEqual([held.code, held.claims.length], ['model_claimed', 1]);
  assert.equal((await rejection(other.tasks.update({ id: 't1', data: { rank: 1 }, ifClaimed: 'fail' }))).code, 'model_claimed');
  await bot.tasks.retrieve({ id: 't1', ifClaimed: 'fail' });
  assert.deepEqual((await other.claims.list({ model: 'tasks' })).map(({ id }) => id), [handle.claimId]);
  await handle[Symbol.asyncDispose]();
  await handle.release();
  assert.equal(await other.tasks.claim.state({ id: 't1' }), null);
  assert.equal(asked.filter(({ method }) => method === 'DELETE').length, 1, 'safe to repeat');
  await other.tasks.update({ id: 't1', data: { rank: 1 } });
});

test('writes under a claim are guarded by its watermark, which moves past its own writes', async (t) => {
  const { asked, bot } = await world(t);
  const claim = await bot.tasks.claim({ id: 't1' });
  const first = await bot.tasks.update({ id: 't1', data: { title: 'one' }, claim });
  await bot.commits.create({ claim, operations: [
    { action: 'update', model: 'tasks', id: 't1', data: { title: 'two' } },
    { action: 'update', model: 'tasks', id: 't2', data: { title: 'two' } },
  ] });
  await bot.tasks.update({ id: 't1', data: { rank: 2 }, claim, readAt: first.lastSyncId, onStale: 'overwrite' });
  const [one, batch, last] = asked.slice(2).map(({ body }) => body);
  assert.deepEqual([one.claim, one.readAt, one.onStale], [claim.claimId, claim.readAt, 'reject']);
  const marks = batch.operations.map(({ readAt, onStale }) => [readAt, onStale]);
  assert.deepEqual([batch.claim, marks], [claim.claimId, [[first.lastSyncId, 'reject'], [claim.readAt, 'reject']]]);
  assert.deepEqual([last.readAt, last.onStale], [first.lastSyncId, 'overwrite']);
  await bot.tasks.update({ id: 't2', data: { rank: 3 }, claim, onStale: 'overwrite' });
  assert.equal(asked.at(-1).body.readAt, claim.readAt, 'of other rows it knows nothing');
  await claim.release();
  const lost = await rejection(bot.tasks.update({ id: 't1', data: { rank: 3 }, claim }));
  assert.deepEqual([lost.type, lost.code], ['AbloClaimedError', 'claim_lost']);
  const byRef = await rejection(bot.tasks.update({ id: 't1', data: { rank: 3 }, claimRef: { id: claim.claimId } }));
  assert.equal(byRef.code, 'claim_lost');
});

test('a claim for one write is taken, written under and given back, also when the write fails', async (t) => {
  const { asked, bot } = await world(t);
  await bot.tasks.update({ id: 't1', data: { rank: 4 }, claim: { reason: 'closing', ttl: 30 } });
  await bot.tasks.create({ id: 't9', data: { title: 'new' }, claim: {} });
  await rejection(bot.tasks.update({ id: 'none', data: { rank: 4 }, claim: {} }));
  assert.deepEqual(
    asked.map(({ method, url, body }) => `${method} ${new URL(url).pathname.replace(/int_.*/, '…').slice(8)} ${body?.action ?? ''}`.trim()),
    [
      ...['POST models/tasks/t1/claim closing', 'PATCH models/tasks/t1', 'DELETE claims/…'],
      ...['POST models/tasks/t9/claim creating', 'POST models/tasks', 'DELETE claims/…'],
      ...['POST models/tasks/none/claim editing', 'PATCH models/tasks/none', 'DELETE claims/…'],
    ],
  );
  assert.match(asked[1].body.claim, /^int_/);
  assert.deepEqual(await bot.claims.list(), []);
  assert.equal((await rejection(bot.tasks.claim({ id: 'none' }))).code, 'entity_not_found');
  assert.deepEqual(await bot.claims.list(), [], 'a row that is not there is not held');
});

test('a held row: the place in line is told, refused, or given back when the line is long', async (t) => {
  const { bot, other, server } = await world(t);
  await bot.tasks.claim({ id: 't1' });
  const queued = await rejection(other.tasks.claim({ id: 't1' }));
  assert.deepEqual([queued.type, queued.code, queued.retryable, queued.details.position], ['AbloClaimedError', 'claim_queued', true, 0]);
  assert.equal((await rejection(other.tasks.claim({ id: 't2', queue: true }).then(() => bot.tasks.claim({ id: 't2', queue: false })))).code, 'entity_claimed');
  const third = server.client({ apiKey: 'ek_test_ada' }).ablo;
  const deep = await rejection(third.tasks.claim({ id: 't1', maxQueueDepth: 1 }));
  assert.equal(deep.code, 'queue_too_deep');
  const { object, data } = await bot.tasks.claim.queue({ id: 't1' });
  assert.deepEqual([object, data.map(({ id, status, position }) => [id, status, position])], ['list', [[queued.details.claimId, 'queued', 0]]]);
  await other.tasks.claim.release({ id: 't1' });
  assert.deepEqual((await bot.tasks.claim.queue({ id: 't1' })).data, []);
});

test('a line is put into another order by whoever may', async (t) => {
  const { bot, other, server } = await world(t);
  const holder = await bot.tasks.claim({ id: 't1' });
  const { ablo: backend } = server.client({ apiKey: 'sk_test_backend' });
  for (const client of [other, server.client({ apiKey: 'ek_test_ada' }).ablo]) await rejection(client.tasks.claim({ id: 't1' }));
  const { data } = await backend.tasks.claim.queue({ id: 't1' });
  await backend.tasks.claim.reorder({ id: 't1', order: data.toReversed?.() ?? [...data].reverse() });
  const after = await backend.tasks.claim.queue({ id: 't1' });
  assert.deepEqual(after.data.map(({ heldBy }) => heldBy), data.map(({ heldBy }) => heldBy).reverse());
  const reader = server.client({ apiKey: 'rk_test_reader' }).ablo;
  assert.equal((await rejection(reader.tasks.claim.reorder({ id: 't1', order: data }))).httpStatus, 403);
  await bot.tasks.claim.release(holder);
});

test('with pollInterval a claim waits for its turn', async (t) => {
  const { bot, other } = await world(t);
  const first = await bot.tasks.claim({ id: 't1' });
  const waiting = other.tasks.claim({ id: 't1', ...OFTEN });
  await bot.tasks.update({ id: 't1', data: { title: 'changed meanwhile' }, claim: first });
  for (;;) if ((await bot.tasks.claim.queue({ id: 't1' })).data.length === 1) break;
  await first.release();
  const second = await waiting;
  assert.deepEqual([second.waited, second.data.title], [true, 'changed meanwhile']);
  await other.tasks.update({ id: 't1', data: { rank: 2 }, claim: second });
});

test('a wait ends with its signal, its time or its client, and leaves the line', async (t) => {
  const { server, bot, other } = await world(t);
  await bot.tasks.claim({ id: 't1' });
  const line = async () => (await bot.tasks.claim.queue({ id: 't1' })).data.length;
  const abort = new AbortController();
  const waiting = rejection(other.tasks.claim({ id: 't1', ...OFTEN, signal: abort.signal }));
  while ((await line()) === 0);
  abort.abort();
  const aborted = await waiting;
  assert.ok(aborted instanceof AbloConnectionError);
  assert.equal(aborted.code, 'claim_wait_aborted');
  assert.equal(await line(), 0);
  assert.equal((await rejection(other.tasks.claim({ id: 't1', ...OFTEN, signal: abort.signal }))).code, 'claim_wait_aborted');
  const late = await rejection(other.tasks.claim({ id: 't1', ...OFTEN, waitTimeoutMs: 20 }));
  assert.deepEqual([late.type, late.code, await line()], ['AbloClaimedError', 'grant_timeout', 0]);
  const target = { model: 'tasks', id: 't1' };
  const timeout = await rejection(other.claims.waitFor(target, { ...OFTEN, timeout: 20 }));
  assert.deepEqual([timeout.type, timeout.code, timeout.claims.length], ['AbloClaimedError', 'model_claimed_timeout', 1]);
  const free = other.claims.waitFor(target, OFTEN);
  const stuck = rejection(server.client({ apiKey: 'ek_test_ada' }).ablo.claims.waitFor(target, { ...OFTEN, signal: AbortSignal.timeout(20) }));
  assert.equal((await stuck).code, 'claim_wait_aborted');
  const ended = server.client({ apiKey: 'ek_test_ada' }).ablo;
  const endless = rejection(ended.claims.waitFor(target, OFTEN));
  await ended.claims.list();
  await ended.dispose();
  assert.equal((await endless).code, 'client_disposed');
  await bot.claims.waitFor(target, OFTEN);
  await bot.tasks.claim.release({ id: 't1' });
  await free;
});

test('a field of a row is claimed by an id of its own, and a client that ends gives back what it holds', async (t) => {
  const { asked, bot, other } = await world(t);
  const claim = await bot.tasks.claim({ id: 't1', field: 'title' });
  assert.equal(new URL(asked[0].url).pathname, '/api/v1/claims');
  assert.deepEqual([asked[0].body.claimId, asked[0].body.target], [claim.claimId, { model: 'tasks', id: 't1', field: 'title', fieldOnly: true }]);
  assert.equal((await other.tasks.claim.state({ id: 't1' })).target.field, 'title');
  // The others are left to others.
  assert.equal(await other.tasks.claim.state({ id: 't1', field: 'rank' }), null);
  await other.tasks.update({ id: 't1', data: { rank: 7 }, claim: { field: 'rank' } });
  assert.equal((await rejection(other.tasks.update({ id: 't1', data: { title: 'mine' } }))).code, 'entity_claimed');
  assert.equal((await rejection(other.tasks.claim({ id: 't1', queue: false }))).code, 'entity_claimed');
  const whole = await bot.claims.create({ target: { model: 'projects', id: 'p1' }, reason: 'renaming' });
  assert.deepEqual([whole.readAt, whole.data], [undefined, undefined]);
  await bot.projects.update({ id: 'p1', data: { name: 'Sales' }, claim: whole });
  await bot.dispose();
  await bot.dispose();
  assert.deepEqual(await other.claims.list(), []);
  assert.equal((await rejection(bot.tasks.list())).code, 'client_disposed');
});

test('a claim whose answer is still awaited when the wait is aborted is given back', async (t) => {
  const { server, other } = await world(t);
  const abort = new AbortController();
  let arrived;
  const came = new Promise((resolve) => (arrived = resolve));
  const slow = async (url, init) => {
    const response = await fetch(url, { ...init, signal: null });
    if (init.method !== 'POST') return response;
    arrived(response.status);
    await new Promise((resolve) => init.signal.addEventListener('abort', resolve));
    throw init.signal.reason;
  };
  const { ablo } = server.client({ fetch: slow });
  const waiting = rejection(ablo.tasks.claim({ id: 't1', ...OFTEN, signal: abort.signal }));
  assert.equal(await came, 201, 'the server has granted it');
  abort.abort();
  assert.equal((await waiting).code, 'claim_wait_aborted');
  assert.deepEqual(await other.claims.list(), []);
});
