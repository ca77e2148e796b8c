import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TASKS, makeClient, page, quiet, readyClient, schema, sdk, settled, task } from './support.mjs';

const { Ablo } = sdk;
const options = { schema, authToken: 'ek_1' };

test('a client works after a failed load, and loads once', async () => {
  const ablo = makeClient();
  const before = page.loads;
  assert.equal(ablo.status.connection.state, 'idle');
  page.failLoad = new Error('offline');
  const write = ablo.tasks.create({ data: { title: 'x' } });
  await assert.rejects(ablo.ready(), { type: 'AbloConnectionError', code: 'wasm_unavailable', retryable: true });
  await assert.rejects(write, { code: 'wasm_unavailable' });
  page.failLoad = undefined;
  await Promise.all([ablo.ready(), ablo.ready(), makeClient().ready()]);
  assert.equal(page.loads, before + 2);
  assert.match(String(page.source), /ablo_wasm_bg\.wasm$/);
  assert.equal(page.cores.at(-2).calls.filter((call) => call === 'start').length, 1);
});

test('the configuration reaches the core', async () => {
  const apiKey = async () => 'ek_2';
  const { core } = await readyClient([], {
    authToken: undefined,
    apiKey,
    baseURL: 'ws://localhost:1/',
    syncGroups: ['g:1'],
  });
  const { schema: json, timezone, ...rest } = core.config;
  assert.deepEqual(json, JSON.parse(JSON.stringify(sdk.toSchemaJSON(schema))));
  assert.ok(timezone);
  const expected = {
    baseUrl: 'http://localhost:1',
    apiKeyFunction: true,
    kind: 'user',
    syncGroups: ['g:1'],
    persistence: 'memory',
  };
  assert.deepEqual(rest, expected);
  assert.equal(await core.host.credential(), 'ek_2');
});

test('a credential function that answers nonsense counts as trouble, not as signed out', async () => {
  const { ablo, core } = await readyClient([], { authToken: undefined, apiKey: async () => undefined });
  await assert.rejects(core.host.credential(), { message: /must resolve to a non-empty string, to \{ token, expiresAt \} or to null/ });
  ablo.setCredentialRefresher(async () => null);
  assert.equal(await core.host.credential(), null);
});

test('what a browser says of an answer that is not JSON is not passed on: it quotes it', async () => {
  const { core } = await readyClient([], { authToken: undefined, apiKey: async () => JSON.parse('ek_test_ada') });
  await assert.rejects(core.host.credential(), { message: 'the answer is not JSON' });
});

test('the end of a token comes from the answer, or from the token itself', async () => {
  const claims = (end) => `h.${Buffer.from(JSON.stringify({ exp: end, who: '\u{1f600}>?' })).toString('base64url')}.s`;
  const noon = '2026-07-01T12:00:00.000Z';
  const end = Date.parse(noon);
  for (const [given, expected] of [
    [{ token: 'ek_1', expiresAt: noon }, noon],
    [{ token: 'ek_1', expiresAt: '2026-07-01T14:00:00+02:00' }, noon],
    [{ token: 'ek_1', expiresAt: new Date(end) }, noon],
    [{ token: 'ek_1', expiresAt: end }, noon],
    [{ token: 'ek_1', expiresAt: 'soon' }, undefined],
    [{ token: 'ek_1', expiresAt: null }, undefined],
    [{ token: claims(end / 1000) }, noon],
    [claims(end / 1000), noon],
    [claims('later'), undefined],
    ['h.%%%.s', undefined],
    ['ek_1', undefined],
  ]) {
    const { core } = await readyClient([], { authToken: undefined, apiKey: async () => given });
    assert.equal(await core.host.credential(), given.token ?? given);
    assert.equal(core.expiresAt, expected, JSON.stringify(given));
  }
});

