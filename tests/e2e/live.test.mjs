// Two participants, one server: what one writes the other sees, and what rows and lists promise to their readers.

import assert from 'node:assert/strict';
import { openClient, openPage, Server, test } from './harness.mjs';

test('a write in one tab shows in another', async (t) => {
  const server = await Server.start(t);
  const ada = await openClient(t, server);
  const grace = await openClient(t, server, { options: { apiKey: 'ek_test_grace' } });
  await grace.evaluate(() => {
    globalThis.seen = [];
    ablo.tasks.onChange((rows) => rows.forEach((row) => seen.push([row.title, performance.timeOrigin + performance.now()])));
  });
  const latencies = [];
  for (let round = 0; round < 10; round += 1) {
    const title = `round ${round}`;
    const sent = await ada.evaluate(async (text) => {
      const at = performance.timeOrigin + performance.now();
      await (ablo.tasks.get('one') ? ablo.tasks.update({ id: 'one', data: { title: text } }) : ablo.tasks.create({ id: 'one', data: { title: text } }));
      return at;
    }, title);
    const came = await grace.evaluate((text) => until(() => seen.find(([shown]) => shown === text)?.[1], `the title ${text}`), title);
    latencies.push(came - sent);
  }
  latencies.sort((a, b) => a - b);
  t.diagnostic(`tab to tab: median ${latencies[5].toFixed(1)} ms, worst ${latencies.at(-1).toFixed(1)} ms (goal: below 100 ms)`);
  const rows = await server.rows('Task');
  assert.deepEqual(rows.map((row) => [row.id, row.title, row.createdBy]), [['one', 'round 9', rows[0].createdBy]]);
});

test('lists call back for changes of fields, and not for nothing', async (t) => {
  const server = await Server.start(t);
  const page = await openClient(t, server);
  const calls = await page.evaluate(async () => {
    await ablo.tasks.create({ id: 'a', data: { title: 'one', status: 'todo' } });
    await ablo.tasks.create({ id: 'b', data: { title: 'two', status: 'done' } });
    await ablo.waitForFlush(10_000);
    const calls = [];
    const stop = ablo.tasks.onChange((rows) => calls.push(rows.map((row) => row.title).join()), { where: { status: 'todo' } });
    await ablo.tasks.update({ id: 'a', data: { title: 'uno' } });
    await ablo.waitForFlush(10_000);
    await ablo.tasks.update({ id: 'b', data: { title: 'zwei' } });
    await ablo.waitForFlush(10_000);
    const before = calls.length;
    await ablo.tasks.update({ id: 'a', data: { title: 'uno' } });
    await ablo.waitForFlush(10_000);
    const afterNothing = calls.length - before;
    await ablo.tasks.update({ id: 'b', data: { status: 'todo' } });
    await until(() => calls.at(-1) === 'uno,zwei');
    stop();
    await ablo.tasks.update({ id: 'a', data: { title: 'unheard' } });
    await ablo.waitForFlush(10_000);
    return { first: calls[0], distinct: [...new Set(calls)], afterNothing, last: calls.at(-1) };
  });
  assert.deepEqual(calls, { first: 'one', distinct: ['one', 'uno', 'uno,zwei'], afterNothing: 0, last: 'uno,zwei' });
});

test('rows are frozen and keep their identity until they change', async (t) => {
  const server = await Server.start(t);
  const page = await openClient(t, server);
  const facts = await page.evaluate(async () => {
    'use strict';
    await ablo.tasks.create({ id: 'a', data: { title: 'one', extra: { deep: [1, { two: 2 }] } }, wait: 'confirmed' });
    await ablo.tasks.create({ id: 'b', data: { title: 'two' }, wait: 'confirmed' });
    await ablo.waitForFlush(10_000);
    const [a, b] = [ablo.tasks.get('a'), ablo.tasks.get('b')];
    const list = ablo.tasks.getAll();
    const same = [ablo.tasks.get('a') === a, ablo.tasks.getAll() === list, ablo.tasks.getAll({ where: { title: 'one' } })[0] === a];
    const throws = (change) => {
      try {
        change();
        return false;
      } catch (error) {
        return error instanceof TypeError;
      }
    };
    const frozen = [() => (a.title = 'no'), () => delete a.title, () => a.extra.deep.push(3), () => (a.extra.deep[1].two = 0), () => list.push(a)].map(throws);
    await ablo.tasks.update({ id: 'a', data: { title: 'one' } });
    const keptByNothing = ablo.tasks.get('a') === a;
    await ablo.tasks.update({ id: 'a', data: { title: 'uno' } });
    const changed = [ablo.tasks.get('a') !== a, a.title, ablo.tasks.get('a').title, ablo.tasks.get('b') === b, ablo.tasks.getAll() !== list];
    return { same, frozen, keptByNothing, changed };
  });
  assert.deepEqual(facts, {
    same: [true, true, true],
    frozen: [true, true, true, true, true],
    keptByNothing: true,
    changed: [true, 'one', 'uno', true, true],
  });
});

