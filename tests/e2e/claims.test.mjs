// Claims, presence and joined groups of the live client: who holds a row, who waits for it, and what either may write.

import assert from 'node:assert/strict';
import { NO_SERVER, openClient, openContext, Server, test } from './harness.mjs';

const SEED = { Task: [{ id: 't1', title: 'Call back', rank: 1 }, { id: 't2', title: 'Invoice', rank: 2 }] };
const GRACE = { options: { apiKey: 'ek_test_grace' } };

async function twoClients(t, more = {}) {
  const server = await Server.start(t, { seed: SEED, ...more });
  return [server, await openClient(t, server), await openClient(t, server, GRACE)];
}

/** Takes a claim in the page, as `window.held`. */
const claim = (page, params = {}) =>
  page.evaluate(async (given) => {
    globalThis.held = await ablo.tasks.claim({ id: 't1', ...given });
    const { claimId, waited, readAt, data } = held;
    return { claimId, waited, readAt, title: data?.title };
  }, params);

/** Asks for a claim without waiting for it; `claimed(page)` is what it comes to. */
const ask = (page, params = {}) =>
  page.evaluate((given) => {
    globalThis.asked = outcome(ablo.tasks.claim({ id: 't1', ...given }).then((handle) => (globalThis.held = handle)));
  }, params);
const claimed = (page) =>
  page.evaluate(async () => {
    const { code } = await asked;
    return code ?? { waited: held.waited, title: held.data.title };
  });
const release = (page) => page.evaluate(() => held.release());
const untilHolder = (page, who) => page.evaluate((name) => until(() => (ablo.tasks.claim.state({ id: 't1' })?.heldBy ?? null) === name, `${name} holds it`), who);
const untilQueue = (page, names) =>
  page.evaluate(
    (list) => until(() => ablo.tasks.claim.queue({ id: 't1' }).data.map(({ heldBy, position }) => `${position} ${heldBy}`).join() === list, list),
    names.map((name, position) => `${position} ${name}`).join(),
  );
const write = (page, options) => page.evaluate((given) => outcome(ablo.tasks.update({ id: 't1', ...given }).then(({ title }) => title)), options);

test('a claim is seen, waited for in line, and comes with the row as the holder before has left it', async (t) => {
  const [server, ada, grace] = await twoClients(t);
  const bot = await openClient(t, server, { options: { apiKey: 'rk_test_bot', bootstrapMode: 'full' } });
  const first = await claim(ada, { reason: 'triaging', description: 'calls them', ttl: '2m' });
  assert.equal(first.waited, false);
  assert.ok(first.readAt > 0, 'right after the start the stamp is that of the snapshot');
  await untilHolder(grace, 'ada');
  const seen = await grace.evaluate(() => ablo.tasks.claim.state({ id: 't1' }));
  assert.deepEqual(
    { ...seen, createdAt: 0, expiresAt: 0 },
    {
      ...{ object: 'claim', id: first.claimId, status: 'active', reason: 'triaging', description: 'calls them' },
      ...{ heldBy: 'ada', participantKind: 'user', createdAt: 0, expiresAt: 0 },
      target: { type: 'task', id: 't1', meta: { description: 'calls them' } },
    },
  );
  assert.ok(seen.expiresAt > Date.now());
  assert.equal(await ada.evaluate(() => ablo.tasks.claim.state({ id: 't1' }).heldBy), 'ada', 'an own claim is known as such');
  assert.equal(await ada.evaluate(() => ablo.claims.others.length), 0);

  await ask(grace, { reason: 'reviewing' });
  await untilQueue(ada, ['grace']);
  await ask(bot);
  for (const page of [ada, grace, bot]) await untilQueue(page, ['grace', 'bot']);
  assert.deepEqual(await write(ada, { data: { title: 'Called' } }), { value: 'Called' });
  await release(ada);
  assert.deepEqual(await claimed(grace), { waited: true, title: 'Called' });
  for (const page of [ada, grace, bot]) {
    await untilHolder(page, 'grace');
    await untilQueue(page, ['bot']);
  }
  assert.deepEqual(await write(grace, { data: { title: 'Reviewed' } }), { value: 'Reviewed' });
  await release(grace);
  assert.deepEqual(await claimed(bot), { waited: true, title: 'Reviewed' });
  await release(bot);
  for (const page of [ada, grace, bot]) {
    await untilHolder(page, null);
    await untilQueue(page, []);
  }
});

