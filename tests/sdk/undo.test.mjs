/** Undo and redo: the entry and the client as they are built, with a server. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Proxy } from './source-world.mjs';
import { listen, schema, sdk, Server, undoScope, until } from './undo-world.mjs';

const TITLE = 'Call back';
const titleOf = (ablo, id = 't1') => ablo.tasks.get(id)?.title;

/** A server, a client of Ada and a scope of hers that records everything. */
async function board(t, options = {}) {
  const server = await Server.start(t);
  const ada = await server.client('ada');
  const scope = undoScope(ada, 'board', { recordFromStream: true, ...options });
  const conflicts = listen((listener) => scope.onConflict(listener));
  return { server, ada, scope, conflicts };
}

test('an update is undone and redone, field by field, for everybody', async (t) => {
  const { server, ada, scope } = await board(t);
  const grace = await server.client('grace');
  assert.deepEqual(scope.size(), { undo: 0, redo: 0 });
  assert.equal(await scope.undo(), undefined);
  await ada.tasks.update({ id: 't1', data: { title: 'Call', rank: 5, projectId: null }, wait: 'confirmed' });
  assert.deepEqual([scope.canUndo(), scope.canRedo()], [true, false]);
  const undone = await scope.undo();
  assert.deepEqual(undone, { applied: 1, conflicts: [] });
  assert.ok(Object.isFrozen(undone) && Object.isFrozen(undone.conflicts));
  const { title, rank, projectId } = ada.tasks.get('t1');
  assert.deepEqual({ title, rank, projectId }, { title: TITLE, rank: 0, projectId: 'p1' });
  assert.deepEqual(scope.size(), { undo: 0, redo: 1 });
  await ada.waitForFlush();
  await until(grace, () => titleOf(grace) === TITLE && grace.tasks.get('t1').projectId === 'p1');
  assert.deepEqual(await scope.redo(), { applied: 1, conflicts: [] });
  await ada.waitForFlush();
  await until(grace, () => titleOf(grace) === 'Call' && grace.tasks.get('t1').projectId == null);
  assert.deepEqual(scope.size(), { undo: 1, redo: 0 });
});

test('a create is undone by a delete, and comes back as it was when it was undone', async (t) => {
  const { server, ada, scope } = await board(t);
  const { id } = await ada.tasks.create({ data: { title: 'New', projectId: 'p1' } });
  await ada.waitForFlush();
  const grace = await server.client('grace');
  await grace.tasks.update({ id, data: { rank: 9 }, wait: 'confirmed' });
  await until(ada, () => ada.tasks.get(id).rank === 9);
  await scope.undo();
  assert.equal(ada.tasks.get(id), undefined);
  await until(grace, () => grace.tasks.get(id) === undefined);
  await scope.redo();
  const { title, rank, projectId } = ada.tasks.get(id);
  assert.deepEqual({ title, rank, projectId }, { title: 'New', rank: 9, projectId: 'p1' });
  await until(grace, () => grace.tasks.get(id)?.rank === 9);
});

test('a create that was never sent is undone without a trace', async (t) => {
  const { ada, scope } = await board(t);
  ada.setOffline(true);
  await ada.tasks.create({ id: 't3', data: { title: 'Third' } });
  await ada.tasks.update({ id: 't3', data: { rank: 3 } });
  await scope.undo();
  await scope.undo();
  assert.deepEqual([ada.tasks.get('t3'), ada.status.pendingWrites], [undefined, 0]);
  await scope.redo();
  await scope.redo();
  assert.deepEqual([titleOf(ada, 't3'), ada.tasks.get('t3').rank], ['Third', 3]);
});

test('a delete is undone by a create with all fields', async (t) => {
  const { server, ada, scope } = await board(t);
  await ada.tasks.delete({ id: 't2', wait: 'confirmed' });
  await scope.undo();
  const { title, rank, done, projectId } = ada.tasks.get('t2');
  assert.deepEqual({ title, rank, done, projectId }, { title: 'Send the invoice', rank: 1, done: false, projectId: 'p1' });
  await ada.waitForFlush();
  const grace = await server.client('grace');
  assert.equal(titleOf(grace, 't2'), 'Send the invoice');
  await scope.redo();
  assert.equal(ada.tasks.get('t2'), undefined);
  await ada.waitForFlush();
  await until(grace, () => grace.tasks.get('t2') === undefined);
});

