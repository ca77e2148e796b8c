// What every end-to-end test needs: a real server on a free port, a real browser, and pages that complain.
//
// `cargo xtask e2e` sets ABLO_SERVER, ABLO_BROWSER and where that browser is. Everything that a test starts ends with
// it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test as nodeTest } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { dump, isRecording, recordMinted, recordServer, recordTokens, watch } from './evidence.mjs';
import makeSchema from './pages/schema.js';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SERVER = process.env.ABLO_SERVER ?? join(ROOT, 'target/release/ablo-server');
const ORGANIZATION = 'acme';

/** Options for a server as `cargo xtask demo` starts it. */
export const DEMO = {
  args: [
    ...['--schema', join(ROOT, 'www/schema.json'), '--keys', join(ROOT, 'www/dev-keys.json')],
    ...['--static', join(ROOT, 'www'), '--faults'],
  ],
};

/** What the browser itself says when there is no server. */
export const NO_SERVER = [/net::ERR_/, /WebSocket connection to/, /WebSocket is closed/];

/** The SDK as Node sees it: for building schemas, and for the test that importing it is safe. */
export const sdk = await import(pathToFileURL(join(ROOT, 'pkg/schema.js')).href);

const KEYS = [
  key('ek_test_ada', 'user', 'ada'),
  key('ek_test_grace', 'user', 'grace'),
  key('ek_test_chief', 'user', 'chief', { operations: ['*', 'claim.reorder'] }),
  key('rk_test_bot', 'agent', 'bot'),
  key('rk_test_reader', 'agent', 'reader', { operations: ['projects.*'] }),
  key('sk_test_backend', 'system', 'backend'),
  key('pk_test_public', 'user', 'anybody'),
];

function key(token, participantKind, participantId, more = {}) {
  return { token, participantKind, participantId, organizationId: ORGANIZATION, ...more };
}

const demoKeys = JSON.parse(await readFile(join(ROOT, 'www/dev-keys.json'), 'utf8'));
recordTokens(...[...KEYS, ...demoKeys].map(({ token }) => token));

/** No test needs half of it, in any browser. */
const TEST_MS = 240_000;

/** A test of node that fails when it hangs: the others go on. */
export function test(name, ...rest) {
  const work = rest.pop();
  return nodeTest(name, { timeout: TEST_MS, ...rest[0] }, work);
}

const endings = new WeakMap();

