/** What a client gives its core of the browser: the storage, the lock, the channel, and the key for what is stored. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { makeClient, page, readyClient, settled } from './support.mjs';

const aesKey = (...usages) => crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, false, usages);

test('where there is no IndexedDB, opening a database says so', async () => {
  const { core } = await readyClient();
  await assert.rejects(core.storage.open(0, 'x'), { kind: 0 });
  await assert.rejects(core.storage.read(0, 0, 'a', 'b'), { kind: 3 });
});

/** Counts the channels that clients join, and closes them when the test is over: an open one keeps Node running. */
function watchChannels(t) {
  const Channel = globalThis.BroadcastChannel;
  const channels = [];
  globalThis.BroadcastChannel = class extends Channel {
    constructor(name) {
      super(name);
      channels.push(this);
    }
  };
  t.after(() => {
    globalThis.BroadcastChannel = Channel;
    for (const channel of channels) channel.close();
  });
  return async (count) => {
    while (channels.length < count) await settled();
    return channels;
  };
}

test('what other tabs tell reaches the core until the client ends', { timeout: 30_000 }, async (t) => {
  const joined = watchChannels(t);
  const [first, second] = [await readyClient(), await readyClient()];
  const heard = [];
  let tell;
  second.core.posted = (text) => {
    heard.push(text);
    tell();
  };
  const next = () => new Promise((resolve) => (tell = resolve));
  first.core.storage.channel('x');
  second.core.storage.channel('x');
  await joined(2);
  let hearing = next();
  first.core.storage.post('one');
  await hearing;
  hearing = next();
  await first.ablo.dispose();
  const third = await readyClient();
  first.core.storage.post('nobody listens');
  third.core.storage.channel('x');
  third.core.storage.post('two');
  await hearing;
  await Promise.all([second.ablo.dispose(), third.ablo.dispose()]);
  assert.deepEqual(heard, ['one', 'two']);
});

test('a crash gives back what tabs share, and nothing is told to the dead core', async (t) => {
  const joined = watchChannels(t);
  const { core } = await readyClient();
  core.storage.channel('x');
  const [channel] = await joined(1);
  const close = channel.close.bind(channel);
  const closed = new Promise((resolve) => {
    channel.close = () => resolve(close());
  });
  core.host.timer(1);
  page.crash(new Error('boom'));
  await closed;
  core.host.turn();
  await settled();
  assert.deepEqual(
    core.calls.filter((call) => call === 'turn' || call === 'timeout'),
    [],
  );
});

test('a key for what is stored must be one that can be used', async () => {
  const rsa = { name: 'RSA-OAEP', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' };
  const { publicKey } = await crypto.subtle.generateKey(rsa, false, ['encrypt', 'decrypt']);
  for (const encryption of [
    ...[null, 'device', {}, { key: undefined }, { key: 'secret' }, { key: new Uint8Array(32) }],
    ...[{ key: await aesKey('encrypt') }, { key: await aesKey('decrypt') }, { key: publicKey }],
  ]) {
    assert.throws(() => makeClient({ encryption }), { code: 'invalid_options', param: 'encryption' });
  }
  for (const key of ['device', await aesKey('encrypt', 'decrypt')]) makeClient({ encryption: { key } });
  makeClient({ encryption: undefined });
});