test('the writes of one microtask are one entry, and replays are none', async (t) => {
  const { ada, scope } = await board(t);
  const recorded = listen((listener) => scope.onRecord(listener));
  const sizes = listen((listener) => scope.onChange(listener));
  const writes = [
    ada.tasks.update({ id: 't1', data: { rank: 7 } }),
    ada.tasks.create({ id: 't3', data: { title: 'Third' } }),
    ada.tasks.delete({ id: 't2' }),
    ada.tasks.update({ id: 't1', data: { title: 'Call', rank: 7 } }),
  ];
  await Promise.all(writes);
  assert.equal(recorded.length, 1);
  assert.deepEqual(recorded[0].inverses, [
    { kind: 'update', modelKey: 'tasks', patch: { id: 't1', title: TITLE } },
    {
      kind: 'create',
      modelKey: 'tasks',
      data: { id: 't2', title: 'Send the invoice', done: false, rank: 1, projectId: 'p1' },
    },
    { kind: 'delete', modelKey: 'tasks', id: 't3' },
    { kind: 'update', modelKey: 'tasks', patch: { id: 't1', rank: 0 } },
  ]);
  assert.deepEqual(recorded[0].forwards, [
    { kind: 'update', modelKey: 'tasks', patch: { id: 't1', rank: 7 } },
    { kind: 'create', modelKey: 'tasks', data: { id: 't3', title: 'Third', done: false, rank: 0 } },
    { kind: 'delete', modelKey: 'tasks', id: 't2' },
    { kind: 'update', modelKey: 'tasks', patch: { id: 't1', title: 'Call' } },
  ]);
  await ada.tasks.update({ id: 't1', data: { done: true } });
  assert.equal(recorded.length, 2);
  await scope.undo();
  assert.equal((await scope.undo()).applied, 3);
  assert.deepEqual([titleOf(ada), ada.tasks.get('t1').rank, titleOf(ada, 't2')], [TITLE, 0, 'Send the invoice']);
  assert.equal(ada.tasks.get('t3'), undefined);
  await scope.redo();
  assert.deepEqual([titleOf(ada), ada.tasks.get('t1').rank, titleOf(ada, 't3')], ['Call', 7, 'Third']);
  await ada.waitForFlush();
  assert.equal(recorded.length, 2, 'a replay is not recorded');
  assert.deepEqual(sizes.at(-1), { undo: 1, redo: 1 });
  await ada.tasks.update({ id: 't1', data: { title: 'Call' } });
  assert.equal(recorded.length, 2, 'a write that changes nothing is none');
  await ada.tasks.update({ id: 't1', data: { title: 'Called' } });
  assert.deepEqual([recorded.length, scope.size()], [3, { undo: 2, redo: 0 }], 'a new write empties redo');
});

test('the operations of a commit are recorded, and archiving is not', async (t) => {
  const { ada, scope } = await board(t);
  await ada.commits.create({
    operations: [
      { action: 'update', model: 'Task', id: 't1', data: { title: 'One' } },
      { action: 'update', model: 'tasks', id: 't1', data: { title: 'Two' } },
      { action: 'create', target: { model: 'task', id: 't9' }, data: { title: 'Nine', done: false, rank: 0 } },
      { action: 'archive', model: 'Task', id: 't2' },
    ],
  });
  await until(ada, () => titleOf(ada, 't9') === 'Nine');
  assert.deepEqual(await scope.undo(), { applied: 2, conflicts: [] });
  assert.deepEqual([titleOf(ada), ada.tasks.get('t9')], [TITLE, undefined]);
  assert.ok(ada.tasks.get('t2').archivedAt instanceof Date);
  await ada.commits.create({ operation: { action: 'archive', model: 'Task', id: 't1' } });
  assert.equal(scope.canUndo(), false);
  const refused = { action: 'create', model: 'Task', id: 'p1', data: { title: 'Taken', done: false, rank: 0 } };
  await assert.rejects(ada.commits.create({ operation: refused }), { code: 'unique_violation' });
  assert.equal(scope.canUndo(), false);
});

test('a group is one entry, however many ticks it takes', async (t) => {
  const { ada, scope } = await board(t);
  const recorded = listen((listener) => scope.onRecord(listener));
  scope.beginGroup('drag');
  for (const rank of [1, 2, 3]) await ada.tasks.update({ id: 't1', data: { rank } });
  assert.equal(scope.canUndo(), false);
  scope.endGroup();
  assert.deepEqual([...recorded], [
    {
      label: 'drag',
      inverses: [{ kind: 'update', modelKey: 'tasks', patch: { id: 't1', rank: 0 } }],
      forwards: [{ kind: 'update', modelKey: 'tasks', patch: { id: 't1', rank: 3 } }],
    },
  ]);
  assert.deepEqual(await scope.undo(), { label: 'drag', applied: 1, conflicts: [] });
  assert.equal(ada.tasks.get('t1').rank, 0);
  scope.beginGroup('first');
  await ada.tasks.update({ id: 't1', data: { rank: 4 } });
  scope.beginGroup('second');
  await ada.tasks.update({ id: 't1', data: { rank: 5 } });
  // What is undone is what was done so far, the open group included.
  assert.equal((await scope.undo()).label, 'second');
  assert.equal((await scope.undo()).label, 'first');
  scope.endGroup('nothing to end');
  assert.deepEqual(scope.size(), { undo: 0, redo: 2 });
});

test('runRecorded records without recordFromStream, and only the models that are tracked', async (t) => {
  const { ada, scope } = await board(t, { recordFromStream: false, tracksModel: (key) => key === 'tasks' });
  await ada.tasks.update({ id: 't1', data: { rank: 1 } });
  assert.equal(scope.canUndo(), false);
  const result = await scope.runRecorded(async () => {
    await ada.tasks.update({ id: 't1', data: { rank: 2 } });
    await ada.projects.update({ id: 'p1', data: { name: 'Sales' } });
    await ada.tasks.update({ id: 't2', data: { rank: 3 } });
    return 'done';
  }, 'sort');
  assert.equal(result, 'done');
  const failing = scope.runRecorded(async () => {
    await ada.tasks.update({ id: 't1', data: { rank: 8 } });
    throw new Error('half way');
  });
  await assert.rejects(failing, /half way/);
  assert.deepEqual(await scope.undo(), { applied: 1, conflicts: [] });
  assert.deepEqual(await scope.undo(), { label: 'sort', applied: 2, conflicts: [] });
  assert.deepEqual([ada.tasks.get('t1').rank, ada.tasks.get('t2').rank, ada.projects.get('p1').name], [1, 1, 'Sales']);
});