test('writes under a claim are stamped, again after own writes, and nobody else can write', async (t) => {
  const [server, ada, grace] = await twoClients(t);
  await claim(ada);
  assert.equal((await write(grace, { data: { title: 'theirs' }, wait: 'confirmed' })).code, 'entity_claimed');
  assert.deepEqual(await write(ada, { data: { title: 'one' } }), { value: 'one' });
  // The second write under one claim; then two at once; then by the handle, and in a commit.
  assert.deepEqual(await write(ada, { data: { title: 'two' } }), { value: 'two' });
  const both = await ada.evaluate(() =>
    Promise.all(['three', 'four'].map((title) => outcome(ablo.tasks.update({ id: 't1', data: { title } }).then(() => 'written')))),
  );
  assert.deepEqual(both, [{ value: 'written' }, { value: 'written' }]);
  const receipt = await ada.evaluate(async () => {
    await ablo.tasks.update({ id: 't1', data: { title: 'five' }, claim: held });
    return ablo.commits.create({ operation: { action: 'update', model: 'Task', id: 't1', data: { title: 'six' } }, claim: held });
  });
  assert.equal(receipt.status, 'confirmed');
  assert.equal((await server.rows('Task')).find(({ id }) => id === 't1').title, 'six');
  await release(ada);
  assert.equal((await ada.evaluate(() => outcome(ablo.tasks.update({ id: 't1', data: { title: 'late' }, claim: held })))).code, 'claim_lost');
  await untilHolder(grace, null);
  assert.deepEqual(await write(grace, { data: { title: 'free' }, wait: 'confirmed' }), { value: 'free' });
});

test('a claim on a field leaves the others of its row to others', async (t) => {
  const [server, ada, grace] = await twoClients(t);
  const bot = await openClient(t, server, { options: { apiKey: 'rk_test_bot', bootstrapMode: 'full' } });
  assert.equal((await claim(ada, { field: 'title' })).waited, false);
  assert.equal((await claim(grace, { field: 'rank' })).waited, false);
  for (const page of [ada, grace, bot]) {
    await page.evaluate(() => {
      const holder = (field) => ablo.tasks.claim.state({ id: 't1', field })?.heldBy;
      return until(() => `${holder('title')} ${holder('rank')} ${holder('note')}` === 'ada grace undefined', 'who holds which field');
    });
  }
  assert.deepEqual(await write(ada, { data: { title: 'Called' } }), { value: 'Called' });
  assert.equal((await write(grace, { data: { rank: 9 } })).code, undefined);
  assert.equal((await write(bot, { data: { note: 'free' }, wait: 'confirmed' })).code, undefined);
  const others = [[ada, { rank: 0 }], [grace, { title: 'mine' }], [bot, { rank: 0, note: 'mine' }]];
  for (const [page, data] of others) assert.equal((await write(page, { data, wait: 'confirmed' })).code, 'entity_claimed');

  // The whole row is waited for until all of it is free, and a field behind whoever waits for the whole row.
  await ask(bot);
  await untilQueue(ada, ['bot']);
  await release(ada);
  await ask(ada, { field: 'title' });
  await untilQueue(grace, ['bot', 'ada']);
  // A connection that breaks costs neither a field nor a place in line.
  for (const page of [grace, ada]) {
    await page.evaluate(async () => {
      await goOffline();
      ablo.setOffline(false);
      await until(() => ablo.status.connection.state === 'connected');
    });
  }
  await untilQueue(grace, ['bot', 'ada']);
  await release(grace);
  assert.deepEqual(await claimed(bot), { waited: true, title: 'Called' });
  assert.equal(await bot.evaluate(() => held.data.rank), 9);
  assert.deepEqual(await write(bot, { data: { title: 'Done' } }), { value: 'Done' });
  await release(bot);
  assert.deepEqual(await claimed(ada), { waited: true, title: 'Done' });
  await release(ada);
  for (const page of [ada, grace, bot]) await untilHolder(page, null);
});

