// The package itself: where it loads, what importing it does, and how it ends.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DEMO, NO_SERVER, openClient, openContext, openPage, ROOT, Server, test } from './harness.mjs';

test('importing it in Node does nothing', async () => {
  const program = `
    import { Ablo, AbloError } from ${JSON.stringify(join(ROOT, 'pkg/index.js'))};
    import { defineSchema, field, model } from ${JSON.stringify(join(ROOT, 'pkg/schema.js'))};
    const schema = defineSchema({ tasks: model({ title: field.string() }) });
    const ablo = Ablo({ schema, apiKey: 'ek_test_x', baseURL: 'http://127.0.0.1:1' });
    console.log(typeof Ablo, AbloError.name, ablo.tasks.getAll().length, ablo.tasks.get('x'), ablo.status.connection.state);
  `;
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program]);
  assert.equal(stderr, '');
  assert.equal(stdout.trim(), 'function AbloError 0 undefined idle');
});

test('it loads from a plain page, and fetches one module and nothing else', async (t) => {
  const server = await Server.start(t);
  const page = await openPage(t, server);
  await page.waitForLoadState('networkidle');
  const before = page.requests.filter((path) => path.endsWith('.wasm'));
  await page.evaluate(async () => {
    globalThis.ablo = make();
    await ablo.ready();
  });
  assert.deepEqual(before, [], 'importing loads no module');
  assert.equal(page.requests.filter((path) => path.endsWith('.wasm')).length, 1);
  assert.equal(page.requests.filter((path) => path.endsWith('/sync/bootstrap')).length, 1);
});

test('the module can come as bytes, compiled, or from a server that does not know its type', async (t) => {
  const server = await Server.start(t, { seed: { Task: [{ id: 'a', title: 'x' }] } });
  const context = await openContext(t);
  await context.route('**/plain.wasm', async (route) => {
    const body = await readFile(join(ROOT, 'pkg/ablo_wasm_bg.wasm'));
    await route.fulfill({ body, contentType: 'text/plain' });
  });
  for (const form of ['bytes', 'compiled', 'response', 'address', 'missing']) {
    const page = await openPage(t, server, { context, expected: [/404/] });
    const found = await page.evaluate(async (form) => {
      const address = new URL('/pkg/ablo_wasm_bg.wasm', location.href);
      const bytes = async () => (await fetch(address)).arrayBuffer();
      const forms = {
        bytes,
        compiled: async () => WebAssembly.compile(await bytes()),
        response: () => fetch(address),
        address: () => new URL('/plain.wasm', location.href),
        missing: () => '/pkg/none.wasm',
      };
      const ablo = make({ wasm: await forms[form]() });
      const { code } = (await outcome(ablo.ready())) ?? {};
      return code ?? ablo.tasks.get('a')?.title;
    }, form);
    assert.equal(found, form === 'missing' ? 'wasm_unavailable' : 'x', form);
    await page.close();
  }
});

test('dispose ends everything', async (t) => {
  const server = await Server.start(t);
  const page = await openClient(t, server);
  const other = await openPage(t, server);
  const facts = await page.evaluate(async () => {
    let calls = 0;
    ablo.tasks.onChange(() => (calls += 1));
    await ablo.tasks.create({ id: 'a', data: { title: 'x' }, wait: 'confirmed' });
    ablo.setOffline(true);
    const pending = outcome(ablo.tasks.create({ id: 'b', data: { title: 'y' }, wait: 'confirmed' }));
    const before = calls;
    await Promise.all([ablo.dispose(), ablo.dispose()]);
    const after = await outcome(ablo.tasks.create({ data: { title: 'z' } }));
    return { pending: (await pending).code, after: after.code, calls: calls - before, rows: ablo.tasks.getAll().length };
  });
  assert.deepEqual(facts, { pending: 'client_disposed', after: 'client_disposed', calls: 0, rows: 0 });
  const asked = page.requests.length;
  const sockets = [];
  page.on('websocket', (socket) => sockets.push(socket));
  await server.commit({ action: 'update', model: 'tasks', id: 'a', data: { title: 'more' } });
  await other.evaluate(async () => {
    globalThis.ablo = make();
    await ablo.ready();
    await until(() => ablo.tasks.get('a')?.title === 'more');
  });
  assert.equal(page.requests.length, asked, 'no request after dispose');
  assert.equal(sockets.length, 0, 'no socket after dispose');
});

test('a crash of the module ends every client of the page with one clear error', async (t) => {
  const server = await Server.start(t);
  const page = await openPage(t, server, { expected: [/client crashed/, ...NO_SERVER] });
  const facts = await page.evaluate(async () => {
    const { instantiateStreaming } = WebAssembly;
    let memory;
    WebAssembly.instantiateStreaming = async (...given) => {
      const result = await instantiateStreaming.apply(WebAssembly, given);
      memory = result.instance.exports.memory;
      return result;
    };
    const [one, other] = [make(), make()];
    await Promise.all([one.ready(), other.ready()]);
    // Nothing in it makes sense any more.
    new Uint8Array(memory.buffer).fill(255);
    const write = await outcome(one.tasks.create({ data: { title: 'x' } }));
    const later = await Promise.all([other.tasks.create({ data: { title: 'y' } }), make().ready()].map(outcome));
    await Promise.all([one.dispose(), other.dispose()]);
    return [write, ...later].map(({ code }) => code);
  });
  assert.deepEqual(facts, ['client_crashed', 'client_crashed', 'client_crashed']);
});

test('the schema of the demo is the same on both sides', async (t) => {
  const server = await Server.start(t, DEMO);
  const page = await openPage(t, server, { path: '/schema.json', ready: null, expected: [/favicon/, /404/] });
  const [fromCode, fromFile] = await page.evaluate(async () => {
    const map = document.createElement('script');
    map.type = 'importmap';
    map.textContent = JSON.stringify({ imports: { 'ablo-wasm': '/pkg/index.js' } });
    document.head.append(map);
    const { schema } = await import('/schema.js');
    const { toSchemaJSON } = await import('/pkg/schema.js');
    return [JSON.parse(JSON.stringify(toSchemaJSON(schema))), await (await fetch('/schema.json')).json()];
  });
  assert.deepEqual(fromFile, fromCode, 'www/schema.json is not toSchemaJSON(schema) of www/schema.js');
});
