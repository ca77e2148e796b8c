import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TASKS, makeClient, readyClient, settled, task } from './support.mjs';

test('before anything is loaded reads are empty', () => {
  const ablo = makeClient();
  assert.equal(ablo.tasks.get('t1'), undefined);
  assert.deepEqual(ablo.tasks.getAll({ where: { state: 'open' } }), []);
  assert.equal(ablo.tasks.getAll(), ablo.tasks.getAll());
  assert.equal(ablo.tasks.getCount(), 0);
});

test('a row is a deeply frozen plain object with dates, the same until it changes', async () => {
  const { ablo, core } = await readyClient([task('t1', { extra: { tags: ['a'] }, archivedAt: null }), task('t2')]);
  const row = ablo.tasks.get('t1');
  assert.equal(ablo.tasks.get('t1'), row);
  assert.equal(Object.getPrototypeOf(row), Object.prototype);
  assert.ok(Object.isFrozen(row) && Object.isFrozen(row.extra) && Object.isFrozen(row.extra.tags));
  assert.ok(row.createdAt instanceof Date && row.updatedAt instanceof Date);
  assert.equal(row.archivedAt, null);
  assert.equal(row.label, 'task t1#1');
  assert.ok(!Object.keys(row).includes('label'));

  core.put(TASKS, [task('t2', { rank: 5 })]);
  assert.equal(ablo.tasks.get('t1'), row);
  core.put(TASKS, [task('t1', { rank: 7 })]);
  assert.notEqual(ablo.tasks.get('t1'), row);
  assert.equal(ablo.tasks.get('t1').rank, 7);
  assert.equal(row.rank, 1);
});

test('hot reads do not cross', async () => {
  const { ablo, core } = await readyClient([task('t1'), task('t2')]);
  const options = () => ({ where: { state: 'open' }, orderBy: { rank: 'asc' }, limit: 2 });
  ablo.tasks.getAll(options());
  core.calls.length = 0;
  ablo.tasks.get('t1');
  ablo.tasks.getAll(options());
  assert.deepEqual(core.calls, []);
});

test('members called __proto__ stay data', async () => {
  const { ablo, core } = await readyClient();
  core.rows = () => '[{"id":"t1","title":"x","__proto__":{"admin":true}}]';
  core.find = () => 1;
  const row = ablo.tasks.get('t1');
  assert.equal(row.admin, undefined);
  assert.deepEqual(Object.getOwnPropertyDescriptor(row, '__proto__').value, { admin: true });
});

test('a row that is gone is forgotten, and its slot may hold another', async () => {
  const { ablo, core } = await readyClient([task('t1')]);
  assert.ok(ablo.tasks.get('t1'));
  core.remove(TASKS, 't1');
  assert.equal(ablo.tasks.get('t1'), undefined);
  core.tables[TASKS][0] = { row: task('t9'), seen: false };
  core.tell(TASKS, []);
  assert.equal(ablo.tasks.get('t9').id, 't9');
  assert.equal(ablo.tasks.get('t1'), undefined);
});

test('ids that are no ids find nothing', async () => {
  const { ablo, core } = await readyClient([task('\ufffd')]);
  for (const id of [undefined, null, 7, '\ud800']) assert.equal(ablo.tasks.get(id), undefined);
  assert.deepEqual(core.calls, []);
});

test('lists keep their identity while nothing in them changes', async () => {
  const { ablo, core } = await readyClient([task('t1'), task('t2', { state: 'done' })]);
  const open = ablo.tasks.getAll({ where: { state: 'open' } });
  assert.ok(Object.isFrozen(open));
  core.put(TASKS, [task('t2', { state: 'done', rank: 9 })]);
  assert.equal(ablo.tasks.getAll({ where: { state: 'open' } }), open);
  core.put(TASKS, [task('t1', { rank: 9 })]);
  const next = ablo.tasks.getAll({ where: { state: 'open' } });
  assert.notEqual(next, open);
  assert.equal(next[0].rank, 9);
});

test('filter functions run on what where lets through, before offset and limit', async () => {
  const rows = Array.from({ length: 10 }, (_, rank) => task(`t${rank}`, { rank, state: rank < 8 ? 'open' : 'done' }));
  const { ablo, core } = await readyClient(rows);
  const even = () =>
    ablo.tasks.getAll({ where: { state: 'open' }, filter: (row) => row.rank % 2 === 0, offset: 1, limit: 2 });
  assert.deepEqual(
    even().map((row) => row.rank),
    [2, 4],
  );
  assert.equal(even(), even());
  assert.deepEqual(
    core.calls.filter((call) => call.startsWith('query')),
    ['query:{"where":{"state":"open"}}'],
  );
  assert.equal(ablo.tasks.getCount({ filter: (row) => row.rank > 4 }), 5);
  assert.equal(ablo.tasks.getAll({ limit: 0 }).length, 10);
});