test('a field that somebody else has changed since is left alone and told', async (t) => {
  const { server, ada, scope, conflicts } = await board(t);
  const grace = await server.client('grace');
  await ada.tasks.update({ id: 't1', data: { title: 'Ada', rank: 4 }, wait: 'confirmed' });
  await grace.tasks.update({ id: 't1', data: { title: 'Grace' }, wait: 'confirmed' });
  await until(ada, () => titleOf(ada) === 'Grace');
  const conflict = { modelKey: 'tasks', id: 't1', fields: ['title'], currentValues: { title: 'Grace' } };
  assert.deepEqual(await scope.undo(), { applied: 1, conflicts: [conflict] });
  assert.deepEqual([...conflicts], [conflict]);
  assert.deepEqual([titleOf(ada), ada.tasks.get('t1').rank], ['Grace', 0]);
  assert.deepEqual(await scope.redo(), { applied: 1, conflicts: [] });
  assert.deepEqual([titleOf(ada), ada.tasks.get('t1').rank], ['Grace', 4], 'redo does what undo did, no more');
  await ada.tasks.update({ id: 't2', data: { rank: 6 }, wait: 'confirmed' });
  await grace.tasks.delete({ id: 't2', wait: 'confirmed' });
  await until(ada, () => ada.tasks.get('t2') === undefined);
  const gone = { modelKey: 'tasks', id: 't2', fields: ['rank'], currentValues: {} };
  assert.deepEqual(await scope.undo(), { applied: 0, conflicts: [gone] });
  assert.deepEqual(scope.size(), { undo: 1, redo: 0 });
});

test('values are compared as a whole, whatever the order of their members', async (t) => {
  const { server, ada, scope } = await board(t);
  const grace = await server.client('grace');
  const layout = { x: 1, tags: ['a'] };
  for (const [theirs, ...outcome] of [
    [{ tags: ['a'], x: 1 }, 1, 0],
    [{ x: 1, tags: ['a', 'b'] }, 0, 1],
    [{ x: 1, tags: ['a'], y: null }, 0, 1],
    // That is what the undo would have made of it.
    [null, 0, 0],
  ]) {
    const isHere = (ablo, value) => JSON.stringify(ablo.tasks.get('t2').layout ?? null) === JSON.stringify(value);
    await ada.tasks.update({ id: 't2', data: { layout: null } });
    await ada.tasks.update({ id: 't2', data: { layout }, wait: 'confirmed' });
    await until(grace, () => isHere(grace, layout));
    await grace.tasks.update({ id: 't2', data: { layout: theirs }, wait: 'confirmed' });
    await until(ada, () => isHere(ada, theirs));
    const { applied, conflicts } = await scope.undo();
    assert.deepEqual([applied, conflicts.length], outcome);
    await ada.waitForFlush();
  }
});

test('the last writer wins when that is wanted', async (t) => {
  const { server, ada, scope, conflicts } = await board(t, { conflictPolicy: 'last-writer-wins' });
  const grace = await server.client('grace');
  await ada.tasks.update({ id: 't1', data: { title: 'Ada' }, wait: 'confirmed' });
  ada.setOffline(true);
  await grace.tasks.update({ id: 't1', data: { title: 'Grace' }, wait: 'confirmed' });
  await scope.undo();
  ada.setOffline(false);
  await until(grace, () => titleOf(grace) === TITLE);
  await ada.waitForFlush();
  await grace.tasks.update({ id: 't1', data: { title: 'Again' }, wait: 'confirmed' });
  await until(ada, () => titleOf(ada) === 'Again');
  assert.deepEqual(await scope.redo(), { applied: 1, conflicts: [] });
  assert.equal(titleOf(ada), 'Ada');
  assert.deepEqual([...conflicts], []);
});

test('an undo made offline does not overwrite what it could not see, and says so', async (t) => {
  const { server, ada, scope, conflicts } = await board(t);
  const grace = await server.client('grace');
  await ada.tasks.update({ id: 't1', data: { title: 'Ada', rank: 4 }, wait: 'confirmed' });
  ada.setOffline(true);
  await grace.tasks.update({ id: 't1', data: { title: 'Grace' }, wait: 'confirmed' });
  assert.deepEqual(await scope.undo(), { applied: 1, conflicts: [] });
  assert.deepEqual([titleOf(ada), ada.tasks.get('t1').rank], [TITLE, 0], 'it shows at once');
  ada.setOffline(false);
  assert.deepEqual(await conflicts.next(), {
    modelKey: 'tasks',
    id: 't1',
    fields: ['title'],
    currentValues: { title: 'Grace' },
    writtenBy: { kind: 'user', id: 'grace' },
  });
  await ada.waitForFlush();
  // The rank was hers all along, so that much of the undo was made again.
  await until(grace, () => grace.tasks.get('t1').rank === 0);
  assert.deepEqual([titleOf(ada), titleOf(grace), conflicts.length], ['Grace', 'Grace', 1]);
  assert.deepEqual(await scope.redo(), { applied: 1, conflicts: [] });
  assert.deepEqual([titleOf(ada), ada.tasks.get('t1').rank], ['Grace', 4]);
});

