// Measures the budgets in a real browser against the real server. `cargo xtask bench` builds both and starts this.
//
// Reading order: FIGURES (what is measured, and the budgets), `measure` (one run), page/bench.js (the work in the page).

import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { cpus, loadavg, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { brotliCompressSync, constants } from 'node:zlib';
import { openBrowser, openPage, PKG, startServer } from './setup.mjs';

const HELP = `Usage: cargo xtask bench [--quick] [--rounds N] [--only WORD]

Prints a table and writes benches/results/<date>.json and latest.md.

  --quick      2 rounds instead of 7
  --rounds N   how often everything is measured; the table shows medians
  --only WORD  only the groups whose name contains it: size, ready, small, deltas, large, memory, storage; writes no results
`;

const BUDGET = new URL('../xtask/size-budget.json', import.meta.url);
const RESULTS = fileURLToPath(new URL('results', import.meta.url));
const DELTAS = 5000;
const MB = 1e6;
/** How often a group's work is done in the page before it counts: browsers compile WebAssembly well only once it is hot. */
const WARM_UP = { small: 3, deltas: 5, large: 1 };

/**
 * Each: `label`, `unit`, `of(m)` the samples, and perhaps `floor(m)` (samples of what cannot be avoided), `budget` and
 * `stretch` (a value, or a function of the floor).
 */
const FIGURES = [
  { group: 'size', label: 'whole package, brotli', unit: 'KB', of: (m) => m.size, budget: 110, stretch: 85 },
  ...['10,000', '100,000'].flatMap((rows, at) => {
    const set = ['small', 'large'][at];
    const shared = { group: 'ready', unit: 'ms', floor: (m) => m.floor[set], budget: (floor) => 2 * floor, stretch: (floor) => 1.3 * floor };
    return [
      { ...shared, label: `ready(), ${rows} rows`, of: (m) => m.ready[set] },
      { ...shared, label: `ready(), ${rows} rows, with loading the module`, of: (m) => m.readyCold[set], budget: undefined, stretch: undefined },
    ];
  }),
  { group: 'small', label: 'get(id), hot', unit: 'ns', of: (m) => m.small.get, budget: 60, stretch: 30 },
  { group: 'small', label: 'getAll({where, orderBy, limit: 50}), 10,000 rows, first', unit: 'ms', of: (m) => m.small.queryFirst, budget: 0.5, stretch: 0.2 },
  { group: 'small', label: 'the same, very first: no column is there', unit: 'ms', of: (m) => m.small.queryCold },
  { group: 'small', label: 'the same, in a page that has just started', unit: 'ms', of: (m) => m.cold.small.queryFirst },
  { group: 'small', label: 'the same, repeated', unit: 'µs', of: (m) => m.small.queryAgain.map((ms) => ms * 1000), budget: 2, stretch: 0.5 },
  { group: 'large', label: 'one row changes under a sorted list of 100,000, first 50 shown', unit: 'ms', of: (m) => m.large.localWindow, budget: 0.5, stretch: 0.1 },
  { group: 'large', label: 'the same, changed by another user (message to call back)', unit: 'ms', of: (m) => m.large.remoteWindow, budget: 0.5, stretch: 0.1 },
  { group: 'large', label: 'the same, all 100,000 shown', unit: 'ms', of: (m) => m.large.localWhole, budget: 0.5, stretch: 0.1 },
  { group: 'large', label: 'opening that list, first 50 shown', unit: 'ms', of: (m) => m.large.openWindow },
  { group: 'small', label: 'update(), synchronous part', unit: 'µs', of: (m) => m.small.update, budget: 5, stretch: 2 },
  { group: 'small', label: 'the same, in a page that has just started', unit: 'µs', of: (m) => m.cold.small.update },
  { group: 'small', label: 'confirmed write on loopback', unit: 'ms', of: (m) => m.small.confirmed, floor: (m) => m.small.roundTrip, budget: (floor) => floor + 3, stretch: (floor) => floor + 1 },
  { group: 'deltas', label: `applying a delta, batch of ${DELTAS}, one list`, unit: 'µs', of: (m) => m.deltas.us, floor: (m) => m.deltas.floor, budget: 3, stretch: 1.5 },
  { group: 'deltas', label: 'the same, in a page that has just started', unit: 'µs', of: (m) => m.cold.deltas.us },
  { group: 'memory', label: 'memory, 100,000 rows: wasm', unit: 'MB', of: (m) => m.memory.wasm },
  { group: 'memory', label: 'memory, 100,000 rows: wasm + JS heap', unit: 'MB', of: (m) => m.memory.ready, budget: 80, stretch: 45 },
  { group: 'memory', label: 'the same, after every row was read', unit: 'MB', of: (m) => m.memory.read },
  { group: 'storage', label: 'warm start to first get, 100,000 rows, no network', unit: 'ms', of: (m) => m.storage.warmOffline, budget: 300, stretch: 150 },
  { group: 'storage', label: 'the same with a network', unit: 'ms', of: (m) => m.storage.warmOnline, budget: 300, stretch: 150 },
  { group: 'storage', label: 'first start, 5,000 rows (floor: in memory)', unit: 'ms', of: (m) => m.storage.indexeddb, floor: (m) => m.storage.memory, budget: (floor) => 1.5 * floor, stretch: (floor) => 1.1 * floor },
  { group: 'storage', label: '1,000 offline writes journaled', unit: 'ms', of: (m) => m.storage.journal, budget: 100, stretch: 40 },
];

const { values: args } = parseArgs({
  options: { quick: { type: 'boolean' }, rounds: { type: 'string' }, only: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
});
if (args.help) {
  process.stdout.write(HELP);
  process.exit(0);
}
const rounds = args.rounds === undefined ? (args.quick ? 2 : 7) : Number(args.rounds);
if (!(Number.isInteger(rounds) && rounds > 0)) {
  process.stderr.write(`--rounds must be a positive integer, got ${args.rounds}\n`);
  process.exit(2);
}
const wants = (group) => args.only === undefined || group.includes(args.only);

const table = report(await measure());
process.stdout.write(`\n${table}`);

async function measure() {
  const m = { size: [], floor: {}, ready: {}, readyCold: {}, small: {}, deltas: {}, large: {}, cold: { small: {}, deltas: {}, large: {} }, memory: { wasm: [], ready: [], read: [] }, storage: {}, load: loadavg()[0] };
  if (wants('size')) m.size.push((await packageSize()) / 1024);
  if (!['ready', 'small', 'deltas', 'large', 'memory', 'storage'].some(wants)) return m;
  const server = await startServer();
  const browser = await openBrowser();
  try {
    m.browser = browser.version();
    // The first round only warms up: the server's memory, the disk cache of the browser.
    for (let round = 0; round <= rounds; round += 1) {
      const into = round === 0 ? structuredClone(m) : m;
      process.stderr.write(round === 0 ? 'warming up\n' : `round ${round} of ${rounds}\n`);
      await measureOnce(await browser.newContext(), server, into);
    }
  } finally {
    await browser.close();
    server.stop();
  }
  return m;
}

async function measureOnce(context, server, m) {
  /** A fresh page for each group, so that none inherits the garbage of another. */
  const inPage = async (group, work) => {
    if (!wants(group)) return;
    const page = await openPage(context, server);
    await work(page);
    await page.close();
  };
  for (const set of ['small', 'large']) {
    await inPage('ready', async (page) => {
      const cold = await page.evaluate((name) => bench.ready(name), set);
      add(m.readyCold, { [set]: cold.ms });
      for (let times = 0; times < 3; times += 1) {
        const { ms, count } = await page.evaluate((name) => bench.ready(name), set);
        const floor = await page.evaluate((name) => bench.floorOfReady(name), set);
        if (floor.rows !== count) throw new Error(`${count} rows are here, ${floor.rows} on the server`);
        add(m.ready, { [set]: ms });
        add(m.floor, { [set]: floor.ms });
        m.bytesPerRow = Math.round(floor.bytes / floor.rows);
      }
    });
  }
  for (const [group, count] of [['small'], ['deltas', DELTAS], ['large']]) {
    await inPage(group, async (page) => {
      for (let times = 0; times <= WARM_UP[group]; times += 1) {
        const samples = await page.evaluate(([name, given]) => bench[name](given), [group, count]);
        if (times === 0) add(m.cold[group], samples);
        if (times === WARM_UP[group]) add(m[group], samples);
      }
    });
  }
  await inPage('memory', async (page) => {
    const cdp = await context.newCDPSession(page);
    const heap = async () => {
      await cdp.send('HeapProfiler.collectGarbage');
      return (await cdp.send('Runtime.getHeapUsage')).usedSize;
    };
    const empty = await heap();
    const wasm = await page.evaluate(() => bench.hold());
    m.memory.ready.push((wasm + (await heap()) - empty) / MB);
    const later = await page.evaluate(() => bench.readAll());
    m.memory.read.push((later + (await heap()) - empty) / MB);
    m.memory.wasm.push(wasm / MB);
  });
  await inPage('storage', async (page) => {
    add(m.storage, await page.evaluate(() => bench.firstStart()));
    add(m.storage, { journal: await page.evaluate(() => bench.journal()) });
    await page.evaluate(() => bench.store());
  });
  for (const [name, offline] of [['warmOnline', false], ['warmOffline', true]]) {
    await inPage('storage', async (page) => {
      await page.evaluate(() => bench.load());
      await context.setOffline(offline);
      add(m.storage, { [name]: await page.evaluate(() => bench.warmStart()) });
      await context.setOffline(false);
    });
  }
  await context.close();
}

/** Adds samples: numbers and lists of numbers, by name. */
function add(into, samples) {
  for (const [name, value] of Object.entries(samples)) into[name] = [...(into[name] ?? []), ...[value].flat()];
}

async function packageSize() {
  const { not_counted: notCounted } = JSON.parse(await readFile(BUDGET, 'utf8'));
  const names = (await readdir(PKG)).filter((name) => /\.(js|wasm)$/.test(name) && !notCounted.includes(name));
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11 };
  const sizes = await Promise.all(names.map(async (name) => brotliCompressSync(await readFile(join(PKG, name)), { params }).length));
  return sizes.reduce((sum, size) => sum + size, 0);
}

function report(m) {
  const rows = FIGURES.filter(({ group }) => wants(group)).map((figure) => {
    const samples = figure.of(m).filter((value) => value >= 0);
    const measured = median(samples);
    const floor = figure.floor && median(figure.floor(m));
    const [budget, stretch] = [figure.budget, figure.stretch].map((limit) => (typeof limit === 'function' ? limit(floor) : limit));
    const verdict = budget === undefined ? '' : measured <= stretch ? 'stretch' : measured <= budget ? 'ok' : 'OVER';
    const { label, unit } = figure;
    return { figure: label, unit, budget, stretch, measured, floor, verdict, spread: [quantile(samples, 0.1), quantile(samples, 0.9)], samples: samples.length };
  });
  const text = markdown(rows, m);
  if (args.only === undefined) save(rows, m, text);
  return text;
}

async function save(rows, m, text) {
  const date = new Date().toISOString().slice(0, 10);
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, memoryGB: Math.round(totalmem() / 2 ** 30), browser: m.browser };
  await mkdir(RESULTS, { recursive: true });
  await writeFile(join(RESULTS, `${date}.json`), `${JSON.stringify({ date, rounds, machine, load: m.load, bytesPerRow: m.bytesPerRow, rows }, null, 2)}\n`);
  await writeFile(join(RESULTS, 'latest.md'), `# Benchmarks\n\n${date}, ${machine.cores} cores (${machine.cpu}), Chromium ${m.browser}, ${rounds} rounds. \`cargo xtask bench\` makes this file.\n\n${text}`);
}

