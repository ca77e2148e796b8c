// 100,000 rows: all of them are there, and the page stays usable.

import assert from 'node:assert/strict';
import { openClient, Server, test } from './harness.mjs';

const COUNT = 100_000;

test('100,000 rows are all there', async (t) => {
  const Task = Array.from({ length: COUNT }, (_, at) => ({
    id: `task-${at}`,
    title: `Task number ${at}`,
    status: ['todo', 'doing', 'done'][at % 3],
    rank: (at * 7919) % COUNT,
  }));
  const server = await Server.start(t, { seed: { Task } });
  const page = await openClient(t, server);
  const facts = await page.evaluate(async (count) => {
    const { tasks } = ablo;
    const [first] = tasks.getAll({ orderBy: { rank: 'asc' }, limit: 1 });
    const [last] = tasks.getAll({ orderBy: { rank: 'desc' }, limit: 1 });
    const tail = tasks.getAll({ orderBy: { rank: 'asc' }, offset: count - 2 });
    const seen = [];
    const stop = tasks.onChange((rows) => seen.push([rows.length, rows[0].id]), { orderBy: { rank: 'asc' }, limit: 20 });
    await tasks.update({ id: last.id, data: { rank: -1 }, wait: 'confirmed' });
    stop();
    return {
      count: tasks.getCount(),
      done: tasks.getCount({ where: { status: 'done' } }),
      ends: [first.rank, last.rank, tail.map((row) => row.rank)],
      byId: [tasks.get('task-0').title, tasks.get(`task-${count - 1}`).title],
      all: new Set(tasks.getAll().map((row) => row.id)).size,
      seen: [seen[0], seen.at(-1)],
      moved: last.id,
    };
  }, COUNT);
  assert.deepEqual(facts, {
    count: COUNT,
    done: Math.floor(COUNT / 3),
    ends: [0, COUNT - 1, [COUNT - 2, COUNT - 1]],
    byId: ['Task number 0', `Task number ${COUNT - 1}`],
    all: COUNT,
    seen: [[20, 'task-0'], [20, facts.moved]],
    moved: facts.moved,
  });
});