test('a row that somebody else has written to meanwhile is not deleted by an undo', async (t) => {
  const { server, ada, scope, conflicts } = await board(t);
  const grace = await server.client('grace');
  await ada.tasks.create({ id: 't3', data: { title: 'Third' }, wait: 'confirmed' });
  await until(grace, () => grace.tasks.get('t3') !== undefined);
  ada.setOffline(true);
  await grace.tasks.update({ id: 't3', data: { rank: 2 }, wait: 'confirmed' });
  await scope.undo();
  assert.equal(ada.tasks.get('t3'), undefined);
  ada.setOffline(false);
  const { fields, currentValues, writtenBy } = await conflicts.next();
  assert.deepEqual({ fields, currentValues, writtenBy: writtenBy.id }, { fields: ['rank'], currentValues: { rank: 2 }, writtenBy: 'grace' });
  await ada.waitForFlush();
  await until(ada, () => ada.tasks.get('t3')?.rank === 2);
  assert.deepEqual(scope.size(), { undo: 0, redo: 0 }, 'nothing is left to redo');
});

test('what was never sent when it was undone is undone, whatever came between', async (t) => {
  const { server, ada, scope, conflicts } = await board(t);
  const grace = await server.client('grace');
  const refused = listen((listener) => ada.on('write:rejected', listener));
  ada.setOffline(true);
  await ada.tasks.update({ id: 't1', data: { title: 'One' } });
  await ada.tasks.update({ id: 't1', data: { title: 'Two' } });
  await grace.tasks.update({ id: 't1', data: { title: 'Grace' }, wait: 'confirmed' });
  assert.equal((await scope.undo()).applied, 1);
  assert.equal((await scope.undo()).applied, 1);
  assert.equal(titleOf(ada), TITLE);
  ada.setOffline(false);
  // Her first write was the last one of the title, so what she has undone is her own.
  await until(grace, () => titleOf(grace) === TITLE);
  await ada.waitForFlush();
  assert.deepEqual([titleOf(ada), conflicts.length, scope.size()], [TITLE, 0, { undo: 0, redo: 2 }]);
  const fields = refused.map(({ transaction }) => transaction.data.title);
  assert.deepEqual(fields, ['One', TITLE], 'only what the server held back was refused');
  await scope.redo();
  assert.equal((await scope.redo()).applied, 1);
  assert.equal(titleOf(ada), 'Two');
});

/** A client of Ada behind a proxy, with a write that the server has and of which she has not heard. */
async function unheard(t, write = (ada) => ada.tasks.update({ id: 't1', data: { title: 'Ada' } }), id = 't1') {
  const server = await Server.start(t);
  const grace = await server.client('grace');
  const proxy = await Proxy.start(t, server);
  const ada = await server.client('ada', { baseURL: proxy.url });
  const scope = undoScope(ada, 'board', { recordFromStream: true });
  const conflicts = listen((listener) => scope.onConflict(listener));
  proxy.rewrite = () => Buffer.alloc(0);
  await write(ada);
  await until(grace, () => titleOf(grace, id) === 'Ada');
  ada.setOffline(true);
  proxy.rewrite = (chunk) => chunk;
  return { ada, grace, scope, conflicts };
}

test('what only the client itself has changed is no conflict', async (t) => {
  const { ada, grace, scope, conflicts } = await unheard(t);
  const notified = listen((listener) => ada.on('conflict:notified', listener));
  await scope.undo();
  ada.setOffline(false);
  await until(grace, () => titleOf(grace) === TITLE);
  await ada.waitForFlush();
  assert.equal(notified.length, 1, 'the server has held it back once');
  assert.deepEqual([titleOf(ada), conflicts.length, scope.size()], [TITLE, 0, { undo: 0, redo: 1 }]);
});

test('nor is a row that nobody else has touched since the client made it', async (t) => {
  const create = (ada) => ada.tasks.create({ id: 't3', data: { title: 'Ada' } });
  const { ada, grace, scope, conflicts } = await unheard(t, create, 't3');
  const notified = listen((listener) => ada.on('conflict:notified', listener));
  await scope.undo();
  ada.setOffline(false);
  await until(grace, () => grace.tasks.get('t3') === undefined);
  await ada.waitForFlush();
  assert.deepEqual([notified.length, conflicts.length, scope.size()], [1, 0, { undo: 0, redo: 1 }]);
});

test('of an undo and a redo that are both held back, the last one counts', async (t) => {
  const { ada, grace, scope, conflicts } = await unheard(t);
  await scope.undo();
  await scope.redo();
  await ada.tasks.update({ id: 't2', data: { title: 'Marker' } });
  ada.setOffline(false);
  await until(grace, () => titleOf(grace, 't2') === 'Marker');
  await ada.waitForFlush();
  assert.deepEqual([titleOf(ada), titleOf(grace), conflicts.length], ['Ada', 'Ada', 0]);
});