test('two clients on one page do not meet', async (t) => {
  const server = await Server.start(t);
  const page = await openPage(t, server);
  const facts = await page.evaluate(async () => {
    const ada = make();
    const grace = make({ apiKey: 'ek_test_grace' });
    await Promise.all([ada.ready(), grace.ready()]);
    await until(() => ada.status.connection.state === 'connected');
    ada.setOffline(true);
    await until(() => ada.status.connection.state !== 'connected');
    await ada.tasks.create({ id: 'mine', data: { title: 'unsent' } });
    await grace.tasks.create({ id: 'hers', data: { title: 'sent' }, wait: 'confirmed' });
    const apart = [ada.tasks.get('hers'), grace.tasks.get('mine'), ada.status.pendingWrites, grace.status.connection.state];
    const who = [ada.status.participantId, grace.status.participantId];
    ada.setOffline(false);
    await until(() => grace.tasks.get('mine') && ada.tasks.get('hers'));
    await ada.dispose();
    await grace.tasks.update({ id: 'mine', data: { title: 'taken over' }, wait: 'confirmed' });
    return { apart, who, title: grace.tasks.get('mine').title };
  });
  assert.deepEqual(facts, {
    apart: [undefined, undefined, 1, 'connected'],
    who: ['ada', 'grace'],
    title: 'taken over',
  });
});

test('one refused write of a batch fails alone', async (t) => {
  const server = await Server.start(t);
  const page = await openClient(t, server, { options: { apiKey: 'rk_test_reader', bootstrapMode: 'full' } });
  const facts = await page.evaluate(async () => {
    const refused = [];
    ablo.onMutationFailure(({ transaction, error }) => refused.push([transaction.modelId, error.code]));
    const writes = [
      ablo.projects.create({ id: 'p1', data: { name: 'allowed' }, wait: 'confirmed' }),
      ablo.tasks.create({ id: 't1', data: { title: 'not allowed' }, wait: 'confirmed' }),
      ablo.projects.create({ id: 'p2', data: { name: 'allowed too' }, wait: 'confirmed' }),
    ];
    const results = await Promise.all(writes.map(outcome));
    await ablo.waitForFlush(10_000);
    return { codes: results.map(({ code }) => code ?? 'fine'), refused, here: ['p1', 't1', 'p2'].map((id) => Boolean(ablo.projects.get(id) ?? ablo.tasks.get(id))) };
  });
  assert.deepEqual(facts, {
    codes: ['fine', 'capability_scope_denied', 'fine'],
    refused: [['t1', 'capability_scope_denied']],
    here: [true, false, true],
  });
  const projects = await server.rows('Project');
  assert.deepEqual(projects.map(({ id }) => id).sort(), ['p1', 'p2']);
});

test('a value that the server does not know is refused alone, one that nobody knows at once', async (t) => {
  const server = await Server.start(t);
  const page = await openPage(t, server);
  const facts = await page.evaluate(async () => {
    // This application is ahead of the server: its schema has one more status.
    const { field, model, defineSchema } = sdk;
    const tasks = model({ title: field.string(), status: field.enum(['todo', 'blocked']), rank: field.number().default(0) }, {}, { typename: 'Task' });
    globalThis.ablo = make({ schema: defineSchema({ tasks }) });
    await ablo.ready();
    const statuses = ['todo', 'blocked', 'unheard of', 'todo'];
    const results = await Promise.all(
      statuses.map((status, at) => outcome(ablo.tasks.create({ id: `t${at}`, data: { title: status, status }, wait: 'confirmed' }))),
    );
    return { codes: results.map(({ code, param }) => [code ?? 'fine', param ?? null]), here: ablo.tasks.getAll().map((row) => row.id) };
  });
  assert.deepEqual(facts.codes, [['fine', null], [facts.codes[1][0], 'status'], ['invalid_body', 'status'], ['fine', null]]);
  assert.match(facts.codes[1][0], /^(check_violation|invalid_body)$/);
  assert.deepEqual(facts.here.sort(), ['t0', 't3']);
  assert.deepEqual((await server.rows('Task')).map((row) => row.id).sort(), ['t0', 't3']);
});
