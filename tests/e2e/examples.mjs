// The examples of the documentation: found, and compiled against the declarations that the package ships.
//
// An example is a block of `js` or `ts` in a document, or what follows `@example` in a comment of the SDK. It may
// assume what prelude.ts declares, and without imports of its own everything that the package exports. A block whose
// first line is `// name.ts` can be imported by the other blocks of its document. A comment `// → value` behind an
// expression, or behind the declaration of a constant, is checked.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ROOT } from './harness.mjs';

/** Languages of blocks that are run, and of those that are not. */
const RUNS = ['js', 'ts'];
const NOT_CODE = ['sh', 'text', 'json', 'mermaid'];
/** Examples for Electron's processes and for servers run in node, as tests/sdk. */
const IS_FOR_NODE = /\/(electron|source|batching)[\w-]*\.(md|ts)$/;
const PRELUDE = fileURLToPath(new URL('prelude.ts', import.meta.url));

/** Every example: `source` is where it was found, `line` its first line there, `file` what to compile it as. */
export async function findExamples() {
  const documents = ['README.md', 'pkg/README.md', ...(await filesIn('docs', '.md'))];
  const sources = [...documents, ...(await filesIn('sdk/src', '.ts'))].filter((source) => !IS_FOR_NODE.test(source));
  const examples = sources.map(async (source) => {
    const text = await readFile(join(ROOT, source), 'utf8');
    const blocks = source.endsWith('.md') ? blocksOfDocument(text, source) : blocksOfComments(text);
    return blocks.map(({ line, lines }) => {
      const name = /^\/\/ ([\w-]+\.ts)\b/.exec(lines[0])?.[1] ?? `${line}.ts`;
      return { source, line, file: `${source}/${name}`, code: lines.map(withCheck).join('\n') };
    });
  });
  return (await Promise.all(examples)).flat();
}

/**
 * Compiles examples into `dir`, one module each, and returns what tsc has to say. Its line numbers are those of the
 * source. The server that an example names becomes the one that the page comes from.
 */
export async function compile(examples, dir) {
  const { default: _, ...exported } = await import(join(ROOT, 'pkg/index.js'));
  const imports = `import { ${Object.keys(exported).join(', ')} } from 'ablo-wasm';`;
  await copyFile(PRELUDE, join(dir, 'prelude.ts'));
  for (const { file, line, code } of examples) {
    const module = code.replaceAll(/baseURL: (['"]).*?\1/g, 'baseURL: location.origin');
    const head = /^import /m.test(code) ? '' : imports;
    await mkdir(dirname(join(dir, file)), { recursive: true });
    await writeFile(join(dir, file), head + '\n'.repeat(line - 1) + module);
  }
  const config = JSON.parse(await readFile(join(ROOT, 'tests/types/tsconfig.json'), 'utf8'));
  const declarations = Object.entries(config.compilerOptions.paths);
  const paths = Object.fromEntries(declarations.map(([name, [path]]) => [name, [join(ROOT, 'tests/types', path)]]));
  const own = { paths, noEmit: false, rootDir: '.', outDir: '.', moduleDetection: 'force' };
  const compilerOptions = { ...config.compilerOptions, ...own };
  const files = ['prelude.ts', ...examples.map(({ file }) => file)];
  await writeFile(join(dir, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  return new Promise((resolve) => {
    execFile(join(ROOT, 'node_modules/.bin/tsc'), ['-p', '.'], { cwd: dir }, (error, stdout, stderr) => {
      resolve(error === null ? '' : `${stdout}${stderr}` || error.message);
    });
  });
}

async function filesIn(dir, end) {
  const names = await readdir(join(ROOT, dir), { recursive: true });
  return names.filter((name) => name.endsWith(end)).sort().map((name) => `${dir}/${name}`);
}

function blocksOfDocument(text, source) {
  const blocks = [];
  let open;
  for (const [index, line] of text.split('\n').entries()) {
    const fence = /^\s*```(.*)$/.exec(line)?.[1];
    if (fence === undefined) open?.lines.push(line);
    else if (open !== undefined) open = void blocks.push(open);
    else open = { line: index + 2, language: fence, lines: [] };
  }
  const languages = [...RUNS, ...NOT_CODE];
  const wrong = open ?? blocks.find(({ language }) => !languages.includes(language));
  assert.equal(wrong, undefined, `${source}:${wrong?.line}: a block ends, and is one of ${languages.join(', ')}`);
  return blocks.filter(({ language }) => RUNS.includes(language));
}

function blocksOfComments(text) {
  return [...text.matchAll(/\/\*\*(.*?)\*\//gs)].flatMap(({ 1: comment, index }) => {
    const blocks = [];
    let open;
    const first = text.slice(0, index).split('\n').length;
    for (const [at, raw] of comment.split('\n').entries()) {
      const line = raw.replace(/^\s*\* ?/, '').trimEnd();
      const [, tag, rest] = /^\s*@(\w+) ?(.*)$/.exec(line) ?? [];
      if (tag !== undefined) open = undefined;
      if (tag === 'example') blocks.push((open = { line: first + at, lines: [rest] }));
      // Both ways of writing an example are common: with a fence and without.
      else open?.lines.push(line.replace(/^```.*/, ''));
    }
    return blocks;
  });
}

/** `x; // → 3` becomes a check that `x` is 3. Where that is not possible it becomes a syntax error, not nothing. */
function withCheck(line) {
  return line.replace(/^(\s*)(.*?);?\s*\/\/ → (.*)$/, (_, indent, code, value) => {
    const name = /^const (\w+) =/.exec(code)?.[1];
    return indent + (name === undefined ? '' : `${code}; `) + `expectEqual(${name ?? code}, ${value});`;
  });
}