test('an entry that would be too big is several', async (t) => {
  const { ada, scope } = await board(t, { recordFromStream: false });
  ada.setOffline(true);
  const rows = (from, count) => Array.from({ length: count }, (_, at) => ({ id: `row${from + at}`, title: 'Many' }));
  await scope.runRecorded(() => Promise.all(rows(0, 10_001).map(({ id, ...data }) => ada.tasks.create({ id, data }))));
  assert.equal(scope.size().undo, 2);
  assert.equal((await scope.undo()).applied, 1);
  assert.equal((await scope.undo()).applied, 10_000);
  scope.beginGroup();
  const op = (data) => ({ kind: 'createMany', modelKey: 'tasks', data });
  scope.record({ inverses: [], forwards: [op(rows(0, 6000))] });
  scope.record({ inverses: [], forwards: [op(rows(6000, 4001))] });
  scope.endGroup();
  assert.equal(scope.size().undo, 2);
});

test('the history has an end', async (t) => {
  const { ada, scope } = await board(t, { maxHistory: 2 });
  for (const rank of [1, 2, 3]) await ada.tasks.update({ id: 't1', data: { rank } });
  assert.deepEqual(scope.size(), { undo: 2, redo: 0 });
  while (scope.canUndo()) await scope.undo();
  assert.equal(ada.tasks.get('t1').rank, 1);
  scope.clear();
  assert.deepEqual([scope.size(), await scope.redo()], [{ undo: 0, redo: 0 }, undefined]);
});

test('what the server refuses is no longer in the history', async (t) => {
  const server = await Server.start(t);
  const lin = await server.client('lin');
  const scope = undoScope(lin, 'board', { recordFromStream: true });
  const refused = listen((listener) => lin.on('write:rejected', listener));
  await Promise.all([
    lin.tasks.update({ id: 't1', data: { title: 'Mine' } }),
    lin.projects.update({ id: 'p1', data: { name: 'Sales' } }),
  ]);
  await lin.tasks.update({ id: 't2', data: { rank: 8 } });
  assert.deepEqual(scope.size(), { undo: 2, redo: 0 });
  assert.equal((await refused.next()).transaction.modelId, 't1');
  assert.equal((await refused.next()).transaction.modelId, 't2');
  assert.deepEqual(scope.size(), { undo: 1, redo: 0 });
  assert.deepEqual(await scope.undo(), { applied: 1, conflicts: [] });
  assert.deepEqual([titleOf(lin), lin.projects.get('p1').name], [TITLE, 'Support']);
  const recorded = listen((listener) => scope.onRecord(listener));
  scope.beginGroup();
  await lin.tasks.update({ id: 't1', data: { title: 'Still mine' } });
  await lin.projects.update({ id: 'p1', data: { name: 'Shipping' } });
  assert.equal((await refused.next()).transaction.modelId, 't1');
  scope.endGroup();
  assert.deepEqual(recorded[0].forwards, [{ kind: 'update', modelKey: 'projects', patch: { id: 'p1', name: 'Shipping' } }]);
  assert.deepEqual(await scope.undo(), { applied: 1, conflicts: [] });
  // An undo that is refused: the row is gone again, and there is nothing to redo.
  await lin.tasks.delete({ id: 't2', wait: 'confirmed' });
  await scope.undo();
  assert.deepEqual([titleOf(lin, 't2'), scope.size()], ['Send the invoice', { undo: 0, redo: 1 }]);
  assert.equal((await refused.next()).transaction.type, 'create');
  assert.deepEqual([lin.tasks.get('t2'), scope.size()], [undefined, { undo: 0, redo: 0 }]);
});

test('replays run one after another, in the order of the calls', async (t) => {
  const { ada, scope } = await board(t);
  for (const [label, rank] of [['a', 1], ['b', 2], ['c', 3]]) {
    scope.beginGroup(label);
    await ada.tasks.update({ id: 't1', data: { rank } });
    scope.endGroup();
  }
  const steps = [];
  scope.onChange(({ undo, redo }) => steps.push([undo, redo, ada.tasks.get('t1').rank]));
  const labels = ['undo', 'undo', 'redo', 'undo'].map(async (verb) => (await scope[verb]())?.label);
  assert.equal(ada.tasks.get('t1').rank, 2, 'the first one writes before its call returns');
  scope.record({
    label: 'd',
    forwards: [{ kind: 'update', modelKey: 'tasks', patch: { id: 't2', rank: 9 } }],
    inverses: [{ kind: 'update', modelKey: 'tasks', patch: { id: 't2', rank: 1 } }],
  });
  labels.push(scope.redo());
  assert.equal(steps.length, 1, 'the others wait, and so does what is recorded');
  assert.deepEqual(await Promise.all(labels), ['c', 'b', 'b', 'b', undefined]);
  assert.deepEqual(steps, [[2, 1, 2], [1, 2, 1], [2, 1, 2], [1, 2, 1], [2, 0, 1]]);
});

