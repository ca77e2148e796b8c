/** The examples of undo, those of the guide and those of comments, run with the package as it is built and a server. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { ROOT } from './bundle.mjs';
import { findExamples, runExample } from './examples.mjs';
import { Server } from './undo-world.mjs';

const all = await findExamples('docs/undo.md', 'undo');
const modules = { 'ablo-wasm/undo': pathToFileURL(join(ROOT, 'pkg/undo.js')).href };

test('there are examples', () => {
  const count = (end) => all.filter(({ place }) => place.endsWith(end)).length;
  assert.deepEqual([count('.md'), count('.ts')], [4, 1]);
});

for (const [index, { place, code }] of all.entries()) {
  test(`example ${index + 1}, ${place}`, async (t) => {
    const server = await Server.start(t);
    const ablo = await server.client('ada');
    const promised = await runExample(code, { show: () => {}, ablo }, modules);
    assert.ok(promised > 0, 'an example promises something');
    await ablo.waitForFlush();
    assert.equal(ablo.status.rejectedWrites, 0);
  });
}
