// Outbox, storage and purge as the SDK offers them, with a stand-in for the core.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { makeClient, page, readyClient, schema, sdk, settled } from './support.mjs';

const UPDATE = { type: 'UPDATE', model: 'task', id: 't1', input: { title: 'secret' }, transactionId: 'tx_1' };
const sent = { id: 'c1', stage: 'sent', operations: [UPDATE], attempts: 1, createdAt: 5 };
const refusal = { class: 'AbloPermissionError', code: 'forbidden', message: 'no secret', retryable: false };
const refused = {
  ...{ id: 'l1', stage: 'rejected', operations: [{ type: 'DELETE', model: 'task', id: 't2' }], attempts: 2 },
  ...{ createdAt: 6, error: refusal, currentValues: { id: 't2', extra: { deep: [1] } } },
};

/** A client whose core has these entries in its outbox. */
async function withOutbox(...entries) {
  const { ablo, core } = await readyClient([], { persistence: 'indexeddb' });
  core.entries = entries;
  core.host.status();
  return { ablo, core };
}

function isDeeplyFrozen(value) {
  if (typeof value !== 'object' || value === null || value instanceof Date || value instanceof Error) return true;
  return Object.isFrozen(value) && Object.values(value).every(isDeeplyFrozen);
}

/** Puts something in the place of `navigator.storage` for the length of a test. */
function lend(t, storage) {
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  Object.defineProperty(globalThis, 'navigator', { value: { storage }, configurable: true });
  t.after(() => {
    delete globalThis.navigator;
    if (before) Object.defineProperty(globalThis, 'navigator', before);
  });
}

test('the outbox lists what the core has, frozen', async () => {
  const { ablo } = await withOutbox(sent, refused);
  const [first, second] = ablo.outbox.list();
  const operation = { action: 'update', model: 'task', id: 't1', transactionId: 'tx_1', data: { title: 'secret' } };
  assert.deepEqual(first, { ...sent, operations: [operation], createdAt: new Date(5) });
  assert.ok(second.error instanceof sdk.AbloPermissionError && second.error.code === 'forbidden');
  assert.deepEqual(second.operations, [{ action: 'delete', model: 'task', id: 't2' }]);
  assert.ok(isDeeplyFrozen(ablo.outbox.list()));
  assert.deepEqual(ablo.outbox.list({ stage: 'rejected' }), [second]);
  assert.equal(ablo.outbox.get('c1'), first);
  assert.equal(ablo.outbox.get('c2'), undefined);
});

test('the outbox is one array until something in it changes, and tells once when it does', async () => {
  const { ablo, core } = await withOutbox(sent);
  const before = ablo.outbox.list();
  const told = [];
  const stop = ablo.outbox.onChange((entries) => told.push(entries));
  core.host.status();
  await settled();
  assert.equal(ablo.outbox.list(), before);
  assert.deepEqual(told, []);
  core.entries = [];
  core.host.status();
  core.host.status();
  await settled();
  assert.deepEqual(told, [[]]);
  stop();
  core.entries = [sent];
  core.host.status();
  await settled();
  assert.equal(told.length, 1);
  assert.throws(() => ablo.outbox.onChange(), { code: 'invalid_options', param: 'listener' });
});

test('before the core is there the outbox is empty', () => {
  const before = page.cores.length;
  assert.deepEqual(makeClient().outbox.list(), []);
  assert.equal(page.cores.length, before);
});

test('refused writes are retried, edited and discarded by their id', async () => {
  const { ablo, core } = await withOutbox(refused);
  await ablo.outbox.retry('l1');
  assert.deepEqual(core.retried, { id: 'l1', data: undefined });
  await ablo.outbox.edit('l1', { title: 'y', dueAt: new Date(0) });
  assert.deepEqual(core.retried, { id: 'l1', data: { title: 'y', dueAt: '1970-01-01T00:00:00.000Z' } });
  await assert.rejects(ablo.outbox.edit('l1', { rank: NaN }), { code: 'invalid_body', param: 'data' });
  await ablo.outbox.discard('l1');
  assert.equal(core.discarded, 'l1');
  const thrown = { class: 'AbloValidationError', code: 'entity_not_found', message: 'x', param: 'id' };
  core.refuse.discard = { thrown };
  await assert.rejects(ablo.outbox.discard('l1'), { code: 'entity_not_found', param: 'id' });
});

