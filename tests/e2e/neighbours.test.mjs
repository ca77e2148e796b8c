// Clients of version 0.15 and this one in one line (design: one wire). What the other says is what protocol.md has it say.

import assert from 'node:assert/strict';
import { checkGrants, observe } from './grants.mjs';
import { NO_SERVER, openClient, openPage, Server, test } from './harness.mjs';

const SEED = { Task: [{ id: 't1', title: 'Call back', rank: 0 }] };

/** In the page: a client of version 0.15, as `window.peer`. */
async function startPeer(token) {
  const { Peer } = await import('/e2e/peer.js');
  globalThis.peer = await Peer.start(token);
}

/** One of the two kinds in a page of its own, in words that both understand. */
class Neighbour {
  constructor(page, name, isPeer) {
    Object.assign(this, { page, name, isPeer });
  }

  static async open(t, server, name, token, isPeer) {
    const page = isPeer ? await openPage(t, server, { expected: NO_SERVER }) : await openClient(t, server, { options: { apiKey: token, bootstrapMode: 'full' }, expected: NO_SERVER });
    if (isPeer) await page.evaluate(startPeer, token);
    return new Neighbour(page, name, isPeer);
  }

  /** Asks for the row, or a field of it; `granted` is what comes of it. */
  ask(field) {
    return this.page.evaluate(
      ([isPeer, part]) => {
        // Some drivers carry undefined over as null.
        const claim = isPeer ? peer.claim('t1') : ablo.tasks.claim({ id: 't1', field: part ?? undefined });
        globalThis.asked = outcome(claim.then((handle) => (globalThis.held = handle)));
      },
      [this.isPeer, field],
    );
  }

  granted() {
    return this.page.evaluate(async () => {
      const { code } = await asked;
      return code ?? { waited: held.waited, title: held.data.title };
    });
  }

  write(title, { claimed = true } = {}) {
    return this.page.evaluate(
      async ([isPeer, given, claim]) => {
        if (isPeer) return peer.update('t1', { title: given }, claim ? held : undefined);
        const write = outcome(ablo.tasks.update({ id: 't1', data: { title: given }, wait: 'confirmed', ...(claim && { claim: held }) }));
        return (await write).code ?? 'confirmed';
      },
      [this.isPeer, title, claimed],
    );
  }

  release() {
    return this.page.evaluate((isPeer) => (isPeer ? peer.release(held) : held.release()), this.isPeer);
  }

  /** The connection breaks and comes back. */
  reconnect() {
    return this.page.evaluate(async (isPeer) => {
      if (isPeer) return peer.reconnect();
      await goOffline();
      ablo.setOffline(false);
      return until(() => ablo.status.connection.state === 'connected');
    }, this.isPeer);
  }

  /** Waits until it knows who holds the row and who waits. */
  untilSees(holder, waiting) {
    const line = waiting.map(({ name }, position) => `${position} ${name}`).join();
    return this.page.evaluate(
      ([isPeer, name, expected]) => {
        const holds = () => (isPeer ? peer.holderOf('t1') : (ablo.tasks.claim.state({ id: 't1' })?.heldBy ?? null));
        const waits = () => (isPeer ? peer.lineOf('t1') : ablo.tasks.claim.queue({ id: 't1' }).data.map((claim) => `${claim.position} ${claim.heldBy}`).join());
        return until(() => holds() === name && waits() === expected, `${name} holds it, and ${expected || 'nobody'} waits`);
      },
      [this.isPeer, holder?.name ?? null, line],
    );
  }
}