test('an undo that fails leaves everything as it was', async (t) => {
  const { ada, scope } = await board(t);
  const big = 'x'.repeat(8 << 20);
  const update = (id, title) => ({ kind: 'update', modelKey: 'tasks', patch: { id, title } });
  scope.record({
    label: 'big',
    inverses: [update('t1', 'Changed'), update('t2', big)],
    forwards: [update('t2', 'Send the invoice'), update('t1', TITLE)],
  });
  await assert.rejects(scope.undo(), { code: 'write_too_large' });
  assert.deepEqual([titleOf(ada), titleOf(ada, 't2'), scope.size()], [TITLE, 'Send the invoice', { undo: 1, redo: 0 }]);
  await ada.tasks.update({ id: 't1', data: { rank: 3 } });
  assert.equal((await scope.undo()).applied, 1, 'the next one works');
  await assert.rejects(scope.undo(), { code: 'write_too_large' });
  await ada.dispose();
  await assert.rejects(scope.undo(), { code: 'client_disposed' });
  assert.equal(scope.canUndo(), true);
});

test('entries of an application are replayed as they are, all kinds of them', async (t) => {
  const { ada, scope } = await board(t, { recordFromStream: false });
  const rows = ['a', 'b'].map((id) => ({ id, title: `Task ${id}` }));
  scope.record({
    label: 'import',
    inverses: [
      { kind: 'deleteMany', modelKey: 'tasks', ids: ['b', 'a'] },
      { kind: 'create', modelKey: 'projects', data: { id: 'p2', name: 'Old' } },
      { kind: 'updateMany', modelKey: 'tasks', patches: [{ id: 't1', rank: 0 }, { id: 't2', rank: 1 }] },
    ],
    forwards: [
      { kind: 'updateMany', modelKey: 'tasks', patches: [{ id: 't1', rank: 10 }, { id: 't2', rank: 11 }] },
      { kind: 'delete', modelKey: 'projects', id: 'p2' },
      { kind: 'createMany', modelKey: 'tasks', data: rows },
    ],
  });
  await ada.tasks.create({ id: 'a', data: rows[0] });
  await ada.tasks.update({ id: 't1', data: { rank: 10 } });
  await ada.tasks.update({ id: 't2', data: { rank: 11 } });
  // b was never there: there is nothing to delete.
  assert.deepEqual(await scope.undo(), { label: 'import', applied: 4, conflicts: [] });
  assert.deepEqual([ada.tasks.get('a'), ada.projects.get('p2').name], [undefined, 'Old']);
  assert.deepEqual([ada.tasks.get('t1').rank, ada.tasks.get('t2').rank], [0, 1]);
  assert.equal((await scope.redo()).applied, 4);
  assert.deepEqual([titleOf(ada, 'a'), ada.projects.get('p2'), ada.tasks.get('t2').rank], ['Task a', undefined, 11]);
});

test('an entry that is none is refused, with the place and the remedy', async (t) => {
  const { ada, scope } = await board(t);
  const op = { kind: 'update', modelKey: 'tasks', patch: { id: 't1', rank: 1 } };
  const inverse = (change) => ({ inverses: [{ ...op, ...change }], forwards: [op] });
  for (const [entry, param, message] of [
    [undefined, 'entry', /got undefined/],
    [{ inverses: [op] }, 'forwards', /a list of operations, got undefined/],
    [{ inverses: [op], forwards: [op], extra: 1 }, 'entry', /"extra"/],
    [{ inverses: [op], forwards: [op], label: 7 }, 'label', /got 7/],
    [inverse({ kind: 'move' }), 'inverses.0.kind', /create, update, delete.*got "move"/],
    [inverse({ modelKey: 'task' }), 'inverses.0.modelKey', /projects, tasks, got "task"/],
    [inverse({ modelKey: 'toString' }), 'inverses.0.modelKey'],
    [inverse({ patch: undefined }), 'inverses.0.patch'],
    [inverse({ patch: { rank: 1 } }), 'inverses.0.patch', /id/],
    [inverse({ patch: { id: 't1', rnk: 1 } }), 'inverses.0.patch', /unknown field "rnk"/],
    [inverse({ patch: { id: 't1', rank: '1' } }), 'inverses.0.patch', /rank.*a number/],
    [inverse({ kind: 'create', data: { id: 't1' } }), 'inverses.0.data', /title/],
    [inverse({ kind: 'delete', id: '' }), 'inverses.0.id'],
    [inverse({ kind: 'deleteMany', ids: 't1' }), 'inverses.0.ids', /a list/],
    [inverse({ kind: 'updateMany', patches: [op.patch, null] }), 'inverses.0.patches.1'],
    [inverse({ kind: 'deleteMany', ids: Array(10_001).fill('t1') }), 'inverses', /10000/],
  ]) {
    assert.throws(() => scope.record(entry), (error) => {
      assert.ok(error instanceof sdk.AbloValidationError);
      assert.deepEqual([error.code, error.param], ['undo_entry_invalid', param]);
      if (message) assert.match(error.message, message);
      return true;
    });
  }
  assert.equal(scope.canUndo(), false);
  for (const [options, param] of [
    [{ maxHistory: 0 }, 'maxHistory'],
    [{ conflictPolicy: 'ask' }, 'conflictPolicy'],
    [{ recordFromStream: 1 }, 'recordFromStream'],
    [{ tracksModel: 'tasks' }, 'tracksModel'],
    [{ persist: 'yes' }, 'persist'],
    [{ history: 5 }, 'history'],
    [7, 'options'],
  ]) {
    assert.throws(() => undoScope(ada, 'other', options), { code: 'invalid_options', param });
  }
  assert.throws(() => undoScope(ada, ''), { param: 'name' });
  assert.throws(() => undoScope({}, 'board'), { param: 'ablo' });
  const stateless = sdk.Ablo({ schema, transport: 'http', apiKey: 'rk_1' });
  assert.throws(() => undoScope(stateless, 'board'), { param: 'ablo', type: 'AbloValidationError' });
  assert.throws(() => scope.onChange(), { param: 'listener' });
  await assert.rejects(scope.runRecorded('work'), { param: 'work' });
});

