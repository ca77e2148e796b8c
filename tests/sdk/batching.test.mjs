/** The batch scheduler, bundled as in the package. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const { outputFiles, metafile } = await build({
  entryPoints: [fileURLToPath(new URL('../../sdk/src/batching.ts', import.meta.url))],
  bundle: true,
  minify: true,
  format: 'esm',
  write: false,
  metafile: true,
});
const { createBatchScheduler } = await import(`data:text/javascript,${encodeURIComponent(outputFiles[0].text)}`);

/** A scheduler whose batches end when the test says so. `sent` has what was dispatched. */
function rig(options, compare) {
  const sent = [];
  const ends = [];
  const scheduler = createBatchScheduler(
    {
      dispatchBatch(items) {
        sent.push([...items]);
        return new Promise((resolve, reject) => ends.push({ resolve, reject }));
      },
      compare,
    },
    options,
  );
  const enqueue = (...items) => items.map((item) => scheduler.enqueue(item));
  return { scheduler, sent, ends, enqueue };
}

/** Lets everything happen that is waiting in microtasks. */
const settled = () => new Promise((resolve) => setImmediate(resolve));
const outcomes = async (promises) =>
  (await Promise.allSettled(promises)).map(({ status, value, reason }) => value ?? reason?.message ?? status);

test('it stands alone', () => assert.equal(Object.keys(metafile.inputs).length, 1));

test('what is enqueued in one turn is one batch, and shares its result', async () => {
  const { sent, ends, enqueue } = rig();
  const first = enqueue(1, 2, 3);
  assert.deepEqual(sent, [], 'nothing leaves before the end of the microtask');
  await settled();
  assert.deepEqual(sent, [[1, 2, 3]]);
  ends[0].resolve('done');
  assert.deepEqual(await outcomes(first), ['done', 'done', 'done']);
});

test('all items of a batch share its error, however it fails, and those of the next do not', async () => {
  const { sent, ends, enqueue } = rig({ maxBatchSize: 2 });
  const all = outcomes(enqueue(1, 2, 3));
  await settled();
  ends[0].reject(new Error('refused'));
  await settled();
  ends[1].resolve('done');
  assert.deepEqual(await all, ['refused', 'refused', 'done']);
  assert.deepEqual(sent, [[1, 2], [3]]);
  const thrown = createBatchScheduler({
    dispatchBatch() {
      throw new Error('at once');
    },
  });
  assert.deepEqual(await outcomes([thrown.enqueue(1)]), ['at once']);
  const unsorted = rig({}, () => {
    throw new Error('no order');
  });
  assert.deepEqual(await outcomes(unsorted.enqueue(1, 2)), ['no order', 'no order']);
});

test('batches leave in order, as many at once as are allowed', async () => {
  const { sent, ends, enqueue } = rig({ maxBatchSize: 1, maxInFlight: 2 });
  const all = outcomes(enqueue(1, 2, 3, 4));
  await settled();
  assert.deepEqual(sent, [[1], [2]]);
  ends[1].resolve('b');
  await settled();
  assert.deepEqual(sent, [[1], [2], [3]]);
  ends[0].reject(new Error('a'));
  await settled();
  ends[2].resolve('c');
  ends[3].resolve('d');
  assert.deepEqual(await all, ['a', 'b', 'c', 'd']);
});

test('one batch at a time by default; what comes meanwhile gathers', async () => {
  const { sent, ends, enqueue } = rig();
  enqueue(1);
  await settled();
  enqueue(2);
  await settled();
  enqueue(3);
  await settled();
  assert.deepEqual(sent, [[1]]);
  ends[0].resolve();
  await settled();
  assert.deepEqual(sent, [[1], [2]], 'each turn is a batch, also while it waits for its turn');
});

test('256 items are a batch by default', async () => {
  const { sent, enqueue } = rig({ maxInFlight: 9 });
  enqueue(...Array(257).keys());
  await settled();
  assert.deepEqual(sent.map(({ length }) => length), [256, 1]);
});

test('a batch is sorted before it leaves', async () => {
  const { sent, enqueue } = rig({}, (a, b) => a - b);
  enqueue(3, 1, 2);
  await settled();
  assert.deepEqual(sent, [[1, 2, 3]]);
});