test('clients of 0.15 and this one wait for each other, and go on from what the other has written', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const open = (name, token, isPeer) => Neighbour.open(t, server, name, token, isPeer);
  const [grace, ada, bot, chief] = await Promise.all([
    open('grace', 'ek_test_grace', true),
    open('ada', 'ek_test_ada', false),
    open('bot', 'rk_test_bot', true),
    open('chief', 'ek_test_chief', false),
  ]);
  const all = [grace, ada, bot, chief];
  const allSee = async (holder, ...waiting) => {
    for (const one of all) await one.untilSees(holder, waiting);
  };

  await grace.ask();
  assert.deepEqual(await grace.granted(), { waited: false, title: 'Call back' });
  await ada.untilSees(grace, []);
  const failed = await ada.page.evaluate(() => outcome(ablo.tasks.claim({ id: 't1', queue: false })));
  assert.equal(failed.code, 'entity_claimed');
  assert.match(failed.message, /grace/);
  const line = [];
  for (const next of [ada, bot, chief]) {
    await next.ask();
    line.push(next);
    await allSee(grace, ...line);
  }
  // All of its writes under a claim carry the stamp of the claim.
  assert.equal(await grace.write('one'), 'confirmed');
  assert.equal(await grace.write('two'), 'confirmed');
  for (const other of [ada, bot]) assert.equal(await other.write('mine', { claimed: false }), 'entity_claimed', other.name);

  // Each reorders a line in which the other waits.
  await chief.page.evaluate(() => {
    const { data } = ablo.tasks.claim.queue({ id: 't1' });
    ablo.tasks.claim.reorder({ id: 't1', order: [data[1], data[2]] });
  });
  await allSee(grace, bot, chief, ada);
  await grace.page.evaluate(() => peer.reorder('t1', [peer.lines.get('t1')[1]]));
  await allSee(grace, chief, bot, ada);
  await grace.release();
  assert.deepEqual(await chief.granted(), { waited: true, title: 'two' });
  await allSee(chief, bot, ada);
  assert.equal(await grace.write('late'), 'entity_claimed');

  // A connection that breaks costs neither the row nor a place in line, on either side.
  for (const one of [chief, bot, ada, grace]) await one.reconnect();
  await allSee(chief, bot, ada);
  assert.equal(await chief.write('three'), 'confirmed');
  await chief.release();
  assert.deepEqual(await bot.granted(), { waited: true, title: 'three' });
  await bot.reconnect();
  await allSee(bot, ada);
  assert.equal(await bot.write('four'), 'confirmed');

  await bot.release();
  assert.deepEqual(await ada.granted(), { waited: true, title: 'four' });
  // One of this kind that is disposed of gives back what it holds.
  await grace.ask();
  await allSee(ada, grace);
  assert.equal(await ada.write('five'), 'confirmed');
  await ada.page.evaluate(() => ablo.dispose());
  assert.deepEqual(await grace.granted(), { waited: true, title: 'five' });
  await grace.release();
  await chief.untilSees(undefined, []);
  assert.equal((await server.rows('Task'))[0].title, 'five');
});

test('a client of 0.15 waits for the whole row while others have fields of it', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const grace = await Neighbour.open(t, server, 'grace', 'ek_test_grace', true);
  const ada = await Neighbour.open(t, server, 'ada', 'ek_test_ada', false);
  const chief = await Neighbour.open(t, server, 'chief', 'ek_test_chief', false);
  const fields = [[ada, 'title'], [chief, 'rank']];
  for (const [one, field] of fields) {
    await one.ask(field);
    assert.deepEqual(await one.granted(), { waited: false, title: 'Call back' });
  }
  await grace.ask();
  const untilLine = (line) => chief.page.evaluate((names) => until(() => ablo.tasks.claim.queue({ id: 't1' }).data.map(({ heldBy }) => heldBy).join() === names, names), line);
  await untilLine('grace');
  assert.equal(await grace.write('mine', { claimed: false }), 'entity_claimed');
  await ada.release();
  // It came first: a field that is free already is not given past it.
  await ada.ask('title');
  await untilLine('grace,ada');
  await chief.release();
  assert.deepEqual(await grace.granted(), { waited: true, title: 'Call back' });
  assert.equal(await grace.write('one'), 'confirmed');
  await grace.release();
  assert.deepEqual(await ada.granted(), { waited: true, title: 'one' });
});