test('what fails in a function of the application disturbs neither writes nor the history', async (t) => {
  const reported = [];
  globalThis.reportError = ({ message }) => reported.push(message);
  t.after(() => delete globalThis.reportError);
  const tracksModel = (modelKey) => {
    if (modelKey === 'projects') throw new Error('tracksModel');
    return true;
  };
  const { ada, scope } = await board(t, { tracksModel });
  assert.equal((await ada.projects.update({ id: 'p1', data: { name: 'Sales' } })).name, 'Sales');
  const nonsense = [null, { action: 'update', model: 'Task', id: 't1', data: 'text' }, { action: 'update', model: 'Task' }];
  await assert.rejects(ada.commits.create({ operations: nonsense }), { type: 'AbloValidationError' });
  assert.deepEqual([reported, scope.canUndo()], [['tracksModel'], false]);
  scope.onRecord(() => {
    throw new Error('onRecord');
  });
  const stop = scope.onChange(() => {
    stop();
    // What a listener asks for comes after what it is told of.
    void scope.redo();
    void scope.undo();
  });
  await ada.tasks.update({ id: 't1', data: { rank: 1 } });
  assert.deepEqual([reported.at(-1), ada.tasks.get('t1').rank, scope.size()], ['onRecord', 0, { undo: 0, redo: 1 }]);
});

test('what is queued when everything is forgotten is forgotten too', async (t) => {
  const { ada, scope } = await board(t);
  await ada.tasks.update({ id: 't1', data: { rank: 1 } });
  const undone = scope.undo();
  scope.record({ inverses: [], forwards: [{ kind: 'delete', modelKey: 'tasks', id: 't2' }] });
  scope.clear();
  await undone;
  assert.deepEqual(scope.size(), { undo: 0, redo: 0 });
  await ada.tasks.update({ id: 't1', data: { rank: 2 } });
  const failing = scope.undo();
  await ada.purge();
  await failing.catch(() => undefined);
  assert.deepEqual(scope.size(), { undo: 0, redo: 0 });
});

test('a scope is shared by name until it is disposed of', async (t) => {
  const { server, ada, scope } = await board(t);
  assert.equal(undoScope(ada, 'board', { maxHistory: 1 }), scope);
  const other = undoScope(ada, 'other', { recordFromStream: true });
  await ada.tasks.update({ id: 't1', data: { rank: 1 } });
  await ada.tasks.update({ id: 't1', data: { rank: 2 } });
  assert.deepEqual([scope.size().undo, other.size().undo], [2, 2], 'the options of the first count');
  await scope.undo();
  assert.deepEqual([scope.size().undo, other.size().undo], [1, 2], 'no scope records a replay');
  assert.notEqual(undoScope(await server.client('ada'), 'board'), scope);
  scope.dispose();
  await ada.tasks.update({ id: 't1', data: { rank: 3 } });
  assert.deepEqual([scope.size(), other.size().undo], [{ undo: 0, redo: 0 }, 3]);
  await assert.rejects(scope.undo(), { code: 'invalid_options', message: /"board" was disposed/ });
  assert.notEqual(undoScope(ada, 'board'), scope);
});

/** What a page has as `sessionStorage`. */
function makeStorage(t, { quota = Infinity } = {}) {
  const items = new Map();
  const storage = {
    items,
    get length() {
      return items.size;
    },
    key: (at) => [...items.keys()][at] ?? null,
    getItem: (key) => items.get(key) ?? null,
    setItem(key, value) {
      if (value.length > quota) throw new DOMException('full', 'QuotaExceededError');
      items.set(key, value);
    },
    removeItem: (key) => void items.delete(key),
  };
  Object.defineProperty(globalThis, 'sessionStorage', { value: storage, configurable: true });
  t.after(() => delete globalThis.sessionStorage);
  return storage;
}

/** Resolves when a scope has this many entries. */
const sized = (scope, undo) =>
  new Promise((resolve) => {
    const check = () => scope.size().undo === undo && resolve();
    scope.onChange(check);
    check();
  });
/** Resolves when the storage is as it should be. */
async function stored(isSo) {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve));
}

const OPTIONS = { recordFromStream: true, persist: true };

