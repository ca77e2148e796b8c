/** The stateless client on a bad line: what it repeats, what it does not, what it says, and where its tokens come from. */

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { inspect } from 'node:util';
import { test } from 'node:test';

import { ROWS } from './fixtures.mjs';
import { rejection, sdk, Server } from './http-world.mjs';

const { AbloConnectionError, AbloRateLimitError, AbloServerError, SyncSessionError } = sdk;
const NOW = { 'retry-after': '0' };
const busy = (status, more) => ({ path: '/api/v1', status, headers: NOW, body: '{"code":"instance_at_capacity"}', ...more });

test('an answer that is lost is asked for again, with the same key, and the write happens once', async (t) => {
  const server = await Server.start(t, ROWS);
  let cut = 2;
  const keys = [];
  const lossy = async (url, init) => {
    keys.push(init.headers.get('idempotency-key'));
    const response = await fetch(url, init);
    if (cut-- <= 0) return response;
    await response.text();
    throw new TypeError('fetch failed');
  };
  const { ablo } = server.client({ fetch: lossy });
  const receipt = await ablo.tasks.create({ id: 'once', data: { title: 'Once' } });
  assert.equal(receipt.status, 'confirmed');
  assert.deepEqual([keys.length, new Set(keys).size], [3, 1]);
  cut = 1;
  const removed = await ablo.commits.create({ operation: { action: 'delete', model: 'tasks', id: 'once' } });
  assert.ok(removed.lastSyncId > receipt.lastSyncId);
});

test('a connection that the server drops is an error after so many attempts, and says what is not known', async (t) => {
  const server = await Server.start(t, ROWS);
  const { ablo } = server.client();
  await server.faults({ rules: [{ path: '/api/v1', drop: true }] });
  const [read, write] = await Promise.all([
    rejection(ablo.tasks.list()),
    rejection(ablo.tasks.update({ id: 't1', data: { rank: 1 } })),
  ]);
  assert.ok(read instanceof AbloConnectionError && write instanceof AbloConnectionError);
  assert.deepEqual([read.code, read.retryable, write.code, write.retryable], ['request_failed', true, 'commit_no_result', true]);
  assert.match(write.message, /PATCH \/v1\/models\/tasks\/t1.*whether it was carried out is not known/);
  const requests = await server.faults({ rules: [] });
  assert.deepEqual([requests['GET /api/v1/models/tasks'], requests['PATCH /api/v1/models/tasks/t1']], [4, 4]);
});

test('a claim whose answer is lost is not asked for again', async (t) => {
  const server = await Server.start(t, ROWS);
  const { ablo } = server.client();
  await server.faults({ rules: [{ path: '/api/v1', drop: true }] });
  const lost = await rejection(ablo.tasks.claim({ id: 't1' }));
  assert.equal(lost.code, 'commit_no_result');
  assert.equal((await server.faults({ rules: [] }))['POST /api/v1/models/tasks/t1/claim'], 1);
});

test('a busy server is asked again when it says, and not for ever', async (t) => {
  const server = await Server.start(t, ROWS);
  const asked = server.client();
  await server.faults({ rules: [busy(503, { times: 1 }), busy(429, { times: 1, body: '{"error":"rate_limit_exceeded"}' })] });
  await asked.ablo.tasks.update({ id: 't1', data: { rank: 1 } });
  assert.equal(asked.length, 3);
  assert.equal(new Set(asked.map(({ body }) => body.idempotencyKey)).size, 1);
  await server.faults({ rules: [busy(503)] });
  const full = await rejection(asked.ablo.tasks.list());
  assert.deepEqual([full instanceof AbloServerError, full.code, full.httpStatus, asked.length], [true, 'instance_at_capacity', 503, 7]);
  await server.faults({ rules: [busy(429, { headers: { 'retry-after': '3600' }, body: '' })] });
  const later = await rejection(asked.ablo.tasks.list());
  assert.deepEqual([later instanceof AbloRateLimitError, later.retryAfterSeconds, asked.length], [true, 3600, 8], 'too long to wait');
  assert.equal(sdk.readRetryAfter('Thu, 01 Jan 1970 00:00:09 GMT', 4000), 5000);
  assert.equal(sdk.readRetryAfter('soon'), undefined);
});