test('a claim taken for one write alone', async (t) => {
  const [server, ada, grace] = await twoClients(t);
  await claim(ada);
  await grace.evaluate(() => {
    globalThis.writing = outcome(ablo.tasks.update({ id: 't1', data: { rank: 7 }, claim: { reason: 'ranking', ttl: '30s' } }).then(({ rank }) => rank));
  });
  await untilQueue(ada, ['grace']);
  await release(ada);
  assert.deepEqual(await grace.evaluate(() => writing), { value: 7 });
  await untilHolder(ada, null);
  const made = await grace.evaluate(() => ablo.tasks.create({ id: 'new', data: { title: 'New' }, claim: {} }));
  assert.equal(made.title, 'New');
  assert.equal((await grace.evaluate(() => outcome(ablo.tasks.delete({ id: 'new', claim: { queue: false } })))).value, null);
  assert.deepEqual((await server.rows('Task')).map(({ id, rank }) => [id, rank]), [['t1', 7], ['t2', 2]]);
});

test('claims that are not granted say why, and leave no place in line', async (t) => {
  const [, ada, grace] = await twoClients(t);
  await claim(ada);
  await untilHolder(grace, 'ada');
  const code = async (params) => (await grace.evaluate((given) => outcome(ablo.tasks.claim({ id: 't1', ...given })), params)).code;
  assert.equal(await code({ queue: false }), 'entity_claimed');
  assert.equal(await code({ maxQueueDepth: 0 }), 'queue_too_deep');
  assert.equal(await code({ waitTimeoutMs: 50 }), 'grant_timeout');
  assert.equal(await code({ id: 'nothing' }), 'entity_not_found');
  assert.equal(await code({ ttl: 'soon' }), 'duration_invalid');
  assert.equal(await code({ quueue: true }), 'write_options_invalid');
  assert.equal(await code({ maxQueueDepth: -1 }), 'write_options_invalid');
  const aborted = await grace.evaluate(async () => {
    const stop = new AbortController();
    const waiting = outcome(ablo.tasks.claim({ id: 't1', signal: stop.signal }));
    await until(() => ablo.tasks.claim.queue({ id: 't1' }).data.length === 1);
    stop.abort();
    return (await waiting).code;
  });
  assert.equal(aborted, 'claim_wait_aborted');
  await untilQueue(ada, []);
  const details = await grace.evaluate(() => ablo.tasks.claim({ id: 't1', queue: false }).catch(({ claims }) => claims));
  assert.equal(details[0].action, 'editing');
});

test('a client that is disposed of, and a page that goes away, give back what they hold', async (t) => {
  const [server, ada, grace] = await twoClients(t);
  const context = await openContext(t);
  const gone = await openClient(t, server, { context, options: { apiKey: 'rk_test_bot', bootstrapMode: 'full' } });
  await claim(ada);
  await ask(gone);
  await untilQueue(ada, ['bot']);
  await ask(grace);
  await untilQueue(ada, ['bot', 'grace']);
  await ada.evaluate(() => ablo.dispose());
  assert.deepEqual(await claimed(gone), { waited: true, title: 'Call back' });
  // A claim lasts for a minute and more when its connection just breaks.
  await gone.goto(`${server.url}/e2e/lab.html?other`);
  assert.deepEqual(await claimed(grace), { waited: true, title: 'Call back' });
});

test('a page that the browser keeps for coming back to does not keep the row', async (t) => {
  const [, ada, grace] = await twoClients(t);
  await claim(ada);
  await ask(grace);
  await untilQueue(ada, ['grace']);
  const turnPage = (kind) => ada.evaluate((name) => dispatchEvent(new PageTransitionEvent(name, { persisted: true })), kind);
  await turnPage('pagehide');
  assert.deepEqual(await claimed(grace), { waited: true, title: 'Call back' });
  await turnPage('pageshow');
  assert.equal(await ada.evaluate(() => held.signal.aborted && held.signal.reason.code), 'claim_lost');
  assert.equal((await ada.evaluate(() => outcome(ablo.tasks.update({ id: 't1', data: { title: 'late' }, claim: held })))).code, 'claim_lost');
  await untilHolder(ada, 'grace');
  await ask(ada);
  await untilQueue(grace, ['ada']);
  await release(grace);
  assert.deepEqual(await claimed(ada), { waited: true, title: 'Call back' });
});