/** Runs `work` when the test is over. What began last ends first: pages before the server that they talk to. */
export function atEnd(t, work) {
  if (endings.has(t)) {
    endings.get(t).push(work);
    return;
  }
  const list = [work];
  endings.set(t, list);
  t.after(async () => {
    const failures = [];
    for (let next = list.pop(); next !== undefined; next = list.pop()) {
      try {
        await next();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  });
}

/** A running `ablo-server` that can be stopped and started again with the same address and data. */
export class Server {
  #dir;
  #args;
  #process;
  #exited;
  #stderr = '';
  port = 0;

  /**
   * @param options `seed` puts rows into the empty database; `schema` is another one than that of the pages; with `anyModel`
   * the server has none; `args` replaces schema, keys and pages; with `faults` it can be told to misbehave
   */
  static async start(t, { seed, schema = makeSchema(sdk), anyModel = false, faults = false, args, more = [] } = {}) {
    const server = new Server();
    server.#dir = await mkdtemp(join(tmpdir(), 'ablo-e2e-'));
    atEnd(t, async () => {
      await server.stop('SIGKILL');
      await rm(server.#dir, { recursive: true, force: true });
    });
    const file = async (name, value) => {
      await writeFile(join(server.#dir, name), JSON.stringify(value));
      return join(server.#dir, name);
    };
    server.#args = args?.slice() ?? [
      ...(anyModel ? [] : ['--schema', await file('schema.json', sdk.toSchemaJSON(schema))]),
      ...['--keys', await file('keys.json', KEYS)],
      ...['--static', `/e2e=${join(ROOT, 'tests/e2e/pages')}`],
    ];
    if (faults) server.#args.push('--faults');
    server.#args.push(...more);
    server.#args.push('--db', join(server.#dir, 'rows.db'), '--log', isRecording ? 'debug' : 'warn', '--static', `/pkg=${join(ROOT, 'pkg')}`);
    if (seed !== undefined) server.#args.push('--seed-file', await file('seed.json', seed), '--seed-organization', ORGANIZATION);
    await server.run();
    return server;
  }

  /** Starts the process; after the first time on the port that it had. */
  async run() {
    const child = spawn(SERVER, ['--listen', `127.0.0.1:${this.port}`, ...this.#args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = child;
    recordServer(child);
    this.#exited = new Promise((resolve) => child.once('exit', resolve));
    child.stderr.on('data', (chunk) => (this.#stderr += chunk));
    const lines = createInterface({ input: child.stdout });
    const first = await Promise.race([
      new Promise((resolve) => lines.once('line', resolve)),
      new Promise((_, reject) => child.once('error', reject)),
      this.#exited.then((code) => assert.fail(`${SERVER} ended with ${code}: ${this.#stderr}`)),
    ]);
    this.port = Number(new URL(/http:\S+/.exec(first)[0]).port);
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Ends the process and waits until it is gone. */
  async stop(signal = 'SIGTERM') {
    this.#process?.kill(signal);
    await this.#exited;
  }

  /** The text of an answer. With a `body`, or the `text` of one that JSON.stringify would not write, a POST. */
  async fetch(path, { token = 'sk_test_backend', body, text = body && JSON.stringify(body), headers } = {}) {
    const response = await fetch(`${this.url}/api${path}`, {
      method: text === undefined ? 'GET' : 'POST',
      body: text,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
    });
    const answer = await response.text();
    if (!response.ok) throw new Error(`${path}: ${response.status} ${answer}`);
    if (path.startsWith('/auth/')) recordMinted(answer);
    return answer;
  }

  /** Makes the server misbehave, if told how (`ablo-server --help`), and says how often it was asked for what. */
  async faults(change = {}) {
    const response = await fetch(`${this.url}/faults`, { method: 'POST', body: JSON.stringify(change) });
    const { requests, error } = await response.json();
    assert.ok(response.ok, JSON.stringify(error));
    const count = (what) => requests[what] ?? 0;
    return {
      probes: count('HEAD /api/auth/check'),
      snapshots: count('GET /api/sync/bootstrap'),
      sockets: count('GET /api/sync/ws'),
      exchanges: count('POST /api/auth/capability'),
    };
  }

  /** A new key for Ada, as the application's own backend would ask for it. */
  async mint(ttlSeconds = 900) {
    return JSON.parse(await this.fetch('/auth/ephemeral-keys', { body: { user: { id: 'ada' }, ttlSeconds } }));
  }

  /** All rows of a model, as the server has them. */
  async rows(typename) {
    return JSON.parse(await this.fetch('/sync/bootstrap')).models[typename];
  }

  /** A commit from outside, as another participant. */
  async commit(...operations) {
    const clientTxId = crypto.randomUUID();
    const body = { clientTxId, idempotencyKey: clientTxId, operations };
    return JSON.parse(await this.fetch('/v1/commits', { body, headers: { 'idempotency-key': clientTxId }, token: 'rk_test_bot' }));
  }
}

const BROWSER = process.env.ABLO_BROWSER ?? 'chromium';
/** The browser that these tests run in: `name` is chromium, firefox or webkit. */
export const { [BROWSER]: engine } = await import(`./engines/${BROWSER}.mjs`);

after(() => engine.close());

/** For `skip` of a test that needs what only some browsers have, or only they let a test do. */
export const unlessIn = (names, what) => !names.includes(engine.name) && `${what}: in ${names.join(' and ')} only`;

/** A browser of somebody: pages of one context share storage, contexts share nothing. */
export async function openContext(t, options = {}) {
  const context = await engine.newContext(options);
  atEnd(t, () => context.close());
  return context;
}

/**
 * A browser of its own, with a profile on the disk that survives its end. Its pages come without the server's help.
 */
export class Profile {
  #dir;
  context;

  static async open(t, server) {
    const profile = new Profile();
    profile.#dir = await mkdtemp(join(tmpdir(), 'ablo-profile-'));
    atEnd(t, async () => {
      await profile.context.close();
      await rm(profile.#dir, { recursive: true, force: true });
    });
    await profile.run(server);
    return profile;
  }

  /** Starts the browser. */
  async run(server) {
    this.context = await engine.openProfile(this.#dir, this.context);
    await servePages(this.context, server);
  }

  /** Ends the browser as a crash does, and waits until it is gone. */
  kill() {
    return engine.kill(this.context);
  }
}

/** Answers for the server where it serves files, so that pages can be opened while it is gone. */
export async function servePages(context, server) {
  // The browser does not know where such a page comes from.
  await context.grantPermissions(['local-network-access'], { origin: server.url });
  for (const [path, dir] of [['/e2e/', 'tests/e2e/pages'], ['/pkg/', 'pkg']]) {
    await context.route(`${server.url}${path}**`, (route) => {
      return route.fulfill({ path: join(ROOT, dir, new URL(route.request().url()).pathname.slice(path.length)) });
    });
  }
}

/**
 * Opens a page. The test fails when the page reports an error that none of `page.expected` fits; `page.requests` lists the
 * addresses that it asked for.
 */
export async function openPage(t, server, { path = '/e2e/lab.html', context, ready = () => globalThis.isLoaded, expected = [] } = {}) {
  const page = await (context ?? (await openContext(t))).newPage();
  const errors = [];
  page.expected = [...expected];
  page.requests = [];
  await watch(page);
  page.on('request', (request) => page.requests.push(new URL(request.url()).pathname));
  page.on('pageerror', (error) => errors.push(error.stack ?? String(error)));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) errors.push(`${message.type()}: ${message.text()}`);
  });
  atEnd(t, async () => {
    await dump(page);
    await page.settle?.();
    const unexpected = errors.filter((text) => !page.expected.some((pattern) => pattern.test(text)));
    assert.deepEqual(unexpected, [], 'the page reported errors');
  });
  await page.goto((server.url ?? server) + path);
  if (ready) await page.waitForFunction(ready);
  return page;
}

/** The page of a client that is ready, as `window.ablo`. */
export async function openClient(t, server, { options = {}, ...rest } = {}) {
  const page = await openPage(t, server, rest);
  await page.evaluate(async (given) => {
    globalThis.ablo = make(given);
    await ablo.ready();
  }, options);
  return page;
}

/** How often the page asked for a path that ends so. */
export function countRequests(page, end) {
  return page.requests.filter((path) => path.endsWith(end)).length;
}

/** How often the page has loaded a file whose address ends so: not every browser's driver tells of modules. */
export function countLoads(page, end) {
  return page.evaluate((text) => performance.getEntriesByType('resource').filter(({ name }) => name.endsWith(text)).length, end);
}
