// Sleep, captive portals, keys that end, servers that are busy or gone: the client says where it is and why, asks no more
// than it has to, comes back by itself, and loses no write. Only a login that is over signs anybody out.

import assert from 'node:assert/strict';
import { NO_SERVER, openPage, Server, test } from './harness.mjs';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** What browsers say of requests that fail, which is what these tests are about. */
const REFUSED = [...NO_SERVER, /Failed to load resource/, /status of [45]\d\d/, /WebSocket/, /can.t establish a connection/];
/** And of requests that they do not go on without, which is what these tests need them for. */
const STOPPED = /Synchronous XMLHttpRequest/i;

/** A page with a ready client whose keys come from `backend`: by default the server's own, good for a quarter of an hour. */
async function start(t, { options = {}, backend, expected = REFUSED } = {}) {
  const server = await Server.start(t, { faults: true, seed: { Project: [{ id: 'p', name: 'there before' }] } });
  const page = await openPage(t, server, { expected: [...expected, STOPPED] });
  const app = { server, page, minted: [], isDown: false, isSignedOut: false };
  await page.exposeFunction('mint', async () => {
    app.minted.push(Date.now());
    if (app.isDown) throw new Error('the endpoint is down');
    if (app.isSignedOut) return null;
    return (backend ?? (() => server.mint()))();
  });
  await page.evaluate(async (given) => {
    globalThis.clock = takeClock();
    globalThis.states = [];
    globalThis.ended = [];
    globalThis.ablo = make({ apiKey: () => mint(), ...given });
    ablo.onStatus(({ connection: { state } }) => state !== states.at(-1) && states.push(state));
    ablo.onSessionError((error) => ended.push(error.code));
    await ablo.ready();
    await until(() => ablo.status.connection.state === 'connected');
  }, options);
  // A client that has seen nothing of the stream loads a snapshot at each connection (protocol.md 9.7).
  await server.commit({ action: 'update', model: 'projects', id: 'p', data: { name: 'seen' } });
  await page.evaluate(() => until(() => ablo.projects.get('p').name === 'seen'));
  return app;
}

const write = (page, title) => page.evaluate((name) => void ablo.tasks.create({ id: name, data: { title: name } }), title);

/** Waits for a state, and says what the client says of it. */
const reach = (page, state) =>
  page.evaluate(async (wanted) => {
    await until(() => ablo.status.connection.state === wanted, `${wanted}, not ${JSON.stringify(ablo.status)}`);
    const { reason, since, nextAttemptAt } = ablo.status.connection;
    // Both moments that the client tells are off by the same fraction of a millisecond: what it has planned is exact.
    return { reason, age: Date.now() - since, pause: nextAttemptAt && nextAttemptAt - Date.now(), planned: nextAttemptAt - since };
  }, state);

/** Lets time pass until the next attempt, and waits for that to begin. */
const attempt = (page) =>
  page.evaluate(async () => {
    const { nextAttemptAt } = ablo.status.connection;
    clock.pass(nextAttemptAt - Date.now() + 2);
    await until(() => ablo.status.connection.nextAttemptAt !== nextAttemptAt);
  });

/** Lets time pass on a line that lives: something comes in before a ping is due. */
const live = (page, ms) =>
  page.evaluate(async (time) => {
    for (let left = time; left > 0; left -= 25_000) {
      clock.pass(Math.min(left, 25_000));
      await ablo.commits.create({ operation: { action: 'update', model: 'projects', id: 'p', data: { name: `${left}` } }, wait: 'confirmed' });
    }
  }, ms);

/** Lets attempts happen until one succeeds. */
async function comeBack(page) {
  await page.evaluate(async () => {
    const { connection } = ablo.status;
    await until(() => {
      const { state, nextAttemptAt } = ablo.status.connection;
      if (state === 'waiting') clock.pass(nextAttemptAt - Date.now() + 2);
      return state === 'connected';
    }, `connected again, from ${JSON.stringify(connection)}`);
    await ablo.waitForFlush(30_000);
  });
}

/**
 * The machine sleeps, and the world goes on: an hour later by both clocks, before the page does anything else. Then come
 * `events`, which say that it woke up.
 */
