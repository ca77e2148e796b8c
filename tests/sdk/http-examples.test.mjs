/** The examples of the stateless client run in Node; `tests/e2e/examples.mjs` compiles them, and runs them in a page. */

import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import { transform } from 'esbuild';

import { bundle, ROOT, ROWS, schema, sdk, Server } from './http-world.mjs';

/** Examples of the guide and of comments: `{ place, code }`. */
async function examples() {
  const read = (path) => readFile(join(ROOT, path), 'utf8');
  const guide = (await read('docs/http.md')).matchAll(/```[jt]s\n(.*?)```/gs);
  const found = [...guide].map(([, code]) => ({ place: 'docs/http.md', code }));
  for (const name of await readdir(join(ROOT, 'sdk/src'))) {
    if (!name.startsWith('http')) continue;
    for (const [comment] of (await read(`sdk/src/${name}`)).matchAll(/\/\*\*.*?\*\//gs)) {
      const [, code] = /@example\n(.*)\*\//s.exec(comment) ?? [];
      if (code !== undefined) found.push({ place: name, code: code.replaceAll(/^ *\* ?/gm, '') });
    }
  }
  return found;
}

const all = await examples();

test('there are examples', () => {
  assert.equal(all.filter(({ place }) => place.endsWith('.md')).length, 4);
  assert.ok(all.filter(({ place }) => place.endsWith('.ts')).length >= 10);
});

for (const [index, { place, code }] of all.entries()) {
  test(`example ${index + 1}, ${place}`, async (t) => {
    const server = await Server.start(t, ROWS);
    const checked = code
      .replaceAll(/^const (\w+) = (.*?);? \/\/ → (.*)$/gm, 'const $1 = $2; expectEqual($1, $3);')
      .replaceAll(/^(?!const)(.*?);? \/\/ → (.*)$/gm, 'expectEqual($1, $2);')
      .replaceAll(/baseURL: '.*?'/g, `baseURL: '${server.url}'`)
      .replaceAll("'ablo-wasm'", JSON.stringify(bundle));
    const { code: js } = await transform(checked, { loader: 'ts', format: 'esm', target: 'es2022' });
    let reached = 0;
    const expectEqual = (actual, expected) => {
      reached += 1;
      assert.deepEqual(actual, expected);
    };
    Object.assign(globalThis, { expectEqual, schema, Ablo: sdk.Ablo });
    await import(`data:text/javascript,${encodeURIComponent(js)}`);
    assert.equal(reached, checked.split('expectEqual(').length - 1, 'a promised value was never reached');
  });
}
