// Values that break clients: strange names, strange ids, large numbers, long strings.

import assert from 'node:assert/strict';
import { openClient, Server, test } from './harness.mjs';

/** Characters of two bytes: 1 MB. */
const LONG = 1 << 19;

test('any id comes through unchanged', async (t) => {
  const ids = ['plain', 'with space', 'slash/and?query#', 'ünïcödé', '👩‍👩‍👧', '中文', '\u0000nul', '"quoted"\\', '__proto__', 'constructor', '\u202eright', 'a'.repeat(200), '\n', '0'];
  const server = await Server.start(t);
  const page = await openClient(t, server);
  const here = await page.evaluate(async (list) => {
    for (const id of list) await ablo.tasks.create({ id, data: { title: id } });
    await ablo.waitForFlush(10_000);
    await Promise.all(list.map((id) => ablo.tasks.update({ id, data: { rank: 7 } })));
    await ablo.waitForFlush(10_000);
    return list.map((id) => ablo.tasks.get(id)).map((row) => row && [row.id, row.title, row.rank]);
  }, ids);
  const expected = ids.map((id) => [id, id, 7]);
  assert.deepEqual(here, expected);
  const there = (await server.rows('Task')).map((row) => [row.id, row.title, row.rank]);
  assert.deepEqual(there.sort(), expected.sort());
});

test('a row with a field named __proto__ is a row like any other', async (t) => {
  const server = await Server.start(t);
  await server.fetch('/v1/commits', {
    headers: { 'idempotency-key': 'proto' },
    text: '{"clientTxId":"proto","idempotencyKey":"proto","operations":[{"action":"create","model":"tasks","id":"p","data":{"title":"t","status":"todo","rank":0,"__proto__":{"polluted":true},"extra":{"__proto__":{"polluted":true},"constructor":1}}}]}',
  });
  const page = await openClient(t, server);
  const facts = await page.evaluate(async () => {
    await until(() => ablo.tasks.get('p'));
    const row = ablo.tasks.get('p');
    await ablo.tasks.update({ id: 'p', data: { title: 'u' }, wait: 'confirmed' });
    return {
      title: ablo.tasks.get('p').title,
      polluted: ({}).polluted ?? ablo.tasks.get('p').polluted ?? row.extra.polluted ?? null,
      own: Object.hasOwn(row.extra, '__proto__'),
      prototype: Object.getPrototypeOf(row) === Object.prototype,
    };
  });
  assert.deepEqual(facts, { title: 'u', polluted: null, own: true, prototype: true });
});

test('numbers beyond 2^53 survive a change of another field', async (t) => {
  const text = '{"big":9007199254740993,"huge":1e400,"exact":0.1000000000000000055511151231257827,"minus":-0}';
  const server = await Server.start(t);
  await server.fetch('/v1/commits', {
    headers: { 'idempotency-key': 'big' },
    text: `{"clientTxId":"big","idempotencyKey":"big","operations":[{"action":"create","model":"tasks","id":"n","data":{"title":"t","status":"todo","rank":0,"extra":${text}}}]}`,
  });
  const page = await openClient(t, server);
  await page.evaluate(async () => {
    await until(() => ablo.tasks.get('n'));
    await ablo.tasks.update({ id: 'n', data: { title: 'changed' }, wait: 'confirmed' });
  });
  const stored = await server.fetch('/sync/bootstrap');
  assert.ok(stored.includes(text), `the bytes of the field were touched: ${stored}`);
  assert.ok(stored.includes('"title":"changed"'));
});

test('empty and very long strings', async (t) => {
  const server = await Server.start(t);
  const ada = await openClient(t, server);
  const grace = await openClient(t, server, { options: { apiKey: 'ek_test_grace' } });
  await ada.evaluate(async (length) => {
    await ablo.tasks.create({ id: 'empty', data: { title: '', note: '' } });
    await ablo.tasks.create({ id: 'long', data: { title: 'ä'.repeat(length) }, wait: 'confirmed' });
  }, LONG);
  const facts = await grace.evaluate(async () => {
    await until(() => ablo.tasks.get('long') && ablo.tasks.get('empty'));
    const { title } = ablo.tasks.get('long');
    return [title.length, title === 'ä'.repeat(title.length), ablo.tasks.get('empty').title, ablo.tasks.get('empty').note];
  });
  assert.deepEqual(facts, [LONG, true, '', '']);
});