test('an endpoint that mints answers with text or JSON, with 401 when nobody is signed in', async () => {
  const asked = [];
  const answers = [
    [200, 'ek_1', 'ek_1'],
    [200, '"ek_2"', 'ek_2'],
    [200, '{"token":"ek_3","expiresAt":"2026-07-01T12:00:00.000Z"}', 'ek_3'],
    [200, 'null', null],
    [401, '', null],
  ];
  let body;
  const fetch = async (...call) => {
    asked.push(call);
    return new Response(body[1], { status: body[0] });
  };
  const { core } = await readyClient([], { authToken: undefined, authEndpoint: '/session', fetch });
  for (const [status, text, token] of answers) {
    body = [status, text];
    assert.equal(await core.host.credential(), token);
  }
  for (const [status, text] of [[500, ''], [403, ''], [302, ''], [200, ''], [200, '{}']]) {
    body = [status, text];
    await assert.rejects(core.host.credential(), `${status} ${text}`);
  }
  const [url, options] = asked[0];
  assert.deepEqual([url, options.method, options.credentials], ['/session', 'POST', 'include']);
  assert.throws(() => makeClient({ authEndpoint: 7 }), { code: 'invalid_options', param: 'authEndpoint' });
});

test('base URLs are normalised', () => {
  for (const [given, expected] of [
    ['localhost:8787', 'https://localhost:8787'],
    [' https://x.example/ ', 'https://x.example'],
    ['wss://x.example/base/', 'https://x.example/base'],
    ['http://mesh.ablo.finance/v', 'https://api.abloatai.com/v'],
    ['', ''],
  ]) {
    assert.equal(sdk.normalizeAbloHostedBaseUrl(given), expected);
  }
});

test('options that are mistakes throw', () => {
  for (const [more, param] of [
    [{ databaseURL: 'x' }, 'databaseURL'],
    [{ transport: 'tcp' }, 'transport'],
    [{ databaseUrl: 'postgres://' }, 'databaseUrl'],
    [{ persistence: 'disk' }, 'persistence'],
    [{ apiKey: 7 }, 'apiKey'],
    [{ fetch: 'x' }, 'fetch'],
    [{ baseURL: 7 }, 'baseURL'],
    [{ mutationExecutor: {} }, 'mutationExecutor'],
    [{ onlineStatus: {} }, 'onlineStatus'],
    [{ kind: 'robot' }, 'kind'],
    [{ bootstrapMode: 'some' }, 'bootstrapMode'],
    [{ schema: undefined }, 'schema'],
    [{ schema: {} }, 'schema'],
  ]) {
    assert.throws(
      () => Ablo({ ...options, ...more }),
      { type: 'AbloValidationError', code: 'invalid_options', param },
      param,
    );
  }
  assert.throws(() => Ablo(), { code: 'invalid_options' });
  assert.throws(() => Ablo({ ...options, nonsense: 1 }), /unknown option "nonsense", expected one of schema, apiKey/);
});

test('secrets do not get into a browser', () => {
  globalThis.window = globalThis;
  try {
    assert.throws(() => Ablo({ schema, apiKey: 'sk_live_1' }), {
      type: 'AbloAuthenticationError',
      code: 'browser_apikey_blocked',
    });
    assert.throws(() => Ablo({ ...options, databaseUrl: 'x' }), { code: 'browser_database_url_blocked' });
    Ablo({ schema, apiKey: 'sk_live_1', dangerouslyAllowBrowser: true });
    Ablo({ schema, apiKey: 'pk_1' });
  } finally {
    delete globalThis.window;
  }
  Ablo({ schema, apiKey: 'sk_live_1' });
});

test('some wrong options are told by ready and syncStatus', async () => {
  for (const [more, code, param] of [
    [{ baseURL: ' ' }, 'base_url_missing', 'baseURL'],
    [{ authToken: undefined, user: { id: '' } }, 'invalid_options', 'user.id'],
    [{ authToken: undefined, kind: 'agent' }, 'invalid_options', 'agentId'],
    [{ authToken: undefined, kind: 'agent', agentId: 'a' }, 'invalid_options', 'capabilityToken'],
  ]) {
    const ablo = Ablo({ ...options, logger: quiet, ...more });
    assert.equal(ablo.syncStatus.state, 'error');
    assert.equal(ablo.syncStatus.error.code, code);
    await assert.rejects(ablo.ready(), { code, param });
    await assert.rejects(ablo.ready(), { code, param });
  }
});

test('options without effect are accepted with a warning', () => {
  const warnings = [];
  const logger = { warn: (message) => warnings.push(message) };
  const ablo = Ablo({ ...options, logger, offline: true, maxPoolSize: 10, analytics: {} });
  assert.equal(warnings.length, 3);
  assert.match(warnings.join(), /maxPoolSize.*analytics.*persistence/);
  assert.equal(ablo.status.durability, 'memory');
});