test('a client of 0.15 that closes without a word is waited for until its time is up', async (t) => {
  const server = await Server.start(t, { seed: SEED, more: ['--claim-renewal', '5s'] });
  const grace = await Neighbour.open(t, server, 'grace', 'ek_test_grace', true);
  const ada = await Neighbour.open(t, server, 'ada', 'ek_test_ada', false);
  await grace.page.evaluate(async () => (globalThis.held = await peer.claim('t1', { estimatedMs: 1000 })));
  assert.equal(await grace.write('one'), 'confirmed');
  await ada.untilSees(grace, []);
  await grace.page.evaluate(() => peer.close());
  // A place in line ends after as long as the row it is for: so ada asks once the server knows that grace is gone.
  await ada.page.evaluate(() => until(() => !ablo.presence.others.some(({ participantId }) => participantId === 'grace')));
  await ada.ask();
  assert.deepEqual(await ada.granted(), { waited: true, title: 'one' });
  assert.equal(await ada.write('two'), 'confirmed');
});

/**
 * In the page: clients of both kinds take so many turns at the row. Connections break while they wait and while they hold it.
 * One of 0.15 has been heard then: it never says again that it gives something back.
 */
async function takeTurns({ tokens, turns }) {
  const { Peer } = await import('/e2e/peer.js');
  const ours = async (apiKey) => {
    const client = make({ apiKey, persistence: 'memory' });
    await client.ready();
    const reconnect = () => {
      client.setOffline(true);
      client.setOffline(false);
    };
    const write = (data, claim) => client.tasks.update({ id: 't1', data, claim });
    return { claim: () => client.tasks.claim({ id: 't1' }), reconnect, write, release: (held) => held.release() };
  };
  const theirs = async (token) => {
    const peer = await Peer.start(token);
    const write = async (data, held) => {
      const answer = await peer.update('t1', data, held);
      if (answer !== 'confirmed') throw Object.assign(new Error(`a write under a claim: ${answer}`), { code: answer });
    };
    const reconnect = async () => {
      await peer.heard();
      await peer.reconnect();
    };
    return { claim: () => peer.claim('t1'), reconnect, write, release: (held) => peer.release(held) };
  };
  await Promise.all(
    tokens.map(async (token, at) => {
      const kind = ['ours', 'theirs'][at % 2];
      const { claim, reconnect, write, release } = await { ours, theirs }[kind](token);
      const takeTurn = async (isBroken) => {
        const asked = claim();
        if (isBroken === 'waiting') await reconnect();
        const held = await asked;
        try {
          const { rank } = held.data;
          await write({ title: kind }, held);
          if (isBroken === 'holding') await reconnect();
          await write({ rank: rank + 1 }, held);
        } finally {
          await release(held);
        }
      };
      for (let turn = 0; turn < turns; turn += 1) {
        const isBroken = [undefined, 'waiting', undefined, 'holding'][turn % 4];
        // One of 0.15 stamps its claim with what it has heard of when it is granted: on a new connection that may be less
        // than has happened. It claims again.
        await takeTurn(isBroken).catch((error) => {
          if (kind === 'ours' || error.code !== 'stale_context') throw error;
          return takeTurn();
        });
      }
    }),
  );
}

test('of many turns at a row that both kinds take, none is lost or out of turn', async (t) => {
  const server = await Server.start(t, { seed: SEED });
  const observer = await openPage(t, server);
  await observer.evaluate(observe, 'ek_test_grace');
  const [clients, turns] = [8, 12];
  const tokens = [];
  for (let client = 0; client < clients; client += 1) {
    tokens.push(JSON.parse(await server.fetch('/auth/ephemeral-keys', { body: { user: { id: `worker${client}` }, ttlSeconds: 900 } })).token);
  }
  const page = await openPage(t, server, { expected: NO_SERVER });
  await page.evaluate(takeTurns, { tokens, turns });
  const [{ rank }] = await server.rows('Task');
  assert.equal(rank, clients * turns, 'each turn builds on the one before');
  const grants = checkGrants(await observer.evaluate(() => frames));
  assert.ok(grants >= clients * turns, `${grants} grants`);
  await observer.evaluate(() => clearInterval(beats));
});
