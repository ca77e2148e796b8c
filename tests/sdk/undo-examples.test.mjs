/** The examples of undo, those of the guide and those of comments, run with the package as it is built and a server. */

import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { transform } from 'esbuild';

import { ROOT } from './bundle.mjs';
import { Server } from './undo-world.mjs';

/** Examples: `{ place, code }`. */
async function examples() {
  const read = (path) => readFile(join(ROOT, path), 'utf8');
  const guide = (await read('docs/undo.md')).matchAll(/```[jt]s\n(.*?)```/gs);
  const found = [...guide].map(([, code]) => ({ place: 'docs/undo.md', code }));
  for (const name of await readdir(join(ROOT, 'sdk/src'))) {
    if (!name.startsWith('undo')) continue;
    for (const [comment] of (await read(`sdk/src/${name}`)).matchAll(/\/\*\*.*?\*\//gs)) {
      const [, code] = /@example\n(.*)\*\//s.exec(comment) ?? [];
      if (code !== undefined) found.push({ place: name, code: code.replaceAll(/^ *\* ?/gm, '') });
    }
  }
  return found;
}

const all = await examples();

test('there are examples', () => {
  const count = (end) => all.filter(({ place }) => place.endsWith(end)).length;
  assert.deepEqual([count('.md'), count('.ts')], [4, 1]);
});

for (const [index, { place, code }] of all.entries()) {
  test(`example ${index + 1}, ${place}`, async (t) => {
    const server = await Server.start(t);
    const checked = code.replaceAll(/^(.*?);? \/\/ → (.*)$/gm, 'expectEqual($1, $2);');
    const entry = pathToFileURL(join(ROOT, 'pkg/undo.js')).href;
    const module = checked.replaceAll("'ablo-wasm/undo'", JSON.stringify(entry));
    const { code: js } = await transform(module, { loader: 'ts', format: 'esm' });
    let reached = 0;
    const expectEqual = (actual, expected) => {
      reached += 1;
      assert.deepEqual(actual, expected);
    };
    Object.assign(globalThis, { expectEqual, show: () => {}, ablo: await server.client('ada') });
    await import(`data:text/javascript,${encodeURIComponent(`${js}\n// ${index}`)}`);
    const promised = checked.split('expectEqual(').length - 1;
    assert.ok(promised > 0, 'an example promises something');
    assert.equal(reached, promised);
    await globalThis.ablo.waitForFlush();
    assert.equal(globalThis.ablo.status.rejectedWrites, 0);
  });
}