test('legacy identities name their groups', async () => {
  const grouped = sdk.defineSchema(
    { tasks: sdk.model({ title: sdk.field.string() }) },
    {
      identityRoles: [
        sdk.identityRole({ kind: 'team', source: 'teamIds', multi: true }),
        sdk.identityRole({ kind: 'org', source: 'organizationId' }),
      ],
    },
  );
  const user = { id: 'u1', teamIds: ['a', 'b', '', 'a'] };
  const { core } = await readyClient([], {
    authToken: undefined,
    schema: grouped,
    user,
    organizationId: 'o1',
    syncGroups: ['x:1'],
  }).catch(() => ({ core: page.cores.at(-1) }));
  assert.deepEqual(core.config.syncGroups, ['team:a', 'team:b', 'org:o1', 'x:1']);
  assert.equal(core.config.participantId, 'u1');
  assert.equal(core.config.organizationId, 'o1');
});

test('models are real properties, and every function works alone', async () => {
  const { ablo } = await readyClient([task('t1')]);
  assert.ok(Object.keys(ablo).includes('tasks') && Object.keys(ablo).includes('projects'));
  assert.equal(ablo.then, undefined);
  const { get, getAll } = ablo.tasks;
  assert.equal(get('t1'), getAll()[0]);
  const { onStatus, ready } = ablo;
  onStatus(() => {})();
  await ready();
  assert.equal(await ablo, ablo);
});

test('what comes later says so', async () => {
  const ablo = makeClient();
  for (const name of ['model', '_ws', '_pool', '_store']) {
    assert.throws(() => ablo[name], { code: 'not_available', param: name });
  }
  assert.throws(() => ablo.sessions, { code: 'apikey_missing' });
  // Before anything is loaded there is nobody, and nothing is held.
  assert.equal(ablo.tasks.claim.state({ id: 't1' }), null);
  assert.deepEqual([ablo.presence.others, ablo.claims.others], [[], []]);
  assert.ok({ ...ablo }.tasks);
});

test('status is one object until something in it changes', async () => {
  const { ablo, core } = await readyClient();
  const { status, syncStatus } = ablo;
  assert.equal(ablo.status, status);
  assert.ok(Object.isFrozen(status) && Object.isFrozen(status.connection) && Object.isFrozen(syncStatus));
  assert.equal(ablo.organizationId, 'o1');
  const told = [];
  ablo.onStatus((next) => told.push(next));
  core.host.status();
  await settled();
  assert.equal(ablo.status, status);
  assert.deepEqual(told, []);

  const error = { class: 'AbloServerError', code: 'internal_error', message: 'x', retryable: true };
  core.sync = { ...core.sync, pendingChanges: 2, offlineSince: 5, lastSyncAt: 6, error };
  core.host.status();
  core.host.status();
  assert.equal(ablo.syncStatus.pendingChanges, 2);
  assert.ok(ablo.syncStatus.error instanceof sdk.AbloServerError);
  assert.equal(ablo.syncStatus.offlineSince.getTime(), 5);
  assert.equal(ablo.syncStatus.lastSyncAt.getTime(), 6);
  assert.equal(ablo.syncStatus.durability, 'memory');
  await settled();
  assert.deepEqual(told, [ablo.status]);
  assert.equal(told[0].connection.state, 'connected');
});

test('events reach their listeners with real errors', async () => {
  const { ablo, core } = await readyClient();
  const seen = [];
  ablo.on('write:rejected', (payload) => seen.push(payload));
  ablo.onMutationFailure((failure) => seen.push(failure));
  ablo.onSessionError((error) => seen.push(error));
  const transaction = { id: 'tx_1', type: 'update', modelName: 'Task', modelId: 't1', modelKey: 'tasks' };
  const error = { class: 'AbloPermissionError', code: 'forbidden', message: 'no', retryable: false };
  core.host.event('write:rejected', JSON.stringify({ transaction, error, permanent: true }));
  core.host.event('session:ended', JSON.stringify({ ...error, class: 'SyncSessionError', code: 'session_expired' }));
  core.host.event('something:new', '{}');
  assert.ok(seen[0].error instanceof sdk.AbloPermissionError);
  assert.deepEqual(seen[1].transaction, transaction);
  assert.equal(seen[1].permanent, true);
  assert.ok(sdk.SyncSessionError.isSessionError(seen[2]));
  assert.throws(() => ablo.on('write:done', () => {}), { code: 'invalid_options', param: 'event' });
  assert.throws(() => ablo.on('write:rejected'), { param: 'listener' });
  assert.throws(() => ablo.onSessionError(), { param: 'listener' });
  assert.throws(() => ablo.onStatus(1), { param: 'listener' });
});

