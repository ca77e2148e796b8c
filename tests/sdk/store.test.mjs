/** The storage in memory, which other tests work with, behaves like the real one: `tests/e2e/store.test.mjs`. */

import { test } from 'node:test';

import { cases } from '../store/cases.mjs';
import { memoryWorld } from '../store/memory-world.mjs';

for (const [name, run] of Object.entries(cases)) test(name, () => run(memoryWorld()));
