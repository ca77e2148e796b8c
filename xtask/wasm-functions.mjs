/**
 * What a WebAssembly module consists of: its largest functions, alone and grouped by the path in their names.
 *
 * Usage: node wasm-functions.mjs FILE [DEPTH]. The module must still have its name section. Functions that differ only
 * in their type arguments are one group: many small copies of one generic function are easily overlooked.
 */

import { readFileSync } from 'node:fs';

const SHOWN = 30;
const [IMPORTS, CODE, CUSTOM] = [2, 10, 0];
const FUNCTION_NAMES = 1;

const bytes = readFileSync(process.argv[2]);
const depth = Number(process.argv[3] ?? 3);
let at = 0;

function number() {
  let result = 0;
  let scale = 1;
  let byte;
  do {
    byte = bytes[at++];
    result += (byte & 127) * scale;
    scale *= 128;
  } while (byte & 128);
  return result;
}

function text() {
  const length = number();
  at += length;
  return bytes.toString('utf8', at - length, at);
}

function limits() {
  const hasMaximum = number() & 1;
  number();
  if (hasMaximum) number();
}

/** How many functions are imported: they come before the module's own in the numbering. */
function importedFunctions() {
  const SKIP = [() => number(), () => { at++; limits(); }, limits, () => { at += 2; }, () => { at++; number(); }];
  let functions = 0;
  for (let left = number(); left > 0; left--) {
    text();
    text();
    const kind = bytes[at++];
    if (kind === 0) functions++;
    SKIP[kind]();
  }
  return functions;
}

function functionSizes() {
  return Array.from({ length: number() }, () => {
    const size = number();
    at += size;
    return size;
  });
}

function functionNames(end) {
  const names = new Map();
  while (at < end) {
    const kind = bytes[at++];
    const next = number() + at;
    if (kind === FUNCTION_NAMES) {
      for (let left = number(); left > 0; left--) names.set(number(), text());
    }
    at = next;
  }
  return names;
}

let imported = 0;
let sizes = [];
let names = new Map();
for (at = 8; at < bytes.length; ) {
  const id = bytes[at++];
  const end = number() + at;
  if (id === IMPORTS) imported = importedFunctions();
  if (id === CODE) sizes = functionSizes();
  if (id === CUSTOM && text() === 'name') names = functionNames(end);
  at = end;
}

/** `<&mut a::B as c::D>::e::h0123` → `a::B as c::D>::e`. */
const readable = (name) => name.replace(/::h[0-9a-f]{16}$/, '').replace(/\[[0-9a-f]{16}\]/g, '').replace(/^<&?(mut )?/, '');
const functions = sizes.map((size, index) => [readable(names.get(index + imported) ?? 'without a name'), size]);

function print(title, rows) {
  const total = rows.reduce((sum, [, size]) => sum + size, 0);
  console.log(`\n${title}, of ${total} bytes of code before wasm-opt`);
  for (const [name, size, count] of rows.sort((a, b) => b[1] - a[1]).slice(0, SHOWN)) {
    console.log(`${String(size).padStart(8)}  ${name.slice(0, 150)}${count > 1 ? `  (${count})` : ''}`);
  }
}

function grouped(key) {
  const groups = new Map();
  for (const [name, size] of functions) {
    const group = groups.get(key(name)) ?? [key(name), 0, 0];
    group[1] += size;
    group[2]++;
    groups.set(group[0], group);
  }
  return [...groups.values()];
}

print('groups', grouped((name) => name.split('::').slice(0, depth).join('::')));
print('functions, copies together', grouped((name) => name));
