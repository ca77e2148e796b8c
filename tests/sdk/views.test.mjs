import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TASKS, makeClient, page, readyClient, settled, task } from './support.mjs';

const ids = (rows) => rows.map((row) => row.id);

test('onChange calls back at once, then on every change of its window', async () => {
  const { ablo, core } = await readyClient([task('t1')]);
  const seen = [];
  const stop = ablo.tasks.onChange((rows) => seen.push(rows), { where: { state: 'open' } });
  assert.deepEqual(seen.map(ids), [['t1']]);
  core.put(TASKS, [task('t2')]);
  assert.deepEqual(seen.map(ids), [['t1'], ['t1', 't2']]);
  assert.equal(seen[1][0], seen[0][0]);
  assert.ok(Object.isFrozen(seen[1]));
  stop();
  stop();
  core.put(TASKS, [task('t3')]);
  assert.equal(seen.length, 2);
  assert.equal(core.calls.filter((call) => call === 'viewClose').length, 1);
});

test('edits are applied in order to a copy', async () => {
  const { ablo, core } = await readyClient([task('a'), task('b'), task('c'), task('d')]);
  const seen = [];
  ablo.tasks.onChange((rows) => seen.push(rows));
  const [view] = core.views.values();
  core.put(TASKS, [task('e')], { quiet: true });
  core.put(TASKS, [task('b', { rank: 8 })], { quiet: true });
  // Slot 77 comes and goes and never has a row.
  view.edits = [2, 0, 0, 0, 1, 1, 4, 2, 0, 0, 1, 0, 77, 0, 0, 0];
  core.tell(TASKS, [2]);
  assert.deepEqual(ids(seen[0]), ['a', 'b', 'c', 'd']);
  assert.deepEqual(ids(seen[1]), ['b', 'e', 'c', 'd']);
  assert.equal(seen[1][0].rank, 8);
  assert.equal(seen[1][2], seen[0][2]);
  view.edits = [0];
  core.tell(TASKS, []);
  assert.equal(seen.length, 2);
});

test('a filter hides changes of rows that it drops', async () => {
  const { ablo, core } = await readyClient([task('a', { rank: 1 }), task('b', { rank: 5 })]);
  const seen = [];
  ablo.tasks.onChange((rows) => seen.push(ids(rows)), { filter: (row) => row.rank > 3, limit: 2 });
  core.put(TASKS, [task('a', { rank: 2 })]);
  core.put(TASKS, [task('c', { rank: 9 })]);
  core.put(TASKS, [task('d', { rank: 9 })]);
  assert.deepEqual(seen, [['b'], ['b', 'c']]);
});

test('a view opened before loading attaches when the module is there', async () => {
  const ablo = makeClient();
  const seen = [];
  const loads = page.loads;
  ablo.tasks.onChange((rows) => seen.push(ids(rows)));
  const stopped = [];
  ablo.tasks.onChange((rows) => stopped.push(rows))();
  assert.deepEqual(seen, [[]]);
  assert.equal(page.loads, loads);
  const created = ablo.tasks.create({ id: 't1', data: { title: 'x' } });
  await created;
  assert.deepEqual(seen, [[], ['t1']]);
  assert.equal(stopped.length, 1);
});

test('a listener that throws is reported and does not stop the others', async () => {
  const { ablo, core } = await readyClient([task('a')]);
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  const seen = [];
  let armed = false;
  ablo.tasks.onChange(() => {
    if (armed) throw new Error('mine');
  });
  const stop = ablo.tasks.onChange((rows) => {
    seen.push(rows.length);
    if (armed) stop();
  });
  armed = true;
  core.put(TASKS, [task('b')]);
  core.put(TASKS, [task('c')]);
  delete globalThis.reportError;
  assert.deepEqual(reported, ['mine', 'mine']);
  assert.deepEqual(seen, [1, 2]);
});

test('subscribe tells once for a turn which models changed', async () => {
  const { ablo, core } = await readyClient();
  await settled();
  const told = [];
  const stop = ablo.subscribe((change) => told.push(change));
  core.put(TASKS, [task('a')]);
  core.put(TASKS, [task('b')]);
  core.put(0, [{ id: 'p1', name: 'P' }]);
  assert.equal(told.length, 0);
  await settled();
  assert.deepEqual(told, [{ models: ['projects', 'tasks'] }]);
  stop();
  stop();
  core.put(TASKS, [task('c')]);
  await settled();
  assert.equal(told.length, 1);
});

test('onChange with options that are wrong throws', async () => {
  const { ablo } = await readyClient();
  assert.throws(() => ablo.tasks.onChange(() => {}, { where: { x: 1 } }), { param: 'where.x' });
  assert.throws(() => ablo.tasks.onChange(() => {}, { limit: -1, filter: () => true }), { param: 'limit' });
  assert.throws(() => ablo.tasks.onChange(undefined), { param: 'callback' });
});