const sleep = (page, events = 0) =>
  page.evaluate(
    ([ms, times]) => {
      clock.sleep(ms);
      const request = new XMLHttpRequest();
      request.open('POST', '/faults', false);
      request.send(JSON.stringify({ clockAheadMs: ms }));
      for (let at = 0; at < times; at += 1) {
        dispatchEvent(new Event('ablo:wake'));
        dispatchEvent(new Event('online'));
        dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }));
        document.dispatchEvent(new Event('visibilitychange'));
        document.dispatchEvent(new Event('resume'));
      }
    },
    [HOUR_MS, events],
  );

const titles = async (server) => (await server.rows('Task')).map((row) => row.title).sort();
const facts = (page) => page.evaluate(() => ({ states, ended }));

test('an hour of sleep with a key for a quarter of an hour: one new key, no snapshot', async (t) => {
  const { server, page, minted } = await start(t);
  assert.equal(minted.length, 1);
  const before = await server.faults();
  // The key is over, and the server closes its socket: nothing else tells the page that it has slept.
  await sleep(page);
  await write(page, 'after the sleep');
  await comeBack(page);
  const after = await server.faults();
  assert.equal(minted.length, 2);
  assert.ok(after.probes - before.probes <= 2, `${after.probes - before.probes} probes`);
  assert.equal(after.snapshots, before.snapshots);
  assert.deepEqual(await titles(server), ['after the sleep']);
  const { states, ended } = await facts(page);
  assert.ok(!states.includes('signed_out') && !states.includes('blocked'), states.join());
  assert.deepEqual(ended, []);
});

test('a machine that wakes up says so many times: one new key all the same', async (t) => {
  const { server, page, minted } = await start(t);
  await sleep(page, 5);
  await write(page, 'woken');
  await comeBack(page);
  assert.equal(minted.length, 2);
  const { probes, snapshots } = await server.faults();
  assert.ok(probes <= 2, `${probes} probes`);
  assert.equal(snapshots, 1);
  assert.deepEqual(await titles(server), ['woken']);
});

test('an endpoint for keys that is down for ten minutes ends nothing', async (t) => {
  const app = await start(t);
  const { server, page, minted } = app;
  app.isDown = true;
  await server.faults({ clockAheadMs: HOUR_MS });
  assert.equal((await reach(page, 'waiting')).reason, 'identity_network_error');
  await write(page, 'kept');
  const { probes } = await server.faults();
  let failed = 0;
  for (let passed = 0; passed < 10 * MINUTE_MS; failed += 1) {
    const { reason, pause } = await reach(page, 'waiting');
    assert.equal(reason, 'identity_network_error');
    assert.ok(pause <= 11_500, `a pause of ${pause} ms`);
    passed += Math.max(pause, 1);
    await attempt(page);
  }
  assert.ok(minted.length >= failed, `${minted.length} times asked`);
  assert.ok(failed >= 40 && failed <= 90, `${failed} attempts in ten minutes`);
  assert.equal((await server.faults()).probes, probes, 'without a key there is nothing to probe with');
  app.isDown = false;
  await comeBack(page);
  assert.deepEqual(await titles(server), ['kept']);
  const { states, ended } = await facts(page);
  assert.ok(!states.includes('signed_out') && !states.includes('blocked'), states.join());
  assert.deepEqual(ended, []);
});

test('a captive portal is told from the server, and waited for', async (t) => {
  const { server, page, minted } = await start(t);
  const before = await server.faults();
  const login = { status: 200, headers: { 'content-type': 'text/html' }, body: '<html>login</html>' };
  await server.faults({ rules: [{ path: '/api', ...login }], close: { code: 1011, reason: 'portal' } });
  const { reason, pause } = await reach(page, 'waiting');
  assert.equal(reason, 'captive_portal');
  assert.ok(pause > 0);
  await write(page, 'behind the portal');
  for (let at = 0; at < 3; at += 1) {
    await attempt(page);
    assert.equal((await reach(page, 'waiting')).reason, 'captive_portal');
  }
  await server.faults({ rules: [] });
  await comeBack(page);
  const after = await server.faults();
  // One for the closed socket and one for each attempt; the first pauses are short enough to end by themselves.
  const { length } = (await facts(page)).states.filter((state) => state === 'probing');
  assert.ok(length >= 5);
  assert.deepEqual([after.probes - before.probes, after.snapshots, minted.length], [length, before.snapshots, 1]);
  assert.deepEqual(await titles(server), ['behind the portal']);
  assert.deepEqual((await facts(page)).ended, []);
});