function markdown(rows, m) {
  const show = (value, unit) => (value === undefined ? '' : `${round(value)} ${unit}`);
  const cells = rows.map(({ figure, unit, budget, stretch, measured, spread, samples, floor, verdict }) => {
    const range = samples === 1 ? '' : spread.map(round).join(' – ');
    return [figure, show(budget, unit), show(stretch, unit), show(measured, unit), range, show(floor, unit), verdict];
  });
  const all = [['figure', 'budget', 'stretch', 'measured', '10 % – 90 %', 'floor', 'verdict'], ...cells];
  const widths = all[0].map((_, at) => Math.max(...all.map((row) => row[at].length)));
  const line = (row) => `| ${row.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at]))).join(' | ')} |`;
  const rule = `|${widths.map((width, at) => (at === 0 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`;
  const busy = m.load > cpus().length / 2 ? `\nOther programs were running (load ${m.load.toFixed(1)} before the start): not figures to compare with.\n` : '';
  const note = m.bytesPerRow === undefined ? '' : `\nRows of nine fields, ${m.bytesPerRow} bytes each. Medians; floors are measured in the same run.\n`;
  return `${[line(all[0]), rule, ...all.slice(1).map(line)].join('\n')}\n${note}${busy}`;
}

function round(value) {
  return value >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

function median(samples) {
  return quantile(samples, 0.5);
}

function quantile(samples, share) {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  return low + (high - low) * (at - Math.floor(at));
}
