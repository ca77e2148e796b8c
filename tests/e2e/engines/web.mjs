// Runs tests/web.rs in the browser that ABLO_BROWSER names: wasm-bindgen's runner serves the page, which is opened
// here. It drives browsers by itself, but Firefox only with a program that would have to be built, and WebKitGTK not.

import { setTimeout as pause } from 'node:timers/promises';
import { Group } from './processes.mjs';

const TESTS_MS = 120_000;
const name = process.env.ABLO_BROWSER;
const { [name]: engine } = await import(`./${name}.mjs`);

// The compiler's words are worth reading, and come before the address.
const cargo = ['test', '--target', 'wasm32-unknown-unknown', '--package', 'ablo-wasm', '--test', 'web'];
const runner = new Group('cargo', cargo, {
  stdio: ['ignore', 'pipe', 'inherit'],
  env: {
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER: 'wasm-bindgen-test-runner',
    WASM_BINDGEN_TEST_ADDRESS: '127.0.0.1:0',
    WASM_BINDGEN_TEST_ONLY_WEB: '1',
    NO_HEADLESS: '1',
  },
});
const BUILD_MS = 1_800_000;
const address = await runner.until(async () => /available at (http:\S+)/.exec(runner.said)?.[1], BUILD_MS);

const context = await engine.newContext();
const page = await context.newPage();
const errors = [];
page.on('pageerror', ({ stack }) => errors.push(stack));
await page.goto(`${address}/`);
const read = () => page.evaluate(() => document.querySelector('#output')?.textContent ?? '');
const end = Date.now() + TESTS_MS;
let output = await read();
while (!output.includes('test result: ') && Date.now() < end) {
  await pause(50);
  output = await read();
}
console.log(output);
const passed = output.includes('test result: ok');
if (!passed) console.log(['the tests did not pass', ...errors].join('\n'));
await context.close();
await engine.close();
await runner.kill();
process.exit(passed ? 0 : 1);
