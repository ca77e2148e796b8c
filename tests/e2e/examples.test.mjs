// Every example of the documentation is what it claims to be: it compiles, and runs in a page with a server behind it.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { dump } from './evidence.mjs';
import { compile, findExamples } from './examples.mjs';
import { atEnd, openPage, sdk, Server, test } from './harness.mjs';

const EMPTY_PAGE = 'about:blank';

/** Their requests name models by key: only a server that has the schema knows which rows are meant. */
const IS_STATELESS = /\/http[\w-]*\.(md|ts)$/;
const { defineSchema, field, model } = sdk;
/** The rows of prelude.ts. */
const schema = defineSchema({
  projects: model({ name: field.string() }, {}, { typename: 'Project' }),
  tasks: model(
    { title: field.string(), done: field.boolean(), rank: field.number(), projectId: field.id().optional() },
    {},
    { typename: 'Task' },
  ),
});

const dir = await mkdtemp(join(tmpdir(), 'ablo-examples-'));
after(() => rm(dir, { recursive: true, force: true }));
const examples = await findExamples();
const errors = await compile(examples, dir);

test('the documents have examples, and so has the SDK', () => {
  for (const place of ['README.md', 'pkg/README.md', 'sdk/src/']) {
    assert.notEqual(examples.filter(({ source }) => source.startsWith(place)).length, 0, `no example in ${place}`);
  }
});

test('the examples compile', () => assert.equal(errors, ''));

test('the examples run', async (t) => {
  // Some ask over HTTP for a row that is gone, which browsers report.
  const page = await openPage(t, EMPTY_PAGE, { path: '', ready: null, expected: [/status of 404/] });
  // The page is the application's backend too.
  await page.route('**/api/session', (route) => route.fulfill({ body: 'ek_test_ada' }));
  await page.route('**/api/credential', (route) => route.fulfill({ body: JSON.stringify({ token: 'ek_test_ada' }) }));
  await page.route('**/examples/**', (route) => {
    return route.fulfill({ path: join(dir, new URL(route.request().url()).pathname.slice('/examples/'.length)) });
  });
  for (const { source, line, file, code } of examples) {
    await t.test(`${source}:${line}`, { timeout: 60_000 }, async (t) => {
      const server = await Server.start(t, IS_STATELESS.test(source) ? { schema } : { anyModel: true });
      atEnd(t, async () => {
        await dump(page);
        await page.goto(EMPTY_PAGE);
      });
      await page.goto(`${server.url}/e2e/lab.html`);
      const checks = await page.evaluate(async (module) => {
        const { finish } = await import('/examples/prelude.js');
        await import(module);
        return finish();
      }, `/examples/${file.replace(/ts$/, 'js')}`);
      assert.equal(checks, code.split('expectEqual(').length - 1, 'a promised value was never reached');
    });
  }
});