test('a lost claim ends in one place: its handle, its stamps, its writes', async (t) => {
  const [server, ada, grace] = await twoClients(t);
  await ada.evaluate(() => {
    globalThis.told = [];
    ablo.claims.onLost(({ claimId, error }) => told.push([claimId, error.code]));
  });
  const { claimId } = await claim(ada);
  // A server that has forgotten its claims grants it anew: for a moment anybody could have had the row.
  for (const page of [ada, grace]) page.expected.push(...NO_SERVER);
  await server.stop();
  await server.run();
  await ada.evaluate(() => until(() => held.signal.aborted));
  assert.deepEqual(await ada.evaluate(() => told), [[claimId, 'claim_lost']]);
  assert.equal(await ada.evaluate(() => held.signal.reason.code), 'claim_lost');
  assert.equal(await ada.evaluate(() => ablo.tasks.claim.state({ id: 't1' })), null);
  assert.equal((await ada.evaluate(() => outcome(ablo.tasks.update({ id: 't1', data: { title: 'late' }, claim: held })))).code, 'claim_lost');
  assert.equal((await server.rows('Task'))[0].title, 'Call back');
  assert.deepEqual(await write(ada, { data: { title: 'Without a claim' }, wait: 'confirmed' }), { value: 'Without a claim' });
});

test('claims and places in line survive a reconnect', async (t) => {
  const [, ada, grace] = await twoClients(t, { faults: true });
  await claim(ada);
  await ask(grace);
  await untilQueue(ada, ['grace']);
  for (const page of [grace, ada]) {
    await page.evaluate(async () => {
      await goOffline();
      await until(() => ablo.status.connection.state === 'offline');
      ablo.setOffline(false);
      await until(() => ablo.status.connection.state === 'connected');
    });
  }
  await untilHolder(grace, 'ada');
  await untilQueue(ada, ['grace']);
  assert.deepEqual(await write(ada, { data: { title: 'Still mine' } }), { value: 'Still mine' });
  await release(ada);
  assert.deepEqual(await claimed(grace), { waited: true, title: 'Still mine' });
});

test('a claim made offline is asked for once there is a connection, and writes under it wait with it', async (t) => {
  const [, ada, grace] = await twoClients(t);
  await ada.evaluate(() => goOffline());
  await ask(ada);
  await ada.evaluate(() => ablo.setOffline(false));
  assert.deepEqual(await claimed(ada), { waited: false, title: 'Call back' });
  await ada.evaluate(() => {
    ablo.setOffline(true);
    globalThis.writing = outcome(ablo.tasks.update({ id: 't1', data: { title: 'On a train' } }).then(({ title }) => title));
    void held.release();
    ablo.setOffline(false);
  });
  assert.deepEqual(await ada.evaluate(() => writing), { value: 'On a train' }, 'what is given back waits for its writes');
  await untilHolder(grace, null);
});

test('the line can be put into another order by whoever may', async (t) => {
  const [server, ada, grace] = await twoClients(t);
  const bot = await openClient(t, server, { options: { apiKey: 'rk_test_bot', bootstrapMode: 'full' } });
  const chief = await openClient(t, server, { options: { apiKey: 'ek_test_chief' } });
  await claim(ada);
  await ask(grace);
  await untilQueue(ada, ['grace']);
  await ask(bot);
  await untilQueue(chief, ['grace', 'bot']);
  await chief.evaluate(() => {
    const { data } = ablo.tasks.claim.queue({ id: 't1' });
    ablo.tasks.claim.reorder({ id: 't1', order: [data[1]] });
  });
  await untilQueue(grace, ['bot', 'grace']);
  await release(ada);
  assert.equal((await claimed(bot)).waited, true);
});

test('a change by a function is made of the row as it is, however many are at it', async (t) => {
  const [server, ada, grace] = await twoClients(t);
  await Promise.all(
    [ada, grace].map((page) =>
      page.evaluate(async () => {
        for (let count = 0; count < 10; count += 1) {
          // Five attempts are few for a loop without a pause: whoever loses them starts again.
          let told = await outcome(ablo.tasks.update({ id: 't1', data: ({ rank }) => ({ rank: rank + 1 }) }));
          while (told.code === 'stale_context') told = await outcome(ablo.tasks.update({ id: 't1', data: ({ rank }) => ({ rank: rank + 1 }) }));
          if (told.code !== undefined) throw new Error(told.message);
        }
      }),
    ),
  );
  assert.equal((await server.rows('Task')).find(({ id }) => id === 't1').rank, 21);
  assert.deepEqual(await ada.evaluate(() => ablo.outbox.list()), [], 'an attempt that came too late is no refused write');
  const same = await ada.evaluate(async () => (await ablo.tasks.update({ id: 't1', data: () => undefined })).rank);
  assert.equal(same, await ada.evaluate(() => ablo.tasks.get('t1').rank));
});

