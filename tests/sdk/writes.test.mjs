import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TASKS, makeClient, readyClient, sdk, task } from './support.mjs';

test('create fills in defaults and an id, and resolves to the row', async () => {
  const { ablo, core } = await readyClient();
  const promise = ablo.tasks.create({ data: { title: 'x', dueAt: new Date(0), projectId: undefined } });
  const { id, data, options } = core.written;
  assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.deepEqual(data, { title: 'x', dueAt: '1970-01-01T00:00:00.000Z', rank: 0, state: 'open' });
  assert.equal(options, undefined);
  assert.ok(ablo.tasks.get(id), 'visible in the next statement');
  assert.equal(await promise, ablo.tasks.get(id));
});

test('ids are made without randomUUID too', async () => {
  const { ablo, core } = await readyClient();
  const original = crypto.randomUUID;
  Object.defineProperty(crypto, 'randomUUID', { value: undefined, configurable: true });
  try {
    await ablo.tasks.create({ data: { title: 'x' } });
  } finally {
    Object.defineProperty(crypto, 'randomUUID', { value: original, configurable: true });
  }
  assert.match(core.written.id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test('base fields are dropped in silence, organizationId of a create is passed on', async () => {
  const { ablo, core } = await readyClient();
  const extra = { createdAt: new Date(), updatedAt: 'x', createdBy: 'me', archivedAt: null, organizationId: 'o9' };
  const framework = { __typename: 'Task', __class: 'Task', clientId: 't1', syncStatus: 'synced' };
  await ablo.tasks.create({ data: { id: 't1', title: 'x', ...extra, ...framework } });
  assert.equal(core.written.id, 't1');
  assert.deepEqual(Object.keys(core.written.data).sort(), ['organizationId', 'rank', 'state', 'title']);
  await ablo.tasks.update({ id: 't1', data: { id: 't1', rank: 3, ...extra, ...framework } });
  assert.deepEqual(core.written.data, { rank: 3 });
});

test('wrong data is refused before it crosses and names the field', async () => {
  const { ablo, core } = await readyClient([task('t1')]);
  const cycle = {};
  cycle.self = cycle;
  for (const [data, param, code = 'invalid_body'] of [
    [undefined, 'data'],
    [[], 'data'],
    [new Date(), 'data'],
    [{ titel: 'x' }, 'titel'],
    [{ __proto__x: 1 }, '__proto__x'],
    [JSON.parse('{"__proto__":{"a":1}}'), '__proto__'],
    [{ title: 7 }, 'title'],
    [{ title: null }, 'title', 'model_required_field_missing'],
    [{ rank: '7' }, 'rank'],
    [{ rank: Number.NaN }, 'rank'],
    [{ rank: Infinity }, 'rank'],
    [{ rank: 7n }, 'rank'],
    [{ state: 'closed' }, 'state'],
    [{ urgent: 'yes' }, 'urgent'],
    [{ dueAt: 'tomorrow' }, 'dueAt'],
    [{ dueAt: new Date('x') }, 'dueAt'],
    [{ dueAt: 17 }, 'dueAt'],
    [{ extra: { a: [1n] } }, 'extra'],
    [{ extra: () => {} }, 'extra'],
    [{ extra: { s: Symbol('s') } }, 'extra'],
    [{ extra: cycle }, 'extra'],
    [{ extra: [Number.NaN] }, 'extra'],
    [{ extra: new Map() }, 'extra'],
    [{ title: () => 'x' }, 'title'],
  ]) {
    await assert.rejects(ablo.tasks.update({ id: 't1', data }), { type: 'AbloValidationError', code, param });
  }
  assert.deepEqual(core.calls, []);
  await assert.rejects(ablo.tasks.create({ data: {} }), { code: 'model_required_field_missing', param: 'title' });
  await assert.rejects(ablo.tasks.update({ id: 't1', data: { titel: 'x' } }), /title, rank, state/);
  await ablo.tasks.update({ id: 't1', data: { urgent: null, extra: null, dueAt: '2026-01-01' } });
});

test('ids are checked', async () => {
  const { ablo } = await readyClient();
  for (const id of ['', 7, '\ud800', {}]) {
    await assert.rejects(ablo.tasks.create({ id, data: { title: 'x' } }), { code: 'invalid_id', param: 'id' });
    await assert.rejects(ablo.tasks.update({ id, data: {} }), { code: 'invalid_id' });
    await assert.rejects(ablo.tasks.delete({ id }), { code: 'invalid_id' });
  }
  await assert.rejects(ablo.tasks.delete({}), { code: 'invalid_id' });
});

test('write options are checked and passed on', async () => {
  const { ablo, core } = await readyClient([task('t1')]);
  const good = {
    wait: 'confirmed',
    readAt: 4,
    onStale: 'notify',
    idempotencyKey: 'k',
    label: 'l',
    claimRef: { id: 'c1' },
  };
  await ablo.tasks.update({ id: 't1', data: { rank: 2 }, ...good, causedByTaskId: null, claim: null });
  assert.deepEqual(core.written.options, { ...good, claimRef: 'c1' });
  for (const [param, value] of [
    ['wait', 'forever'],
    ['readAt', -1],
    ['readAt', 1.5],
    ['onStale', 'merge'],
    ['idempotencyKey', ''],
    ['idempotencyKey', 'x'.repeat(256)],
    ['label', 'x'.repeat(256)],
    ['claimRef', 7],
    ['reads', 'all'],
    ['ifClaimed', 'fail'],
  ]) {
    const call = ablo.tasks.update({ id: 't1', data: { rank: 2 }, [param]: value });
    await assert.rejects(call, { type: 'AbloValidationError', code: 'write_options_invalid', param }, param);
  }
  await assert.rejects(ablo.tasks.delete({ id: 't1', reads: [{ model: 'task' }] }), { param: 'reads.0' });
  await ablo.tasks.update({ id: 't1', data: { rank: 3 }, claim: { claimId: 'c2' } });
  assert.deepEqual(core.written.options, { claim: 'c2' });
  await assert.rejects(ablo.tasks.update({ id: 't1', data: {}, claim: 'c2' }), { code: 'write_options_invalid', param: 'claim' });
  assert.throws(() => sdk.assertWriteOptions({ wait: 'no' }, 'tickets write'), /tickets write: wait/);
  sdk.assertWriteOptions({ anything: 'else' });
});

test('what the core throws or answers gets its class', async () => {
  const { ablo, core } = await readyClient([task('t1')]);
  const missing = {
    class: 'AbloValidationError',
    code: 'entity_not_found',
    message: 'no task "t9"',
    retryable: false,
    param: 'id',
  };
  core.refuse.update = { thrown: missing };
  await assert.rejects(ablo.tasks.update({ id: 't9', data: { rank: 1 } }), (error) => {
    assert.ok(error instanceof sdk.AbloValidationError);
    assert.equal(error.code, 'entity_not_found');
    return true;
  });
  core.refuse.update = {
    error: { class: 'AbloStaleContextError', code: 'stale_context', message: 'changed', retryable: false },
  };
  await assert.rejects(
    ablo.tasks.update({ id: 't1', data: { rank: 1 }, wait: 'confirmed' }),
    sdk.AbloStaleContextError,
  );
});

test('a confirmed write of a row that is gone by then resolves to what it was', async () => {
  const { ablo, core } = await readyClient([task('t1')]);
  const release = core.hold();
  const promise = ablo.tasks.update({ id: 't1', data: { rank: 4 }, wait: 'confirmed' });
  core.remove(TASKS, 't1');
  release();
  assert.equal((await promise).rank, 4);
});

test('delete resolves to nothing', async () => {
  const { ablo } = await readyClient([task('t1')]);
  assert.equal(await ablo.tasks.delete({ id: 't1' }), undefined);
  assert.equal(ablo.tasks.get('t1'), undefined);
});

test('calls made before loading are made in order', async () => {
  const ablo = makeClient();
  const order = [];
  const first = ablo.tasks.create({ id: 't1', data: { title: 'x' } }).then(() => order.push('create'));
  const second = ablo.tasks.update({ id: 't1', data: { rank: 2 } }).then(() => order.push('update'));
  const third = ablo.tasks.retrieve({ id: 't1' }).then((row) => order.push(row.rank));
  await Promise.all([first, second, third]);
  assert.deepEqual(order, ['create', 'update', 2]);
});

test('commits are passed on, and refused where JSON would hide a mistake', async () => {
  const { ablo, core } = await readyClient();
  const operations = [
    { action: 'create', model: 'Task', data: { title: 'x', dueAt: new Date(0), rank: undefined } },
    { action: 'archive', target: { model: 'task', id: 't2' }, onStale: null },
  ];
  const receipt = await ablo.commits.create({
    operations,
    idempotencyKey: 'k1',
    readAt: 5,
    claim: null,
    claimRef: { id: 'c' },
  });
  assert.deepEqual(receipt, { id: 'k1', status: 'confirmed', lastSyncId: 7 });
  assert.ok(Object.isFrozen(receipt));
  const sent = JSON.parse(JSON.stringify(operations));
  assert.deepEqual(core.committed, { operations: sent, idempotencyKey: 'k1', readAt: 5, claimRef: 'c' });

  const operation = { action: 'delete', model: 'task', id: 't1' };
  for (const [options, code, param] of [
    [{ operation: { ...operation, data: { n: Number.NaN } } }, 'invalid_body', 'operation'],
    [{ operations: [operation, { ...operation, data: { n: 1n } }] }, 'invalid_body', 'operations.1'],
    [{ operation: { ...operation, extra: 1 } }, 'write_options_invalid', 'extra'],
    [{ operation, readAt: -1 }, 'write_options_invalid', 'readAt'],
    [{ operation, wait: 'soon' }, 'write_options_invalid', 'wait'],
    [{ operation, timeout: 5 }, 'write_options_invalid', 'timeout'],
    [{ operation, claim: { reason: 'x' } }, 'write_options_invalid', 'claim'],
    [undefined, 'write_options_invalid'],
  ]) {
    await assert.rejects(ablo.commits.create(options), (error) => {
      assert.deepEqual([error.type, error.code, error.param], ['AbloValidationError', code, param]);
      return true;
    });
  }
});