test('a server that is restarted is found again', async (t) => {
  const { server, page, minted } = await start(t, { backend: () => ({ token: 'ek_test_ada' }) });
  await server.stop('SIGKILL');
  assert.equal((await reach(page, 'waiting')).reason, 'commit_no_result');
  await write(page, 'meanwhile');
  await server.run();
  await comeBack(page);
  const { probes, snapshots, sockets } = await server.faults();
  assert.deepEqual([snapshots, sockets, minted.length], [0, 1, 1]);
  assert.equal(probes, 1, 'of the server that was started anew');
  assert.deepEqual(await titles(server), ['meanwhile']);
});

test('a server that is busy says how long it wants to be left alone', async (t) => {
  const { server, page } = await start(t);
  const busy = { status: 503, headers: { 'retry-after': '60', 'x-auth-failure': 'instance_at_capacity' } };
  await server.faults({ rules: [{ path: '/api/auth/check', ...busy }], close: { code: 1012, reason: 'restart' } });
  const { reason, planned } = await reach(page, 'waiting');
  assert.equal(reason, 'instance_at_capacity');
  assert.ok(planned > 45_000 && planned <= 60_000, `a pause of ${planned} ms`);
  await page.evaluate(() => clock.pass(30_000));
  const { probes } = await server.faults();
  // Within a second the page has ten reasons to look: it looks once.
  await page.evaluate(async () => {
    for (let at = 0; at < 10; at += 1) {
      const event = ['ablo:wake', 'pageshow', 'online'][at % 3];
      dispatchEvent(new Event(event));
      document.dispatchEvent(new Event('visibilitychange'));
      clock.pass(50);
      await until(() => ablo.status.connection.state === 'waiting');
    }
  });
  assert.equal((await server.faults()).probes - probes, 1);
  await server.faults({ rules: [] });
  await comeBack(page);
});

test('a revoked key is shown and left alone; a new one is taken', async (t) => {
  const { server, page, minted } = await start(t);
  const first = await page.evaluate(() => ablo.getAuthToken());
  const before = await server.faults();
  await server.faults({ revoke: first });
  const { reason, planned } = await reach(page, 'blocked');
  assert.equal(reason, 'apikey_revoked');
  assert.ok(planned > 50_000 && planned <= MINUTE_MS, `a pause of ${planned} ms`);
  const shown = await page.evaluate(() => [ablo.syncStatus.state, ablo.syncStatus.isSessionError, ablo.projects.getCount()]);
  assert.deepEqual(shown, ['error', false, 1], 'rows stay');
  await write(page, 'blocked');
  await page.evaluate(() => clock.pass(40_000));
  assert.equal((await server.faults()).probes - before.probes, 1, 'quiet');
  assert.equal(minted.length, 1);
  await attempt(page);
  await comeBack(page);
  assert.equal(minted.length, 2, 'the backend is asked for another');
  assert.deepEqual(await titles(server), ['blocked']);

  await server.faults({ revoke: await page.evaluate(() => ablo.getAuthToken()) });
  await reach(page, 'blocked');
  const { token } = await server.mint();
  await page.evaluate((next) => ablo.setAuthToken(next), token);
  await comeBack(page);
  assert.equal(minted.length, 2);
  assert.deepEqual((await facts(page)).ended, []);
});

test('a login that is over ends the session, once', async (t) => {
  const { server, page, minted } = await start(t);
  const before = await server.faults();
  await server.faults({ endLogin: await page.evaluate(() => ablo.getAuthToken()) });
  assert.equal((await reach(page, 'signed_out')).reason, 'session_expired');
  const { ended, rows, sync } = await page.evaluate(() => ({
    ended,
    rows: ablo.projects.getCount(),
    sync: [ablo.syncStatus.state, ablo.syncStatus.isSessionError],
  }));
  assert.deepEqual({ ended, rows, sync }, { ended: ['session_expired'], rows: 0, sync: ['error', true] });
  await page.evaluate((ms) => {
    clock.pass(ms);
    dispatchEvent(new Event('ablo:wake'));
    ablo.nudgeReconnect();
  }, HOUR_MS);
  const after = await server.faults();
  assert.deepEqual([after.probes - before.probes, after.sockets, minted.length], [1, before.sockets, 1]);
});

