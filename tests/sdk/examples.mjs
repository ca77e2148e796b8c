/** Examples of a guide and of comments: found, and run with what they promise checked. */

import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { transform } from 'esbuild';

import { ROOT } from './bundle.mjs';

/** Examples of a guide, and of the comments of source files whose names begin so: `{ place, code }`. */
export async function findExamples(guide, prefix) {
  const read = (path) => readFile(join(ROOT, path), 'utf8');
  const found = [...(await read(guide)).matchAll(/```[jt]s\n(.*?)```/gs)].map(([, code]) => ({ place: guide, code }));
  for (const name of await readdir(join(ROOT, 'sdk/src'))) {
    if (!name.startsWith(prefix)) continue;
    for (const [comment] of (await read(`sdk/src/${name}`)).matchAll(/\/\*\*.*?\*\//gs)) {
      const [, code] = /@example\n(.*)\*\//s.exec(comment) ?? [];
      if (code !== undefined) found.push({ place: name, code: code.replaceAll(/^ *\* ?/gm, '') });
    }
  }
  return found;
}

/**
 * Runs an example with these globals, its imports as `modules` has them. What stands behind `// →` must be so. How many
 * values it promised.
 */
export async function runExample(code, globals, modules) {
  let module = code
    .replaceAll(/^const (\w+) = (.*?);? \/\/ → (.*)$/gm, 'const $1 = $2; expectEqual($1, $3);')
    .replaceAll(/^(?!const)(.*?);? \/\/ → (.*)$/gm, 'expectEqual($1, $2);');
  const promised = module.split('expectEqual(').length - 1;
  for (const [name, url] of Object.entries(modules)) module = module.replaceAll(`'${name}'`, JSON.stringify(url));
  const { code: js } = await transform(module, { loader: 'ts', format: 'esm', target: 'es2022' });
  let reached = 0;
  const expectEqual = (actual, expected) => {
    reached += 1;
    assert.deepEqual(actual, expected);
  };
  Object.assign(globalThis, { expectEqual, ...globals });
  // The same text twice would be one module.
  await import(`data:text/javascript,${encodeURIComponent(`${js}\n// ${crypto.randomUUID()}`)}`);
  assert.equal(reached, promised, 'a promised value was never reached');
  return promised;
}