test('errors of the server keep class, code, status, details and the id of the request', async (t) => {
  const server = await Server.start(t, ROWS);
  const { ablo } = server.client();
  for (const [status, body, expected] of [
    [400, { code: 'invalid_body', message: 'm', param: 'x' }, ['AbloValidationError', 'invalid_body', 'm', 'x']],
    [403, { code: 'forbidden', message: 'm' }, ['AbloPermissionError', 'forbidden', 'm', undefined]],
    [409, { error: 'unique_violation', reason: 'r' }, ['AbloIdempotencyError', 'unique_violation', 'r', undefined]],
    [409, { object: 'commit_receipt', success: false, error: { code: 'stale_context', message: 'm' } }, ['AbloStaleContextError', 'stale_context', 'm', undefined]],
    [200, { success: false, error: { code: 'entity_claimed', message: 'm' } }, ['AbloClaimedError', 'entity_claimed', 'm', undefined]],
    [409, { code: 'claim_lost', message: 'm' }, ['AbloClaimedError', 'claim_lost', 'm', undefined]],
    [500, 'an old proxy', ['AbloServerError', undefined, 'an old proxy', undefined]],
    [418, '', ['AbloError', undefined, 'HTTP 418', undefined]],
    [401, { code: 'session_expired', message: 'm' }, ['SyncSessionError', 'session_expired', 'm', undefined]],
    [200, '<html>Welcome to the airport</html>', ['AbloConnectionError', 'protocol_violation']],
  ]) {
    await server.faults({ rules: [{ path: '/api/v1', status, body: typeof body === 'string' ? body : JSON.stringify(body) }] });
    const error = await rejection(ablo.tasks.update({ id: 't1', data: { rank: 1 } }));
    const { name, code, message, param } = error;
    assert.deepEqual([name, code, ...(expected.length > 2 ? [message, param] : [])], expected);
    if (status !== 200) assert.equal(error.httpStatus, status);
  }
  const required = { scope: 'task.update' };
  const body = JSON.stringify({ code: 'capability_scope_denied', message: 'm', requiredCapability: required });
  await server.faults({ rules: [{ path: '/api/v1', status: 403, body }] });
  const denied = await rejection(ablo.tasks.list());
  assert.deepEqual([denied.name, denied.message, denied.requiredCapability], ['CapabilityError', 'capability_scope_denied: m', required]);
  await server.faults({ reset: true });
  const missing = await rejection(ablo.tasks.update({ id: 'none', data: { rank: 1 } }));
  assert.deepEqual([missing.code, missing.httpStatus, /^req_/.test(missing.requestId)], ['mutate_update_entity_not_found', 404, true]);
});

test('a function for keys is asked once for all who wait, and again when the key is over', async (t) => {
  const server = await Server.start(t, ROWS);
  let minted = 0;
  const given = ['rk_test_bot', 'rk_test_other', { token: 'ek_test_ada', expiresAt: new Date(Date.now() + 3_600_000) }];
  const asked = server.client({ apiKey: async () => given[minted++] });
  const { ablo } = asked;
  assert.equal(minted, 0);
  await Promise.all([ablo.tasks.list(), ablo.tasks.retrieve({ id: 't1' }), ablo.projects.list()]);
  assert.deepEqual([minted, await ablo.getAuthToken()], [1, 'rk_test_bot']);
  await server.faults({ expire: 'rk_test_bot' });
  await Promise.all([ablo.tasks.list(), ablo.tasks.update({ id: 't1', data: { rank: 1 } })]);
  assert.deepEqual([minted, await ablo.getAuthToken()], [2, 'rk_test_other']);
  const keys = asked.filter(({ method }) => method === 'PATCH').map(({ body }) => body.idempotencyKey);
  assert.equal(new Set(keys).size, 1);
  await server.faults({ expire: 'rk_test_other' });
  await server.faults({ expire: 'ek_test_ada' });
  const over = await rejection(ablo.tasks.list());
  assert.deepEqual([over.code, over.httpStatus, minted], ['apikey_expired', 401, 3], 'one renewal for a call');
});