test('a backend that says signed out ends the session, a close code does not', async (t) => {
  const app = await start(t);
  const { server, page } = app;
  for (const code of [1000, 1001, 1008, 1011, 1012, 1013, 4000, 4001, 4003, 4010]) {
    const { length } = (await facts(page)).states;
    await server.faults({ close: { code, reason: 'test' } });
    // It may be back before anybody looks.
    await page.evaluate((seen) => until(() => states.length > seen), length);
    await write(page, `code ${code}`);
    await comeBack(page);
  }
  // Before this test asks for one itself.
  assert.equal((await server.faults()).snapshots, 1);
  assert.equal((await titles(server)).length, 10);
  assert.deepEqual((await facts(page)).ended, []);
  app.isSignedOut = true;
  await server.faults({ clockAheadMs: HOUR_MS });
  assert.equal((await reach(page, 'signed_out')).reason, 'session_expired');
  assert.deepEqual((await facts(page)).ended, ['session_expired']);
});

test('coming back to the page a hundred times loads nothing', async (t) => {
  const { server, page, minted } = await start(t);
  const before = await server.faults();
  await page.evaluate(async () => {
    for (let at = 0; at < 100; at += 1) {
      document.dispatchEvent(new Event('visibilitychange'));
      dispatchEvent(new Event('focus'));
      clock.pass(3_000);
      await turn();
    }
  });
  await write(page, 'seen');
  await comeBack(page);
  const after = await server.faults();
  assert.equal(after.snapshots, before.snapshots);
  assert.ok(after.probes - before.probes <= 100, `${after.probes - before.probes} probes`);
  assert.equal(minted.length, 1);
  assert.deepEqual(await titles(server), ['seen']);
});

test('a line that is dead without a word is left within forty seconds', async (t) => {
  const { server, page } = await start(t);
  const before = await server.faults({ halfOpen: true });
  await page.evaluate(() => clock.pass(30_500));
  assert.equal(await page.evaluate(() => ablo.status.connection.state), 'connected');
  await page.evaluate(() => clock.pass(10_000));
  await comeBack(page);
  assert.ok((await facts(page)).states.includes('probing'));
  await server.faults({ halfOpen: true });
  await write(page, 'into the void');
  await page.evaluate(async () => {
    await turn();
    // An answer to a write is missed sooner.
    clock.pass(16_000);
  });
  await comeBack(page);
  const after = await server.faults();
  assert.equal(after.sockets - before.sockets, 2);
  assert.deepEqual(await titles(server), ['into the void']);
});

test('keys are renewed ahead of their end, while the connection stays', async (t) => {
  const { server, page, minted } = await start(t);
  const before = await server.faults();
  await write(page, 'first key');
  await page.evaluate(() => ablo.waitForFlush(30_000));
  // Two thirds of a quarter of an hour.
  const first = await page.evaluate(() => ablo.getAuthToken());
  await live(page, 9 * MINUTE_MS);
  assert.equal(minted.length, 1);
  await live(page, 70_000);
  await page.evaluate((token) => until(async () => (await ablo.getAuthToken()) !== token), first);
  assert.equal(minted.length, 2);
  await write(page, 'second key');
  await page.evaluate(() => ablo.waitForFlush(30_000));
  assert.deepEqual(await titles(server), ['first key', 'second key']);
  assert.equal((await server.faults()).sockets, before.sockets);
});

test('a secret key is exchanged, and exchanged again', async (t) => {
  const { server, page } = await start(t, { options: { apiKey: 'sk_test_backend', dangerouslyAllowBrowser: true } });
  assert.equal((await server.faults()).exchanges, 1);
  await live(page, 41 * MINUTE_MS);
  await write(page, 'still there');
  await comeBack(page);
  assert.equal((await server.faults()).exchanges, 2);
});

test('a publishable key reads, and writes are refused before they are queued', async (t) => {
  const { server, page } = await start(t, { options: { apiKey: 'pk_test_public' } });
  const facts = await page.evaluate(async () => {
    const create = await outcome(ablo.tasks.create({ data: { title: 'no' } }));
    const commit = await outcome(ablo.commits.create({ operation: { action: 'delete', model: 'tasks', id: 'x' } }));
    return [create.code, create.name, commit.code, ablo.status.pendingWrites, ablo.projects.getCount()];
  });
  assert.deepEqual(facts, ['capability_scope_denied', 'CapabilityError', 'capability_scope_denied', 0, 1]);
  assert.deepEqual(await titles(server), []);
});
