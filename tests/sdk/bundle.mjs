/** Bundles parts of the SDK as the package does, into a directory that goes with the tests. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { build } from 'esbuild';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** For files of the tests. */
export const directory = await mkdtemp(join(tmpdir(), 'ablo-sdk-'));
after(() => rm(directory, { recursive: true, force: true }));

/** The address of a module that says `contents`, beside the SDK's sources, with a file of this folder as its core. */
export async function bundle(contents, core) {
  const outfile = join(directory, 'bundle.mjs');
  await build({
    stdin: { contents, resolveDir: join(ROOT, 'sdk/src'), loader: 'ts' },
    alias: { 'ablo-core': join(ROOT, 'tests/sdk', core) },
    bundle: true,
    format: 'esm',
    // As in the package: what depends on the names of classes and functions must show here.
    minify: true,
    target: 'es2022',
    outfile,
    logLevel: 'warning',
  });
  return pathToFileURL(outfile).href;
}

/** Lets everything happen that is waiting in microtasks. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));