test('who is there and what they do', async (t) => {
  const [server, ada, grace] = await twoClients(t);
  const second = await openClient(t, server, GRACE);
  await ada.evaluate(() => until(() => ablo.presence.others.length === 1));
  await grace.evaluate(() => ablo.presence.editing(['Task', 't1'], 'the title'));
  await ada.evaluate(() => until(() => ablo.presence.others[0].activity.action === 'editing'));
  const peer = await ada.evaluate(() => ablo.presence.others[0]);
  assert.deepEqual(
    { ...peer, lastActive: '' },
    {
      ...{ participantKind: 'user', participantId: 'grace', syncGroups: ['org:acme'], lastActive: '', activeClaims: [] },
      activity: { entityType: 'Task', entityId: 't1', action: 'editing', detail: 'the title' },
    },
  );
  assert.equal(await ada.evaluate(() => ablo.presence.othersIn('org:acme').length), 1);
  assert.equal(await ada.evaluate(() => ablo.presence.self.participantId), 'ada');
  // One participant in two tabs is one peer, and none of its own.
  assert.deepEqual(await second.evaluate(() => ablo.presence.others.map(({ participantId }) => participantId)), ['ada']);
  await ada.evaluate(async () => {
    const stream = ablo.presence[Symbol.asyncIterator]();
    await stream.next();
    globalThis.next = stream.next().then(({ value }) => value.map(({ activity }) => activity.action));
  });
  await grace.evaluate(() => ablo.presence.idle());
  assert.deepEqual(await ada.evaluate(() => next), ['idle']);
});

test('a hundred updates of presence are few frames, and the last one counts', async (t) => {
  const [server, ada, grace] = await twoClients(t);
  void server;
  await ada.evaluate(() => {
    globalThis.seen = [];
    ablo.presence.onChange(() => seen.push(ablo.presence.others[0]?.activity.detail));
  });
  await grace.evaluate(() => {
    for (let at = 0; at < 100; at += 1) ablo.presence.viewing(['Task', 't1'], `line ${at}`);
  });
  await ada.evaluate(() => until(() => seen.at(-1) === 'line 99'));
  assert.ok((await ada.evaluate(() => seen.length)) <= 4);
  // It is told again after a reconnection.
  await grace.evaluate(async () => {
    await goOffline();
    await until(() => ablo.status.connection.state === 'offline');
  });
  await ada.evaluate(() => until(() => ablo.presence.others.length === 0));
  await grace.evaluate(() => ablo.setOffline(false));
  await ada.evaluate(() => until(() => ablo.presence.others[0]?.activity.detail === 'line 99'));
});

test('joined groups: who is there, what they hold, and nothing stays when the last one leaves', async (t) => {
  const [, ada, grace] = await twoClients(t);
  const joined = await ada.evaluate(async () => {
    globalThis.here = await ablo.tasks.watch('t1', { ttl: '1m' });
    globalThis.also = await ablo.tasks.watch(['t1', 't2']);
    return [here.syncGroups, here.target, also.syncGroups, also.target];
  });
  assert.deepEqual(joined, [['tasks:t1'], { type: 'task', id: 't1' }, ['tasks:t1', 'tasks:t2'], null]);
  await grace.evaluate(async () => {
    globalThis.here = await ablo.tasks.watch('t1');
    here.presence.editing();
  });
  await ada.evaluate(() => until(() => here.peers[0]?.activity.action === 'editing'));
  assert.deepEqual(await ada.evaluate(() => here.peers[0].syncGroups.slice().sort()), ['org:acme', 'tasks:t1']);
  await grace.evaluate(() => void here.claims.claim({ reason: 'looking' }));
  await ada.evaluate(() => until(() => here.activeClaims[0]?.reason === 'looking'));
  assert.equal((await ada.evaluate(() => outcome((async () => also.presence.editing())()))).code, 'invalid_request');
  await ada.evaluate(() => also.focus(['task', 't2']).presence.reading());
  await grace.evaluate(() => until(() => ablo.presence.others[0].activity.entityId === 't2'));
  // The other join of the group keeps it.
  await grace.evaluate(() => here.leave());
  await ada.evaluate(() => until(() => here.peers.length === 0));
  assert.deepEqual(await ada.evaluate(() => ablo.presence.others.map(({ syncGroups }) => syncGroups)), [['org:acme']]);
  await ada.evaluate(() => until(() => here.activeClaims.length === 0));
  await ada.evaluate(() => also.leave());
  const again = await grace.evaluate(async () => {
    const once = await ablo.tasks.watch('t1');
    await until(() => once.peers[0]?.syncGroups.includes('tasks:t1'));
    await once[Symbol.asyncDispose]();
    return once.peers.length;
  });
  assert.equal(again, 1);
});