test('purge deletes before it ends the client; in memory there is nothing to delete', async () => {
  const { ablo, core } = await withOutbox();
  core.calls.length = 0;
  await Promise.all([ablo.purge(), ablo.purge()]);
  assert.deepEqual(core.calls, ['purge', 'dispose']);
  await assert.rejects(ablo.ready().then(() => ablo.waitForFlush()), { code: 'client_disposed' });
  const memory = await readyClient();
  await memory.ablo.purge();
  assert.deepEqual(memory.core.calls, ['dispose']);
});

test('persistence reaches the core, under its old name too', async () => {
  const warnings = [];
  const logger = { warn: (message) => warnings.push(message) };
  const { core } = await readyClient([], { persistence: 'indexeddb', logger });
  assert.equal(core.config.persistence, 'indexeddb');
  assert.deepEqual(warnings, []);
  const old = await readyClient([], { offline: true, logger });
  assert.equal(old.core.config.persistence, 'indexeddb');
  assert.match(warnings.join(), /deprecated/);
  assert.throws(() => sdk.Ablo({ schema, persistence: 'disk' }), { code: 'invalid_options', param: 'persistence' });
});

test('trouble with the storage is an error in the status', async () => {
  const { ablo, core } = await withOutbox();
  assert.deepEqual(ablo.status.storage, { persisted: false });
  core.problem = { class: 'AbloError', code: 'storage_quota_exceeded', message: 'full', retryable: false };
  core.host.status();
  const { problem } = ablo.status.storage;
  assert.ok(problem instanceof sdk.AbloError && problem.code === 'storage_quota_exceeded');
  assert.ok(Object.isFrozen(ablo.status.storage));
});

test('what the browser says of its storage is in the status from then on', async (t) => {
  const { ablo } = await withOutbox();
  lend(t, undefined);
  await assert.rejects(ablo.storage.estimate(), { code: 'storage_unavailable' });
  await assert.rejects(ablo.storage.persist(), { code: 'storage_unavailable' });
  const manager = {
    granted: false,
    persisted: async () => manager.granted,
    persist: async () => (manager.granted = true),
    estimate: async () => ({ usage: 10, quota: 1000 }),
  };
  lend(t, manager);
  const told = [];
  ablo.onStatus(({ storage }) => told.push(storage));
  assert.deepEqual(await ablo.storage.estimate(), { persisted: false, usage: 10, quota: 1000 });
  assert.equal(await ablo.storage.persist(), true);
  assert.deepEqual(ablo.status.storage, { persisted: true, usage: 10, quota: 1000 });
  await settled();
  assert.deepEqual(told.at(-1), ablo.status.storage);
  manager.estimate = () => Promise.reject(new TypeError('no'));
  await assert.rejects(ablo.storage.estimate(), (error) => error instanceof sdk.AbloError && error.message === 'no');
});

test('the report names fields and codes, and holds nothing that anybody wrote', async () => {
  const { ablo, core } = await withOutbox(sent, refused);
  core.aside = { 'j/1': 'secret' };
  const report = await ablo.storage.export();
  assert.equal(report.setAside, 1);
  assert.deepEqual((await ablo.storage.export({ records: true })).records, core.aside);
  const text = JSON.stringify(report);
  assert.doesNotMatch(text, /secret|deep|u1|o1|ek_test/);
  assert.deepEqual(report.outbox[0].operations, [{ action: 'update', model: 'task', id: 't1', fields: ['title'] }]);
  assert.equal(report.outbox[1].code, 'forbidden');
  assert.equal(report.status.durability, ablo.status.durability);
});

test('the stages of writes are told, once each', async () => {
  const { ablo, core } = await withOutbox(sent);
  const told = [];
  const stops = [1, 2].map(() => ablo.on('write:stage', (news) => told.push(news)));
  const become = async (...entries) => {
    core.entries = entries;
    core.host.status();
    await settled();
    return told.splice(0);
  };
  const applied = { ...sent, id: 'c2', stage: 'applied' };
  stops.pop()();
  assert.deepEqual(await become(sent, applied), [{ id: 'c2', stage: 'applied' }]);
  assert.deepEqual(await become(sent, { ...applied, attempts: 1 }), []);
  assert.deepEqual(await become({ ...applied, stage: 'journaled' }, refused), [
    { id: 'c2', stage: 'journaled' },
    { id: 'l1', stage: 'rejected' },
  ]);
  assert.deepEqual(await become(), []);
  stops.pop()();
  assert.deepEqual(await become(sent), []);
});
