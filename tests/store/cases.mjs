// What a storage must do, whoever it is: run on `MemoryStorage` in Node and on IndexedDB in a browser.
//
// Each case gets a fresh world. `world.tab(encryption?)` is a storage with what it has told; the rest of a world makes
// trouble. The two worlds are in `memory-world.mjs` and `page.mjs`.

import { KIND } from './memory.mjs';

const JOURNAL = 0;
const CACHE = 1;
const DIRECTORY = 0;
const IDENTITY = 1;
const LAST = '\uffff';

const bytes = (...values) => Uint8Array.from(values);

/** Records as `['key', [1, 2], …]`. */
const plain = (records) => records.map((part) => (typeof part === 'string' ? part : [...part]));

function same(actual, expected, what = 'result') {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: expected ${b}, got ${a}`);
}

async function fails(promise, kind) {
  const failed = await promise.then(
    (value) => Promise.reject(new Error(`expected a failure of kind ${kind}, got ${JSON.stringify(value)}`)),
    (error) => error,
  );
  if (failed instanceof Error) throw failed;
  same(failed.kind, kind, `kind of "${failed.message}"`);
  same(typeof failed.message, 'string');
}

/** A storage with what it tells, one after another. */
export function recorded(make) {
  const told = [];
  const waiting = [];
  const tell = (...event) => {
    told.push(event);
    waiting.shift()?.();
  };
  const storage = make({
    storeClosed: (database) => tell('storeClosed', database),
    lock: (held) => tell('lock', held),
    posted: (text) => tell('posted', text),
  });
  /** The next event, which is taken off `told`. */
  const next = async () => {
    if (told.length === 0) await new Promise((resolve) => waiting.push(resolve));
    return told.shift();
  };
  return { storage, told, next };
}

/** A tab that has a database open. */
async function opened(world, { name = 'a', encryption } = {}) {
  const tab = await world.tab(encryption);
  same(await tab.storage.open(IDENTITY, name), []);
  return tab;
}

const all = async ({ storage }, store = JOURNAL) => plain(await storage.read(IDENTITY, store, '', LAST));
const put = ({ storage }, key, ...value) => storage.write(IDENTITY, [[JOURNAL, key, bytes(...value)]], true);

export const cases = {
  async 'a new database is empty'(world) {
    const tab = await opened(world);
    same([await all(tab), await all(tab, CACHE)], [[], []]);
    same(await tab.storage.open(DIRECTORY, 'b'), []);
    same(await tab.storage.read(DIRECTORY, CACHE, '', LAST), []);
  },

  async 'records come in the order of keys'(world) {
    const tab = await opened(world);
    const keys = ['b', '\u{1f600}', 'a', '\ufffd', 'B', 'ab', '10', '9', 'a/1', '\u00e4'];
    await tab.storage.write(
      IDENTITY,
      keys.map((key, index) => [JOURNAL, key, bytes(index)]),
      false,
    );
    const found = plain(await tab.storage.read(IDENTITY, JOURNAL, '', LAST));
    const wanted = ['10', '9', 'B', 'a', 'a/1', 'ab', 'b', '\u00e4', '\u{1f600}', '\ufffd'];
    same(
      found,
      wanted.flatMap((key) => [key, [keys.indexOf(key)]]),
    );
  },

  async 'a range has its first key and not its last'(world) {
    const tab = await opened(world);
    for (const key of ['a', 'b', 'c', 'd']) await put(tab, key, 1);
    await tab.storage.write(IDENTITY, [[CACHE, 'b', bytes(2)]], false);
    same(plain(await tab.storage.read(IDENTITY, JOURNAL, 'b', 'd')), ['b', [1], 'c', [1]]);
    same(plain(await tab.storage.read(IDENTITY, JOURNAL, 'aa', 'bb')), ['b', [1]]);
    same(await tab.storage.read(IDENTITY, JOURNAL, 'e', 'f'), []);
    await tab.storage.write(IDENTITY, [[JOURNAL, 'b', 'd']], false);
    same(await all(tab), ['a', [1], 'd', [1]]);
    same(await all(tab, CACHE), ['b', [2]], 'the other store');
  },

  async 'changes of one write are made in order'(world) {
    const tab = await opened(world);
    await tab.storage.write(
      IDENTITY,
      [
        [JOURNAL, 'a', bytes(1)],
        [JOURNAL, 'b', bytes(1)],
        [JOURNAL, 'a', 'b'],
        [JOURNAL, 'b', bytes(2)],
        [JOURNAL, 'a', bytes(3)],
      ],
      true,
    );
    same(await all(tab), ['a', [3], 'b', [2]]);
  },

  async 'values are bytes of any length, and copies'(world) {
    const tab = await opened(world);
    const large = new Uint8Array(3_000_000).map((_, index) => index % 251);
    const part = bytes(9, 8, 7, 6).subarray(1, 3);
    const writing = tab.storage.write(
      IDENTITY,
      [
        [CACHE, 'empty', bytes()],
        [CACHE, 'large', large],
        [CACHE, 'part', part],
      ],
      false,
    );
    const ended = writing.then(() => 'written');
    same(await ended, 'written');
    part.fill(0);
    const [first, empty, second, found, third, piece] = await tab.storage.read(IDENTITY, CACHE, '', LAST);
    same([first, second, third], ['empty', 'large', 'part']);
    same([empty.length, found.length, [...piece]], [0, large.length, [8, 7]]);
    same(
      found.every((byte, index) => byte === index % 251),
      true,
    );
    same(
      [empty, found, piece].every((value) => value instanceof Uint8Array),
      true,
    );
  },

  async 'a write of nothing succeeds'(world) {
    const tab = await opened(world);
    same(await tab.storage.write(IDENTITY, [], true), []);
  },

  async 'requests are fulfilled in order, an open and a delete too'(world) {
    const { storage } = await world.tab();
    const requests = [
      storage.open(IDENTITY, 'a'),
      storage.write(IDENTITY, [[JOURNAL, 'a', bytes(1)]], false),
      storage.read(IDENTITY, JOURNAL, '', LAST),
      storage.write(IDENTITY, [[JOURNAL, 'b', bytes(2)]], true),
      storage.write(IDENTITY, [[JOURNAL, 'a', 'b']], false),
      storage.read(IDENTITY, JOURNAL, '', LAST),
      storage.delete(IDENTITY),
      storage.open(IDENTITY, 'a'),
      storage.read(IDENTITY, JOURNAL, '', LAST),
    ];
    const answers = await Promise.all(requests);
    same(answers.map(plain), [[], [], ['a', [1]], [], [], ['b', [2]], [], [], []]);
  },

  async 'a transaction has the stores that it needs, and the durability asked for'(world) {
    const tab = await opened(world);
    world.transactions.length = 0;
    await put(tab, 'a', 1);
    await tab.storage.write(IDENTITY, [[CACHE, 'a', bytes(1)], [CACHE, 'b', 'c']], false);
    await tab.storage.write(IDENTITY, [[CACHE, 'a', bytes(1)], [JOURNAL, 'b', 'c']], true);
    await all(tab, CACHE);
    same(
      world.transactions.map(({ stores, mode, durability }) => [[...stores].sort(), mode, durability ?? null]),
      [
        [[JOURNAL], 'readwrite', 'strict'],
        [[CACHE], 'readwrite', 'relaxed'],
        [[JOURNAL, CACHE], 'readwrite', 'strict'],
        [[CACHE], 'readonly', null],
      ],
    );
  },

  async 'a value that cannot be kept leaves nothing of its write'(world) {
    const tab = await opened(world);
    await put(tab, 'a', 1);
    const detached = bytes(1);
    structuredClone(detached.buffer, { transfer: [detached.buffer] });
    const changes = [
      [JOURNAL, 'b', bytes(2)],
      [JOURNAL, 'a', 'b'],
      [CACHE, 'c', detached],
    ];
    await fails(tab.storage.write(IDENTITY, changes, true), KIND.UNKNOWN);
    same([await all(tab), await all(tab, CACHE)], [['a', [1]], []]);
    await put(tab, 'b', 3);
    same(await all(tab), ['a', [1], 'b', [3]], 'afterwards');
  },

  async 'an aborted transaction leaves nothing'(world) {
    const tab = await opened(world);
    await put(tab, 'a', 1);
    world.abortNext('write');
    await fails(put(tab, 'a', 2), KIND.ABORTED);
    world.abortNext('read');
    await fails(tab.storage.read(IDENTITY, JOURNAL, '', LAST), KIND.ABORTED);
    same(await all(tab), ['a', [1]]);
  },

  async 'a full disk is told, and leaves nothing'(world) {
    // First of all: browsers remember for a while how much space there was.
    await world.setQuota(1_000_000);
    const tab = await opened(world);
    await put(tab, 'a', 1);
    const large = crypto.getRandomValues(new Uint8Array(60_000));
    const changes = Array.from({ length: 100 }, (_, index) => [CACHE, `${index}`, large.slice()]);
    await fails(tab.storage.write(IDENTITY, changes, false), KIND.QUOTA);
    await world.setQuota(undefined);
    same([await all(tab), await all(tab, CACHE)], [['a', [1]], []]);
    await put(tab, 'b', 2);
    same(await all(tab), ['a', [1], 'b', [2]], 'afterwards');
  },

  async 'what is not open is lost'(world) {
    const { storage, told } = await world.tab();
    await fails(storage.read(IDENTITY, JOURNAL, 'a', 'b'), KIND.LOST);
    await fails(storage.write(IDENTITY, [[JOURNAL, 'a', 'b']], true), KIND.LOST);
    await fails(storage.delete(IDENTITY), KIND.LOST);
    await storage.open(DIRECTORY, 'a');
    await fails(storage.read(IDENTITY, JOURNAL, 'a', 'b'), KIND.LOST);
    same(told, []);
  },

  async 'closing comes after what was asked before it, and is not told'(world) {
    const tab = await opened(world);
    const written = put(tab, 'a', 1);
    tab.storage.close();
    const late = fails(put(tab, 'b', 2), KIND.LOST);
    same(await written, []);
    await late;
    await tab.storage.open(IDENTITY, 'a');
    same([await all(tab), tab.told], [['a', [1]], []]);
  },

  async 'closing comes after an open that is still on its way'(world) {
    const { storage } = await world.tab();
    const opening = storage.open(IDENTITY, 'a');
    storage.close();
    same(await opening, []);
    await fails(storage.read(IDENTITY, JOURNAL, 'a', 'b'), KIND.LOST);
    await world.upgrade('a', 99);
  },

  async 'opening again finds the records, and takes the place of another database'(world) {
    const tab = await opened(world);
    await put(tab, 'a', 1);
    await tab.storage.open(IDENTITY, 'b');
    same(await all(tab), []);
    await put(tab, 'b', 2);
    await tab.storage.open(IDENTITY, 'a');
    same(await all(tab), ['a', [1]]);
    await world.upgrade('b', 99);
    same(tab.told, [], 'nobody had it open any more');
  },

  async 'tabs see what the others have written'(world) {
    const [a, b] = [await opened(world), await opened(world)];
    await put(a, 'a', 1);
    await put(b, 'b', 2);
    same([await all(a), await all(b)], [['a', [1], 'b', [2]], ['a', [1], 'b', [2]]]);
  },

  async 'a database that newer code has written is left alone'(world) {
    await world.upgrade('a', 99);
    const { storage, told } = await world.tab();
    await fails(storage.open(IDENTITY, 'a'), KIND.NEWER);
    await fails(storage.read(IDENTITY, JOURNAL, 'a', 'b'), KIND.LOST);
    same(await storage.delete(IDENTITY), [], 'it can be deleted');
    same(await storage.open(IDENTITY, 'a'), []);
    same(told, []);
  },

  async 'newer code elsewhere gets the database, and that is told'(world) {
    const tab = await opened(world);
    await put(tab, 'a', 1);
    await world.upgrade('a', 99);
    same(await tab.next(), ['storeClosed', IDENTITY]);
    await fails(put(tab, 'b', 2), KIND.LOST);
    await fails(tab.storage.open(IDENTITY, 'a'), KIND.NEWER);
    same(tab.told, []);
  },

  async 'deleting elsewhere closes, and that is told'(world) {
    const [a, b] = [await opened(world), await opened(world)];
    await b.storage.open(DIRECTORY, 'd');
    await put(a, 'a', 1);
    same(await a.storage.delete(IDENTITY), []);
    same(await b.next(), ['storeClosed', IDENTITY]);
    await fails(b.storage.read(IDENTITY, JOURNAL, 'a', 'b'), KIND.LOST);
    await fails(a.storage.read(IDENTITY, JOURNAL, 'a', 'b'), KIND.LOST);
    same(await b.storage.read(DIRECTORY, JOURNAL, 'a', 'b'), [], 'the other database');
    await b.storage.open(IDENTITY, 'a');
    same([await all(b), a.told, b.told], [[], [], []]);
  },

  async 'deleting waits for others, but not for ever'(world) {
    const tab = await opened(world);
    const letGo = await world.hold('a');
    const deleting = fails(tab.storage.delete(IDENTITY), KIND.BLOCKED);
    await world.passTime(5_000);
    await deleting;
    await letGo();
    await tab.storage.open(IDENTITY, 'a');
    same(tab.told, []);
  },

  async "an open that takes too long fails, and is in nobody's way when it comes after all"(world) {
    const { storage, told } = await world.tab();
    const letGo = await world.hold('a', { deleting: true });
    const opening = fails(storage.open(IDENTITY, 'a'), KIND.BLOCKED);
    const reading = fails(storage.read(IDENTITY, JOURNAL, 'a', 'b'), KIND.LOST);
    await world.passTime(10_000);
    await Promise.all([opening, reading]);
    await letGo();
    await world.upgrade('a', 99);
    same(told, []);
  },

  async 'an open that is blocked fails at once'(world) {
    const { storage } = await world.tab();
    const letGo = await world.block('a');
    await fails(storage.open(IDENTITY, 'a'), KIND.BLOCKED);
    await letGo();
    await storage.open(IDENTITY, 'a');
    same(await storage.read(IDENTITY, JOURNAL, 'a', 'b'), []);
  },

  async 'a connection that the browser gives up is told'(world) {
    const tab = await opened(world);
    await world.loseConnections();
    same(await tab.next(), ['storeClosed', IDENTITY]);
    await fails(put(tab, 'a', 1), KIND.LOST);
    await tab.storage.open(IDENTITY, 'a');
    await put(tab, 'a', 2);
    same([await all(tab), tab.told], [['a', [2]], []]);
  },

  async 'where there is no storage, opening says so'(world) {
    for (const what of world.facilities) {
      const { storage } = await world.tab();
      const restore = world.without(what);
      await fails(storage.open(IDENTITY, 'a'), KIND.UNAVAILABLE);
      restore();
      same(await storage.open(IDENTITY, 'a'), [], `afterwards, without ${what}`);
    }
  },

  async 'encrypted values come back, to whoever has the key'(world) {
    const encryption = { key: await world.key() };
    const tab = await opened(world, { encryption });
    await put(tab, 'b', 1, 2, 3);
    await put(tab, 'a');
    await tab.storage.write(IDENTITY, [[JOURNAL, 'c', bytes(4)], [JOURNAL, 'a', 'b']], true);
    same(await all(tab), ['b', [1, 2, 3], 'c', [4]]);
    const other = await opened(world, { encryption });
    same(await all(other), ['b', [1, 2, 3], 'c', [4]]);
    same(await other.storage.read(IDENTITY, CACHE, '', LAST), [], 'a store without records');
  },

  async 'writes with much to encrypt are not overtaken'(world) {
    const tab = await opened(world, { encryption: { key: await world.key() } });
    const written = Promise.all([
      tab.storage.write(IDENTITY, [[JOURNAL, 'a', new Uint8Array(2_000_000)]], false),
      put(tab, 'a', 1),
      tab.storage.write(IDENTITY, [[JOURNAL, 'b', new Uint8Array(2_000_000)]], false),
      tab.storage.write(IDENTITY, [[JOURNAL, 'b', 'c']], false),
    ]);
    same(await all(tab), ['a', [1]]);
    await written;
  },

  async 'another key opens nothing'(world) {
    await put(await opened(world, { encryption: { key: await world.key() } }), 'a', 1);
    const other = await opened(world, { encryption: { key: await world.key() } });
    await fails(all(other), KIND.WRONG_KEY);
    await put(other, 'b', 2);
    same(await all(other), ['a', [], 'b', [2]], 'what it wrote itself');
  },

  async 'values that were not encrypted are not taken for such'(world) {
    await put(await opened(world), 'a', ...new Array(40).fill(7));
    const tab = await opened(world, { encryption: { key: await world.key() } });
    await fails(all(tab), KIND.WRONG_KEY);
  },

  async 'a value that cannot be decrypted is empty'(world) {
    const tab = await opened(world, { encryption: { key: await world.key() } });
    for (const key of ['a', 'b', 'c']) await put(tab, key, 1);
    await world.spoil('a', JOURNAL, 'b');
    same(await all(tab), ['a', [1], 'b', [], 'c', [1]]);
    await fails(tab.storage.read(IDENTITY, JOURNAL, 'b', 'c'), KIND.WRONG_KEY);
  },

  async 'one lock at a time, in the order of asking'(world) {
    const [a, b, c] = [await world.tab(), await world.tab(), await world.tab()];
    a.storage.lock('l', false);
    same(await a.next(), ['lock', true]);
    b.storage.lock('l', false);
    await world.queued('l', 1);
    c.storage.lock('l', false);
    await world.queued('l', 2);
    same([a.told, b.told, c.told], [[], [], []]);
    a.storage.lock(undefined, false);
    same(await b.next(), ['lock', true]);
    b.storage.lock(undefined, false);
    same(await c.next(), ['lock', true]);
    same([a.told, b.told, c.told], [[], [], []], 'giving back is not told');
  },

  async 'locks of different names have nothing to do with each other'(world) {
    const [a, b] = [await world.tab(), await world.tab()];
    a.storage.lock('l', false);
    b.storage.lock('m', false);
    same([await a.next(), await b.next()], [['lock', true], ['lock', true]]);
  },

  async 'who stops waiting does not get the lock'(world) {
    const [a, b, c] = [await world.tab(), await world.tab(), await world.tab()];
    a.storage.lock('l', false);
    same(await a.next(), ['lock', true]);
    b.storage.lock('l', false);
    await world.queued('l', 1);
    b.storage.lock('m', false);
    same(await b.next(), ['lock', true], 'the newer wish');
    c.storage.lock('l', false);
    await world.queued('l', 1);
    a.storage.lock(undefined, false);
    same(await c.next(), ['lock', true]);
    same(b.told, []);
  },

  async 'a lock given back before it was granted is free'(world) {
    const [a, b] = [await world.tab(), await world.tab()];
    for (const steal of [false, true]) {
      a.storage.lock('l', steal);
      a.storage.lock(undefined, false);
      b.storage.lock('l', false);
      same(await b.next(), ['lock', true]);
      b.storage.lock(undefined, false);
    }
    same([a.told, b.told], [[], []]);
  },

  async 'stealing takes the lock, and the loser is told'(world) {
    const [a, b] = [await world.tab(), await world.tab()];
    a.storage.lock('l', false);
    same(await a.next(), ['lock', true]);
    b.storage.lock('l', true);
    same(await a.next(), ['lock', false]);
    same(await b.next(), ['lock', true]);
    a.storage.lock('l', false);
    await world.queued('l', 1);
    b.storage.lock(undefined, false);
    same(await a.next(), ['lock', true], 'the loser, having asked again');
    same([a.told, b.told], [[], []]);
  },

  async 'a channel carries texts to the others, in order'(world) {
    const [a, b, c] = [await world.tab(), await world.tab(), await world.tab()];
    b.storage.channel('x');
    c.storage.channel('y');
    await world.joined('x');
    await world.joined('y');
    a.storage.channel('x');
    const texts = ['one', '', 'two \u{1f600}', JSON.stringify({ three: 3 })];
    for (const text of texts) a.storage.post(text);
    for (const text of texts) same(await b.next(), ['posted', text]);
    b.storage.post('back');
    same(await a.next(), ['posted', 'back']);
    same([a.told, b.told, c.told], [[], [], []]);
  },

  async 'who has left a channel neither hears nor speaks'(world) {
    const [a, b, c] = [await world.tab(), await world.tab(), await world.tab()];
    for (const tab of [a, b, c]) {
      tab.storage.channel('x');
      await world.joined('x');
    }
    b.storage.channel('y');
    await world.joined('y');
    c.storage.channel(undefined);
    c.storage.post('nobody hears');
    a.storage.post('nobody is there');
    b.storage.post('nobody here either');
    c.storage.channel('x');
    await world.joined('x');
    c.storage.post('again');
    same(await a.next(), ['posted', 'again']);
    same([a.told, b.told, c.told], [[], [], []]);
  },
};