test('items that cost too much together are kept apart; one that costs more alone goes alone', async () => {
  const { sent, enqueue } = rig({ maxBatchCost: 10, costOf: (cost) => cost, maxInFlight: 9 });
  enqueue(4, 6, 1, 50, 10, 0);
  await settled();
  assert.deepEqual(sent, [[4, 6], [1], [50], [10, 0]]);
  const odd = createBatchScheduler({ dispatchBatch: async () => 'done' }, { costOf: (item) => item.length });
  const [first, wrong, last] = await outcomes([odd.enqueue('x'), odd.enqueue(null), odd.enqueue('y')]);
  assert.deepEqual([first, last], ['done', 'done']);
  assert.match(wrong, /null/);
});

test('alone means alone, and keeps its place', async () => {
  const { sent, enqueue, scheduler } = rig({ maxInFlight: 9 });
  enqueue(1, 2);
  void scheduler.enqueueSolo('alone');
  enqueue(3);
  assert.deepEqual(sent, [[1, 2], ['alone']], 'it does not wait for the end of the microtask');
  await settled();
  assert.deepEqual(sent, [[1, 2], ['alone'], [3]]);
  const off = rig({ enabled: false, maxInFlight: 9 });
  off.enqueue(1, 2);
  assert.deepEqual(off.sent, [[1], [2]]);
});

test('a window gathers what several turns bring, until it ends or the batch is full', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { sent, enqueue } = rig({ windowMs: 50, maxBatchSize: 3, maxInFlight: 9 });
  enqueue(1);
  await settled();
  t.mock.timers.tick(49);
  enqueue(2);
  await settled();
  assert.deepEqual(sent, []);
  t.mock.timers.tick(1);
  assert.deepEqual(sent, [[1, 2]], 'the window is that of the first item');
  enqueue(3, 4, 5, 6);
  assert.deepEqual(sent, [[1, 2], [3, 4, 5]]);
  t.mock.timers.tick(50);
  assert.deepEqual(sent.at(-1), [6]);
});

test('flush ends the window and waits for everything so far, failures too, but not for what comes later', async () => {
  const { sent, ends, enqueue, scheduler } = rig({ windowMs: 1e6 });
  await scheduler.flush();
  const [one] = enqueue(1);
  one.catch(() => {});
  const flushed = scheduler.flush();
  assert.deepEqual(sent, [[1]]);
  const [two] = enqueue(2);
  ends[0].reject(new Error('refused'));
  await flushed;
  void scheduler.flush();
  await settled();
  ends[1].resolve('done');
  assert.equal(await two, 'done');
  scheduler.dispose();
});

test('after dispose nothing hangs: what is under way ends, the rest is rejected with an Error', async () => {
  const { sent, ends, enqueue, scheduler } = rig({ maxBatchSize: 1 });
  const all = enqueue(1, 2);
  scheduler.dispose();
  scheduler.dispose();
  ends[0].resolve('done');
  const [first, second] = await outcomes(all);
  assert.equal(first, 'done');
  assert.match(second, /disposed: create another/);
  for (const late of [scheduler.enqueue(3), scheduler.enqueueSolo(4)]) {
    const error = await late.catch((thrown) => thrown);
    assert.equal(error.constructor, Error);
  }
  await scheduler.flush();
  assert.deepEqual(sent, [[1]]);
});

test('no timer outlives its window, so that a process can end', (t) => {
  const timers = new Set();
  t.mock.method(globalThis, 'setTimeout', () => {
    timers.add(timers.size);
    return timers.size - 1;
  });
  t.mock.method(globalThis, 'clearTimeout', (timer) => timers.delete(timer));
  for (const end of ['flush', 'dispose']) {
    const { enqueue, scheduler } = rig({ windowMs: 1e6 });
    enqueue(1)[0].catch(() => {});
    assert.equal(timers.size, 1);
    void scheduler[end]();
    assert.equal(timers.size, 0, end);
  }
});

test('limits that make no sense are named', () => {
  const make = (options) => () => createBatchScheduler({ dispatchBatch: async () => {} }, options);
  for (const options of [{ maxBatchSize: 0 }, { maxInFlight: NaN }, { windowMs: -1 }, { maxBatchCost: '9' }]) {
    const [[name, value]] = Object.entries(options);
    assert.throws(make(options), { name: 'RangeError', message: new RegExp(`^${name} .*${value}$`) });
  }
});
