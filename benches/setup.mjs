// The server with its rows, and the browser.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import makeSchema from './page/schema.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const SERVER = process.env.ABLO_SERVER ?? join(ROOT, 'target/release/ablo-server');
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const CHROMIUM_ARGS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  ...['--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--disable-background-timer-throttling'],
  // A page whose headers were added on the way (below) no longer counts as local.
  '--disable-features=LocalNetworkAccessChecks',
];
const SETS = { some: 5_000, small: 10_000, large: 100_000 };
const PROJECTS = 20;
const STATUSES = ['todo', 'doing', 'done'];

export const PKG = join(ROOT, 'pkg');

/** Starts the server with one organization per data set. */
export async function startServer() {
  const dir = mkdtempSync(join(tmpdir(), 'ablo-bench-'));
  const file = (name, value) => {
    writeFileSync(join(dir, name), JSON.stringify(value));
    return join(dir, name);
  };
  const { toSchemaJSON, ...dsl } = await import(pathToFileURL(join(PKG, 'schema.js')).href);
  const keys = Object.keys(SETS).flatMap((set) => [key(`ek_test_${set}`, set), key(`ek_test_${set}-writer`, set, 'writer')]);
  const args = [
    ...['--listen', '127.0.0.1:0', '--db', join(dir, 'rows.db'), '--log', 'warn'],
    ...['--schema', file('schema.json', toSchemaJSON(makeSchema(dsl))), '--keys', file('keys.json', keys)],
    ...['--static', join(ROOT, 'benches/page'), '--static', `/pkg=${PKG}`],
  ];
  const child = spawn(SERVER, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const stop = () => {
    child.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  };
  process.on('exit', stop);
  const first = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', resolve);
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`${SERVER} ended with ${code}`)));
  });
  const url = /http:\S+/.exec(first)[0];
  for (const [set, count] of Object.entries(SETS)) await fill(url, set, count);
  return { url, stop };
}

function key(token, organizationId, participantId = 'reader') {
  return { token, participantKind: 'user', participantId, organizationId };
}

async function fill(url, set, count) {
  for (let from = 0; from < count; from += 1000) {
    const operations = Array.from({ length: 1000 }, (_, at) => row(from + at));
    const clientTxId = `fill-${set}-${from}`;
    const response = await fetch(`${url}/api/v1/commits`, {
      method: 'POST',
      headers: { authorization: `Bearer ek_test_${set}-writer`, 'content-type': 'application/json', 'idempotency-key': clientTxId },
      body: JSON.stringify({ clientTxId, idempotencyKey: clientTxId, operations }),
    });
    if (!response.ok) throw new Error(`filling ${set}: ${response.status} ${await response.text()}`);
  }
}

function row(at) {
  // A fixed shuffle, so that ranks are not in the order of creation.
  const rank = (at * 7919) % 99991;
  const data = { title: `Review the export of invoice ${at}`, status: STATUSES[at % 3], rank, projectId: `project-${at % PROJECTS}` };
  return { action: 'create', model: 'tasks', id: `task-${String(at).padStart(8, '0')}-4f1c-9d2a`, data };
}

export function openBrowser() {
  return chromium.launch({ executablePath: CHROMIUM, args: CHROMIUM_ARGS });
}

/** Opens the page, isolated from other origins: that is what gives it a fine clock. */
export async function openPage(context, server) {
  const page = await context.newPage();
  page.on('pageerror', (error) => process.stderr.write(`page: ${error.stack}\n`));
  await page.route(`${server.url}/`, async (route) => {
    const response = await route.fetch();
    const headers = { ...response.headers(), 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };
    await route.fulfill({ response, headers });
  });
  await page.goto(`${server.url}/`);
  await page.waitForFunction(() => globalThis.bench !== undefined && crossOriginIsolated);
  return page;
}