test('tokens', async () => {
  const ablo = makeClient({ apiKey: 'pk_1', authToken: undefined });
  assert.equal(await ablo.getAuthToken(), 'pk_1');
  ablo.nudgeReconnect();
  assert.throws(() => ablo.setAuthToken(undefined), { param: 'token' });
  ablo.setAuthToken('ek_9');
  assert.equal(await ablo.getAuthToken(), 'ek_9');
  await ablo.ready();
  const core = page.cores.at(-1);
  assert.equal(core.config.authToken, 'ek_9');
  ablo.setAuthToken('ek_10');
  assert.equal(await ablo.getAuthToken(), 'ek_10');
  await ablo.waitForFlush(50);
  assert.equal(core.flushTimeout, 50);
  await ablo.waitForConfirmation('Task', 't1');
  assert.deepEqual(core.confirmationOf, ['Task', 't1']);
});

test('disposal refuses new work, ends what is open, and may be repeated', async () => {
  const { ablo, core } = await readyClient([task('t1')]);
  const row = ablo.tasks.get('t1');
  const seen = [];
  const stop = ablo.tasks.onChange((rows) => seen.push(rows.length));
  const release = core.hold();
  const open = ablo.waitForFlush();
  core.held.pop();
  const first = ablo.dispose();
  await assert.rejects(ablo.tasks.update({ id: 't1', data: { rank: 1 } }), { code: 'client_disposed' });
  core.remove(TASKS, 't1');
  release();
  assert.equal(ablo.dispose(), first);
  assert.equal(ablo[Symbol.asyncDispose], ablo.dispose);
  await first;
  await assert.rejects(open, { code: 'client_disposed' });
  await assert.rejects(ablo.tasks.update({ id: 't1', data: { rank: 1 } }), { code: 'client_disposed' });
  await assert.rejects(makeDisposed(), { code: 'client_disposed' });
  assert.equal(ablo.tasks.get('t1'), undefined);
  assert.equal(row.id, 't1');
  assert.deepEqual(seen, [1]);
  assert.ok(core.freed);
  stop();
});

async function makeDisposed() {
  const ablo = makeClient();
  const ready = ablo.ready();
  await ablo.dispose();
  return ready;
}

test('disposal never rejects', async () => {
  const { ablo, core } = await readyClient();
  core.refuse.dispose = { thrown: { class: 'AbloError', code: 'internal_error', message: 'x', retryable: false } };
  await ablo.dispose();
  await ablo.purge();
});

test('two clients in one page do not meet', async () => {
  const a = await readyClient([task('t1')]);
  const b = await readyClient([task('t1', { rank: 5 })]);
  assert.equal(a.ablo.tasks.get('t1').rank, 1);
  assert.equal(b.ablo.tasks.get('t1').rank, 5);
  a.core.put(TASKS, [task('t1', { rank: 2 })]);
  await a.ablo.dispose();
  assert.equal(b.ablo.tasks.get('t1').rank, 5);
});

// Last: nothing works in this page afterwards.
test('a crash ends every client with one clear error', async () => {
  const { ablo, core } = await readyClient([task('t1')]);
  const other = makeClient();
  core.hold();
  const open = ablo.waitForFlush();
  core.update = () => {
    const trap = new WebAssembly.RuntimeError('unreachable');
    page.crash(trap);
    throw trap;
  };
  await assert.rejects(ablo.tasks.update({ id: 't1', data: { rank: 1 } }), {
    code: 'client_crashed',
    message: /crashed: unreachable/,
  });
  await assert.rejects(open, { code: 'client_crashed' });
  assert.throws(() => ablo.tasks.getAll({ limit: 3 }), { code: 'client_crashed' });
  await assert.rejects(other.ready(), { code: 'client_crashed' });
  await assert.rejects(makeClient().ready(), { code: 'client_crashed' });
  await ablo.dispose();
});