test('events of other clients', async (t) => {
  const [, ada, grace] = await twoClients(t);
  await ada.evaluate(() => {
    globalThis.seen = [];
    ablo.on('slide:cursor', (payload) => seen.push(payload));
  });
  await ada.evaluate(() => until(() => ablo.presence.others.length === 1));
  await grace.evaluate(() => ablo.broadcast('slide:cursor', { deckId: 'd1', slideId: 's1', x: 1, y: 2 }));
  await ada.evaluate(() => until(() => seen.length === 1));
  const [{ timestamp, ...rest }] = await ada.evaluate(() => seen);
  assert.deepEqual(rest, { deckId: 'd1', slideId: 's1', x: 1, y: 2, userId: 'grace' });
  assert.equal(typeof timestamp, 'number');
  const code = await ada.evaluate(async () => (await outcome((async () => ablo.broadcast('other', {}))())).code);
  assert.equal(code, 'invalid_options');
});

test('a snapshot of rows tells the first change', async (t) => {
  const [, ada, grace] = await twoClients(t);
  const taken = await ada.evaluate(() => {
    globalThis.shot = ablo.snapshot({ tasks: ['t1', 'none'] });
    globalThis.seen = [];
    shot.onChange((change) => seen.push(change));
    return [shot.stamp === ablo.status.lastSyncId, Object.keys(shot.tasks), shot.tasks.t1 === ablo.tasks.get('t1')];
  });
  assert.deepEqual(taken, [true, ['t1'], true]);
  await write(grace, { id: 't2', data: { title: 'other' }, wait: 'confirmed' });
  await ada.evaluate(() => until(() => ablo.tasks.get('t2').title === 'other'));
  assert.equal(await ada.evaluate(() => shot.signal.aborted), false);
  await write(grace, { data: { title: 'changed' }, wait: 'confirmed' });
  await ada.evaluate(() => until(() => shot.signal.aborted));
  assert.deepEqual(await ada.evaluate(() => [seen, shot.tasks.t1.title]), [[{ model: 'tasks', id: 't1', severity: 'semantic' }], 'Call back']);
  const codes = await ada.evaluate(() =>
    Promise.all([{ stamp: 'x' }, { nothing: 'x' }].map(async (given) => (await outcome((async () => ablo.snapshot(given))())).code)),
  );
  assert.deepEqual(codes, ['snapshot_reserved_key', 'unknown_model']);
});

test('the client of claims: any model, without waiting, and a way to wait', async (t) => {
  const [, ada, grace] = await twoClients(t);
  await ada.evaluate(() => {
    globalThis.held = ablo.claims.claim(['task', 't1'], { reason: 'looking' });
  });
  await grace.evaluate(() => until(() => ablo.claims.others.length === 1));
  const [listed] = await grace.evaluate(() => ablo.claims.list({ model: 'tasks', id: 't1' }));
  assert.deepEqual([listed.actor, listed.reason, listed.target], ['ada', 'looking', { model: 'task', id: 't1' }]);
  assert.deepEqual(await grace.evaluate(() => ablo.claims.list({ model: 'projects' })), []);
  const refused = await grace.evaluate(async () => {
    const told = new Promise((resolve) => ablo.claims.onRejected(({ error }) => resolve(error.code)));
    ablo.claims.claim(['Task', 't1']);
    return told;
  });
  assert.equal(refused, 'entity_claimed');
  assert.equal((await grace.evaluate(() => outcome(ablo.claims.waitFor({ model: 'tasks', id: 't1' }, { timeout: 20 })))).code, 'model_claimed_timeout');
  await grace.evaluate(() => {
    globalThis.waiting = outcome(ablo.claims.waitFor({ model: 'tasks', id: 't1' }));
  });
  await release(ada);
  assert.deepEqual(await grace.evaluate(() => waiting), { value: null });
  const made = await grace.evaluate(async () => {
    const handle = await ablo.claims.create({ target: { model: 'tasks', id: 'not-here' }, reason: 'planning' });
    return [handle.reason, handle.target.id, ablo.claims.queueFor(['task', 'not-here']).length];
  });
  assert.deepEqual(made, ['planning', 'not-here', 0]);
});