test('a history survives a reload, for whoever made it', async (t) => {
  const storage = makeStorage(t);
  const server = await Server.start(t);
  const before = await server.client('ada');
  const scope = undoScope(before, 'board', OPTIONS);
  await before.tasks.update({ id: 't1', data: { title: 'One' } });
  await before.tasks.update({ id: 't1', data: { title: 'Two' } });
  await before.waitForFlush();
  await scope.undo();
  await before.waitForFlush();
  await stored(() => storage.items.size === 1);
  await before.dispose();
  const [[key, text]] = storage.items;
  assert.match(key, /^ablo-undo:[0-9a-f]{64}$/);
  assert.deepEqual(JSON.parse(text).undo.length, 1);

  const other = await server.client('grace');
  const theirs = undoScope(other, 'board', OPTIONS);
  await other.tasks.update({ id: 't2', data: { rank: 5 } });
  await stored(() => storage.items.size === 2);
  assert.deepEqual(theirs.size(), { undo: 1, redo: 0 }, 'of another login');
  assert.equal(storage.items.get(key), text);

  const after = server.make('ada');
  const again = undoScope(after, 'board', OPTIONS);
  assert.equal(again.canUndo(), false);
  await after.ready();
  await sized(again, 1);
  assert.deepEqual(again.size(), { undo: 1, redo: 1 });
  assert.equal((await again.redo()).applied, 1);
  assert.equal(titleOf(after), 'Two');
  await again.undo();
  await again.undo();
  assert.equal(titleOf(after), TITLE);
  again.clear();
  assert.deepEqual([...storage.items.keys()].includes(key), false);
});

test('nothing of a history is left after purge, and after the end of the login', async (t) => {
  const storage = makeStorage(t);
  const server = await Server.start(t);
  const endLogin = async (ablo) => {
    const ended = listen((listener) => ablo.on('session:ended', listener));
    await server.faults({ endLogin: 'ek_test_ada' });
    await ended.next();
    await server.faults({ reset: true });
  };
  for (const [title, end] of Object.entries({ One: (ablo) => ablo.purge(), Two: endLogin })) {
    const ablo = await server.client('ada');
    const scope = undoScope(ablo, 'board', OPTIONS);
    await ablo.tasks.update({ id: 't1', data: { title } });
    await stored(() => storage.items.size === 1);
    await end(ablo);
    assert.deepEqual([storage.items.size, scope.size().undo], [0, 0]);
  }
  storage.items.set('ablo-undo:unknown', '{}');
  storage.items.set('theirs', '{}');
  const early = server.make('ada');
  undoScope(early, 'board', OPTIONS);
  await early.purge();
  assert.deepEqual([...storage.items.keys()], ['theirs'], 'before it is known who is signed in, all go');
});

test('what is stored is bounded and checked', async (t) => {
  const storage = makeStorage(t);
  const server = await Server.start(t);
  const ablo = await server.client('ada');
  const scope = undoScope(ablo, 'board', OPTIONS);
  for (const mark of ['a', 'b', 'c']) await ablo.tasks.update({ id: 't1', data: { title: mark.repeat(60_000) } });
  await ablo.waitForFlush();
  assert.equal(scope.size().undo, 3);
  await stored(() => storage.items.size === 1);
  const [[key, text]] = storage.items;
  assert.ok(text.length * 2 <= 512 * 1024);
  // Each entry has two titles, but the first a short one; the oldest did not fit.
  const { undo } = JSON.parse(text);
  assert.deepEqual(undo.map(({ forwards }) => forwards[0].patch.title[0]), ['b', 'c']);
  await ablo.dispose();

  const good = undo.at(-1);
  const bad = { ...good, inverses: [{ ...good.inverses[0], modelKey: 'passwords' }] };
  for (const wrong of [
    '',
    'null',
    '[]',
    '{"version":2,"undo":[],"redo":[]}',
    JSON.stringify({ version: 1, undo: [good, bad], redo: [] }),
    JSON.stringify({ version: 1, undo: [good], redo: {} }),
    JSON.stringify({ version: 1, undo: [], redo: [], pad: 'x'.repeat(512 * 1024) }),
  ]) {
    storage.items.set(key, wrong);
    const next = server.make('ada');
    const problems = listen((listener) => next.on('storage:problem', listener));
    const restored = undoScope(next, 'board', OPTIONS);
    await next.ready();
    const { error } = await problems.next();
    assert.equal(error.code, 'storage_record_unreadable');
    await stored(() => storage.items.size === 0);
    assert.deepEqual(restored.size(), { undo: 0, redo: 0 });
    await next.dispose();
  }
});

test('storage that is full, missing or not allowed is no secret', async (t) => {
  const server = await Server.start(t);
  const ablo = await server.client('ada');
  const persist = () => undoScope(ablo, 'board', OPTIONS);
  assert.throws(persist, { type: 'AbloValidationError', code: 'storage_unavailable', param: 'persist' });
  const storage = makeStorage(t, { quota: 100 });
  const problems = listen((listener) => ablo.on('storage:problem', listener));
  const scope = persist();
  await ablo.tasks.update({ id: 't1', data: { title: 'One' } });
  assert.equal((await problems.next()).error.code, 'storage_quota_exceeded');
  assert.deepEqual([storage.items.size, scope.size().undo], [0, 1]);
  const secret = server.make('ada', { encryption: { key: 'device' } });
  assert.throws(() => undoScope(secret, 'board', { persist: true }), { code: 'invalid_options', param: 'persist' });
});