test('a condition on undefined asks for rows without the field', async () => {
  const { ablo } = await readyClient([task('t1'), task('t2', { projectId: 'p1' })]);
  assert.deepEqual(
    ablo.tasks.getAll({ where: { projectId: undefined } }).map((row) => row.id),
    ['t1'],
  );
  assert.equal(ablo.tasks.getAll().length, 2);
});

test('keys of the query cache do not run into each other', async () => {
  const { ablo, core } = await readyClient([task('t1', { title: 'a;5:staten' })]);
  const count = () => core.calls.filter((call) => call.startsWith('query')).length;
  for (const where of [
    { title: '1' },
    { title: 1 },
    { title: null },
    { title: 'null' },
    { title: true },
    { title: 'true' },
  ]) {
    ablo.tasks.getAll({ where });
  }
  ablo.tasks.getAll({ where: { title: 'a', rank: 1 } });
  ablo.tasks.getAll({ where: { title: 'a;4:rank1' } });
  ablo.tasks.getAll({ orderBy: { title: 'asc' } });
  ablo.tasks.getAll({ limit: 1 });
  ablo.tasks.getAll({ offset: 1 });
  assert.equal(count(), 11);
});

test('wrong read options are refused and name what is wrong', async () => {
  const { ablo } = await readyClient([task('t1')]);
  // Remembered answers do not hide mistakes.
  ablo.tasks.getAll();
  ablo.tasks.getAll({});
  for (const [options, param] of [
    [{ sort: 'rank' }, 'sort'],
    [{ where: { titel: 'x' } }, 'where.titel'],
    [{ where: [['rank', 1]] }, 'where'],
    [{ where: { rank: Number.NaN } }, 'where'],
    [{ orderBy: { rank: 'up' } }, 'orderBy.rank'],
    [{ orderBy: { rnk: 'asc' } }, 'orderBy.rnk'],
    [{ limit: -1 }, 'limit'],
    [{ offset: 1.5 }, 'offset'],
    [{ state: 'gone' }, 'state'],
    [{ filter: 'x' }, 'filter'],
  ]) {
    assert.throws(() => ablo.tasks.getAll(options), { type: 'AbloValidationError', param }, JSON.stringify(options));
  }
});

test('what a filter function throws passes unchanged', async () => {
  const { ablo } = await readyClient([task('t1')]);
  const mine = new TypeError('mine');
  const filter = () => {
    throw mine;
  };
  assert.throws(
    () => ablo.tasks.getAll({ filter }),
    (error) => error === mine,
  );
});

test('rows are fetched at most 1000 at a time', async () => {
  const { ablo, core } = await readyClient(Array.from({ length: 2500 }, (_, at) => task(`t${at}`)));
  assert.equal(ablo.tasks.getAll().length, 2500);
  assert.deepEqual(
    core.calls.filter((call) => call.startsWith('rows')),
    ['rows:1000', 'rows:1000', 'rows:500'],
  );
});

test('server reads resolve to rows, found when the answer came', async () => {
  const { ablo, core } = await readyClient([task('t1'), task('t2')]);
  const one = await ablo.tasks.retrieve({ id: 't2', expand: ['project'] });
  assert.equal(one, ablo.tasks.get('t2'));
  assert.deepEqual(core.asked, { id: 't2', expand: ['project'] });
  assert.equal(await ablo.tasks.retrieve({ id: 'none' }), undefined);
  const list = await ablo.tasks.list({ where: [['rank', '>=', 1]], orderBy: { rank: 'desc' }, limit: 0 });
  assert.deepEqual(core.asked, { where: [['rank', '>=', 1]], orderBy: { rank: 'desc' }, limit: 0 });
  assert.ok(Object.isFrozen(list) && list.length === 2);
  await ablo.tasks.list({ where: { projectId: undefined, state: ['open'] } });
  assert.deepEqual(core.asked, { where: [['projectId', null], ['state', 'IN', ['open']]] });
  const wrong = [{ where: 7 }, { orderBy: { rank: 'up' } }, { orderBy: 'rank' }, { limit: -1 }, { type: 'all' }];
  for (const options of [...wrong, { offset: 1 }, { where: { rank: Number.NaN } }, 7]) {
    await assert.rejects(ablo.tasks.list(options), { type: 'AbloValidationError', code: 'invalid_options' });
  }
  await assert.rejects(ablo.tasks.retrieve({}), { code: 'invalid_id' });
  await assert.rejects(ablo.tasks.retrieve({ id: 't1', type: 'all' }), { code: 'invalid_options', param: 'type' });
  await settled();
});