test('a key that is given is not renewed; one that is over, and a login that is over, are told apart', async (t) => {
  const server = await Server.start(t, ROWS);
  const { ablo } = server.client();
  await server.faults({ expire: 'rk_test_bot' });
  const over = await rejection(ablo.tasks.list());
  assert.deepEqual([over.type, over.code], ['AbloAuthenticationError', 'apikey_expired']);
  await server.faults({ endLogin: 'ek_test_ada' });
  const ended = await rejection(server.client({ apiKey: null, authToken: 'ek_test_ada' }).ablo.tasks.list());
  assert.ok(ended instanceof SyncSessionError);
  let signedIn = true;
  const user = server.client({ apiKey: async () => (signedIn ? { token: 'rk_test_other', expiresAt: Date.now() } : null) }).ablo;
  await user.tasks.list();
  signedIn = false;
  assert.ok((await rejection(user.tasks.list())) instanceof SyncSessionError);
  const nobody = await rejection(server.client({ apiKey: async () => null }).ablo.tasks.list());
  assert.deepEqual([nobody.type, nobody.code], ['AbloAuthenticationError', 'auth_no_credentials']);
});

test('a function for keys that fails is asked again; authEndpoint is asked with POST', async (t) => {
  const server = await Server.start(t, ROWS);
  let failures = 2;
  const apiKey = async () => {
    if (failures-- > 0) throw new Error('no network');
    return 'rk_test_bot';
  };
  const asked = server.client({ apiKey });
  await asked.ablo.tasks.list();
  assert.equal(asked.length, 1, 'nothing is sent without a key');
  const seen = [];
  const backend = createServer((request, response) => {
    seen.push(request.method);
    response.end(JSON.stringify({ token: 'rk_test_bot', expiresAt: null }));
  }).listen(0, '127.0.0.1');
  t.after(() => backend.close());
  await once(backend, 'listening');
  const authEndpoint = `http://127.0.0.1:${backend.address().port}/token`;
  const { ablo } = server.client({ apiKey: undefined, authEndpoint, fetch });
  await ablo.ready();
  assert.deepEqual([await ablo.getAuthToken(), seen], ['rk_test_bot', ['POST']]);
  await ablo.tasks.list();
});

test('no key is in an address or an error', async (t) => {
  const secret = 'rk_test_verysecret';
  const server = await Server.start(t, ROWS);
  const asked = server.client({ apiKey: secret, defaultHeaders: { 'x-own': 'hush' } });
  const told = [await rejection(asked.ablo.tasks.list())];
  await server.faults({ rules: [{ path: '/api/v1', status: 500, body: JSON.stringify({ message: `bad ${secret}` }) }] });
  told.push(await rejection(asked.ablo.tasks.create({ data: { title: 'x' } })));
  const parsing = server.client({ apiKey: async () => JSON.parse(secret) });
  told.push(await rejection(parsing.ablo.tasks.list()));
  for (const error of told) assert.doesNotMatch(inspect(error, { depth: 9 }) + JSON.stringify(error), /verysecret|hush/);
  for (const { url } of asked) assert.doesNotMatch(url, /verysecret/);
});

test('a client that ends rejects what is under way and whatever comes after', async (t) => {
  const server = await Server.start(t, ROWS);
  await server.faults({ rules: [{ path: '/api/v1', stall: true }] });
  const { ablo } = server.client();
  const stalled = rejection(ablo.tasks.list());
  await ablo.ready();
  await ablo[Symbol.asyncDispose]();
  assert.equal((await stalled).code, 'client_disposed');
  assert.equal((await rejection(ablo.ready())).code, 'client_disposed');
  await server.faults({ rules: [] });
});
