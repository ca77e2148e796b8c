// Looks for tokens in what a run of the end-to-end tests has left behind (`evidence.mjs`): in logs, addresses, errors,
// events, statuses and stored records. `node tests/e2e/secrets.mjs DIR` fails when there is one, or nothing to look at;
// with `--all` (the run was of all files) also when something is not there that must be.

import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What a run of all files has recorded, by name. Without these there would be nothing in which to find a token. */
const MARKERS = {
  'the address of a socket': /^\[socket\] \d+ ws:\S+\/api\/sync\/ws\?/m,
  'the address of a snapshot': /^\[url\] \d+ http:\S+\/api\/sync\/bootstrap\?/m,
  'a line of the log of a server': /DEBUG \S+: request method=GET path="\/api\/sync\/bootstrap" status=200/,
  'a socket in the log of a server': /DEBUG \S+: socket open/,
  'a stored row': /^\[record\] \d+ ablo-[0-9a-f]{64} cache .*seed a/m,
  'a stored write': /^\[record\] \d+ ablo-[0-9a-f]{64} journal /m,
  'a status': /^\[told\] \d+ status \{"connection":\{"state":"connected"/m,
  'the state at the end': /^\[status\] \d+ \{"connection":/m,
  'an error about a token': /^\[told\] \d+ error apikey_invalid /m,
  'the end of a login': /^\[told\] \d+ session:ended /m,
  'what else is stored': /^\[localStorage\] \d+ /m,
};
const PAGES_MIN = 60;

/** `token` in base64, wherever in the encoded text it begins: those characters that depend on nothing else. */
function inBase64(token) {
  return [0, 1, 2].flatMap((before) => {
    const text = Buffer.from('\0'.repeat(before) + token).toString('base64').replace(/=+$/, '');
    const from = Math.ceil((before * 8) / 6);
    const whole = text.slice(from, Math.floor(((before + token.length) * 8) / 6));
    return [whole, whole.replaceAll('+', '-').replaceAll('/', '_')];
  });
}

/** How a token may be written. Whatever is percent-encoded is decoded before it is searched. */
function formsOf(token) {
  const utf16 = [...token].join('\0');
  return new Map([[token, 'as it is'], [utf16, 'in UTF-16'], ...inBase64(token).map((form) => [form, 'in base64'])]);
}

const decode = (text) =>
  text.replace(/%([2-7][0-9a-f])/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16)));

/** Where in `text` one of the tokens is. Says which only by its number. */
function search(text, tokens) {
  const forms = new Map();
  for (const [at, token] of tokens.entries()) {
    for (const [form, how] of formsOf(token)) forms.set(form, `token ${at + 1} ${how}`);
  }
  const views = [['', text]];
  const decoded = decode(text);
  if (decoded !== text) views.push([', percent-encoded', decoded]);
  const found = [];
  for (const [how, view] of views) {
    for (const [form, what] of forms) {
      const index = view.indexOf(form);
      if (index < 0) continue;
      const start = view.lastIndexOf('\n', index) + 1;
      const line = view.slice(0, start).split('\n').length;
      const kind = /^\[[^\]]*\] \d+ \S*/.exec(view.slice(start, index))?.[0] ?? '';
      found.push(`line ${line} ${kind}: ${what}${how}`);
    }
  }
  return found;
}

/** What is found in a directory of evidence, and what is in it. */
async function examine(dir) {
  const tokens = [...new Set((await readFile(join(dir, 'tokens'), 'utf8')).split('\n'))].filter((token) => token !== '');
  assert.notEqual(tokens.length, 0, `${dir}: no token is known`);
  const names = (await readdir(dir)).filter((name) => name.endsWith('.txt')).sort();
  const found = [];
  const missing = new Set(Object.keys(MARKERS));
  let pages = 0;
  let characters = 0;
  for (const name of names) {
    // As bytes: what is stored is text only in part.
    const text = await readFile(join(dir, name), 'latin1');
    characters += text.length;
    pages += text.match(/^\[page\] /gm)?.length ?? 0;
    for (const marker of missing) if (MARKERS[marker].test(text)) missing.delete(marker);
    found.push(...search(text, tokens).map((place) => `${name}, ${place}`));
  }
  return { tokens, names, found, missing: [...missing], pages, characters };
}

/** A search that finds nothing proves nothing unless it finds what is there. */
async function checkItself() {
  const token = 'ek_test_planted-0x';
  const percent = [...Buffer.from(token)].map((byte) => `%${byte.toString(16)}`).join('');
  const base64 = (before) => Buffer.from(`${before}${token}.`).toString('base64');
  const plants = {
    plain: `x\nAuthorization: Bearer ${token}\n`,
    'in an address': `[url] 1 http://127.0.0.1/?token=${token.replace('_', '%5F')}\n`,
    percent,
    'base64, 0': base64(''),
    'base64, 1': base64('a'),
    'base64, 2': base64('ab'),
    base64url: Buffer.from(`ab${token}`).toString('base64url'),
    'UTF-16': Buffer.from(`{"apiKey":"${token}"}`, 'utf16le'),
    'binary record': Buffer.concat([Buffer.from([0, 255, 128, 10]), Buffer.from(token), Buffer.from([200])]),
  };
  const dir = await mkdtemp(join(tmpdir(), 'ablo-secrets-'));
  try {
    await writeFile(join(dir, 'tokens'), `${token}\n`);
    for (const [name, content] of Object.entries(plants)) await writeFile(join(dir, `${name}.txt`), content);
    await writeFile(join(dir, 'clean.txt'), 'ek_test_plante, ek_test_, planted-0x\n');
    const { found, names } = await examine(dir);
    const clean = names.filter((name) => !found.some((place) => place.startsWith(`${name}, `)));
    assert.deepEqual(clean, ['clean.txt'], 'planted tokens were not found, or one that is not there was');
    assert.ok(!found.join().includes(token), 'what is found is not repeated');
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

const [dir, ...options] = process.argv.slice(2);
assert.ok(dir !== undefined && options.every((option) => option === '--all'), 'node tests/e2e/secrets.mjs DIR [--all]');
await checkItself();
const { tokens, names, found, missing, pages, characters } = await examine(dir);
const problems = found.map((place) => `a token is in ${place}`);
if (names.length === 0) problems.push('nothing was recorded');
if (options.includes('--all')) {
  problems.push(...missing.map((marker) => `nothing recorded is ${marker}`));
  if (pages < PAGES_MIN) problems.push(`${pages} pages were recorded, not at least ${PAGES_MIN}`);
}
for (const problem of problems) console.log(problem);
const size = `${(characters / 1e6).toFixed(1)} MB in ${names.length} files, of ${pages} pages`;
console.log(`${problems.length === 0 ? 'no token' : 'FAILED:'} in ${size}, searched for ${tokens.length} tokens (${dir})`);
process.exit(problems.length === 0 ? 0 : 1);
