/** The examples of the stateless client run in Node; `tests/e2e/examples.mjs` compiles them, and runs them in a page. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { findExamples, runExample } from './examples.mjs';
import { bundle, schema, sdk, Server } from './http-world.mjs';
import { ROWS } from './fixtures.mjs';

const all = await findExamples('docs/http.md', 'http');

test('there are examples', () => {
  assert.equal(all.filter(({ place }) => place.endsWith('.md')).length, 4);
  assert.ok(all.filter(({ place }) => place.endsWith('.ts')).length >= 10);
});

for (const [index, { place, code }] of all.entries()) {
  test(`example ${index + 1}, ${place}`, async (t) => {
    const server = await Server.start(t, ROWS);
    const here = code.replaceAll(/baseURL: '.*?'/g, `baseURL: '${server.url}'`);
    await runExample(here, { schema, Ablo: sdk.Ablo }, { 'ablo-wasm': bundle });
  });
}
