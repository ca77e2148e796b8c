// The demo application, used the way people do.

import assert from 'node:assert/strict';
import { DEMO, NO_SERVER, openContext, openPage, Server, test } from './harness.mjs';

const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };

const open = (t, server, { path = '/', ...options } = {}) =>
  openPage(t, server, { path, ready: () => document.querySelector('.column') && globalThis.ablo.tasks.getCount() > 0, ...options });

const column = (page, status) => page.locator(`.column[data-status="${status}"]`);
const card = (page, title) => page.locator('.card', { hasText: title });
const inColumn = (page, status, title) => column(page, status).locator('.card', { hasText: title }).waitFor();
const unsaved = (page) => page.evaluate(() => ablo.status.pendingWrites);

test('the board of one shows what the other does', async (t) => {
  const server = await Server.start(t, DEMO);
  const ada = await open(t, server);
  const grace = await open(t, server, { path: '/?user=grace' });

  await column(ada, 'todo').locator('.add').click();
  await ada.keyboard.type('Water the plants');
  await ada.keyboard.press('Enter');
  await ada.keyboard.press('Escape');
  await inColumn(grace, 'todo', 'Water the plants');

  await card(grace, 'Water the plants').locator('.ring-button').click();
  await inColumn(ada, 'doing', 'Water the plants');

  await card(ada, 'Water the plants').locator('.title').click();
  await ada.keyboard.type('Water all plants');
  await ada.keyboard.press('Enter');
  await card(grace, 'Water all plants').waitFor();

  await card(ada, 'Water all plants').locator('select').first().selectOption('high');
  await card(ada, 'Water all plants').locator('select').last().selectOption('grace');
  await grace.locator('.card[data-priority="high"]', { hasText: 'Water all plants' }).locator('.avatar', { hasText: 'GH' }).waitFor();

  await card(grace, 'Water all plants').dragTo(column(grace, 'done').locator('.card').first());
  await inColumn(ada, 'done', 'Water all plants');

  await card(ada, 'Water all plants').hover();
  await card(ada, 'Water all plants').locator('.remove').click();
  await card(grace, 'Water all plants').waitFor({ state: 'detached' });
  assert.equal(await unsaved(ada), 0);
});

test('the keyboard does all of it', async (t) => {
  const server = await Server.start(t, DEMO);
  const page = await open(t, server);
  const title = await column(page, 'todo').locator('.card .title').first().textContent();
  await column(page, 'todo').locator('.add').focus();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Shift+ArrowRight');
  await inColumn(page, 'doing', title);
  const focused = () => page.evaluate(() => document.activeElement.closest('.card')?.querySelector('.title, .edit').textContent ?? null);
  assert.equal(await focused(), title);
  await page.keyboard.press('Enter');
  await page.keyboard.type('By keyboard');
  await page.keyboard.press('Enter');
  await inColumn(page, 'doing', 'By keyboard');
  await page.keyboard.press('Delete');
  await card(page, 'By keyboard').waitFor({ state: 'detached' });
});

test('offline work is kept on the device, outlives a reload, and is sent', async (t) => {
  const server = await Server.start(t, DEMO);
  const ada = await open(t, server);
  const grace = await open(t, server, { path: '/?user=grace' });
  await ada.locator('.switch').click();
  await ada.locator('.pill[data-tone="off"]').waitFor();
  const title = await column(ada, 'todo').locator('.card .title').first().textContent();
  await card(ada, title).locator('.ring-button').click();
  await inColumn(ada, 'doing', title);
  await card(ada, title).locator('.save[data-state="journaled"]', { hasText: 'On this device' }).waitFor();
  await ada.locator('.pending', { hasText: '1 unsaved' }).waitFor();
  await ada.locator('.outbox').click();
  await ada.locator('.waiting li', { hasText: title }).filter({ hasText: 'Saved on this device' }).waitFor();
  assert.equal(await column(grace, 'todo').locator('.card', { hasText: title }).count(), 1);

  // The switch is not remembered: what the last page could not send, this one does.
  await ada.reload();
  await inColumn(grace, 'doing', title);
  await inColumn(ada, 'doing', title);
  await ada.locator('.pending').waitFor({ state: 'hidden' });
  await ada.locator('.outbox').click();
  await ada.locator('.waiting', { hasText: 'everything is saved' }).waitFor();
  await ada.locator('.storage[data-tone="good"]', { hasText: / of \d/ }).waitFor();
});

test('the connection tells its story', async (t) => {
  const server = await Server.start(t, DEMO);
  const page = await open(t, server);
  const story = page.locator('.story');
  const states = () => story.locator('.history li').evaluateAll((lines) => lines.map(({ dataset }) => dataset.state));
  const press = (name) => story.getByRole('button', { name }).click();
  await page.locator('.pill[data-tone="good"]', { hasText: 'Live' }).waitFor();

  // The keyboard opens it, is next in it, and closes it.
  await page.locator('.pill').focus();
  await page.keyboard.press('Enter');
  await story.getByRole('heading', { name: 'Connection: Live' }).waitFor();
  await story.locator('.who', { hasText: 'Ada Lovelace in “demo”' }).waitFor();
  await page.keyboard.press('Tab');
  assert.ok(await story.evaluate((element) => element.contains(document.activeElement)));
  await page.keyboard.press('Escape');
  await story.waitFor({ state: 'hidden' });
  assert.ok(await page.locator('.pill').evaluate((element) => element === document.activeElement));

  await page.locator('.pill').click();
  await press('Go offline');
  await story.locator('.name', { hasText: 'Offline' }).waitFor();
  assert.ok(await page.locator('#offline').isChecked(), 'the switch goes along');
  await page.evaluate(() => ablo.tasks.update({ id: ablo.tasks.getAll()[0].id, data: { title: 'Offline' } }));
  await story.locator('.unsent', { hasText: '1' }).waitFor();
  await press('Go online');
  await story.locator('.name', { hasText: 'Live' }).waitFor();
  await story.locator('.unsent', { hasText: 'nothing' }).waitFor();
  const [now, ...before] = await states();
  assert.equal(now, 'connected');
  assert.ok(before.indexOf('offline') > 0, 'what came between is there too');
  assert.equal(await story.locator('.next').textContent(), '–');

  // Without a server: the reason, and when it is tried again.
  page.expected.push(...NO_SERVER);
  await server.stop('SIGKILL');
  await story.locator('.name', { hasText: 'Waiting' }).waitFor();
  await story.locator('.next', { hasText: /^in \d+\.\d s$/ }).waitFor();
  await story.locator('.code', { hasText: 'commit_no_result' }).waitFor();
  await story.locator('.why', { hasText: 'The server cannot be reached.' }).waitFor();
  await server.run();
  await press('Try now');
  await story.locator('.name', { hasText: 'Live' }).waitFor();
  await story.locator('.reason').waitFor({ state: 'hidden' });
  await press('Wake up');
  assert.ok((await states()).length <= 20);
});

test('the server misbehaves at the press of a button, and all ends well', async (t) => {
  const server = await Server.start(t, DEMO);
  const page = await open(t, server, { expected: [...NO_SERVER, /401|403|503/] });
  const story = page.locator('.story');
  const press = (name) => story.getByRole('button', { name }).click();
  await page.locator('.pill').click();
  await story.getByRole('heading', { name: 'Connection: Live' }).waitFor();

  await press('Too busy');
  await story.locator('.name', { hasText: 'Waiting' }).waitFor();
  await story.locator('.next', { hasText: /^in \d+\.\d s$/ }).waitFor();
  await press('All well again');
  await press('Try now');
  await story.locator('.name', { hasText: 'Live' }).waitFor();

  await press('Key revoked');
  await story.locator('.name', { hasText: 'No access' }).waitFor();
  await story.locator('.code', { hasText: 'apikey_revoked' }).waitFor();
  await press('All well again');
  await press('Try now');
  await story.locator('.name', { hasText: 'Live' }).waitFor();

  await press('Login ends');
  await story.locator('.name', { hasText: 'Signed out' }).waitFor();
  await press('All well again');
  await page.reload();
  await page.locator('.pill', { hasText: 'Live' }).waitFor();
  const asked = page.requests.filter((path) => path.includes('ek_test'));
  assert.deepEqual(asked, [], 'no key is in an address');
});

test('what the server refuses can be edited, tried again and given up', async (t) => {
  const server = await Server.start(t, DEMO);
  const page = await open(t, server);
  const refused = page.locator('.refused li');
  await page.locator('.outbox').click();
  await page.locator('.provoke').click();
  await refused.filter({ hasText: 'check_violation' }).waitFor();
  const cells = () => refused.locator('tbody').locator('th, td').allTextContents();
  const [field, yours, now] = await cells();
  const other = now === 'high' ? 'low' : 'high';
  assert.deepEqual([field, yours], ['priority', 'urgent']);
  const [{ operations }] = await page.evaluate(() => ablo.outbox.list());
  const first = page.locator(`.card[data-id="${operations[0].id}"]`);
  assert.equal(await first.getAttribute('data-priority'), now, 'what is shown as the value now is that of the board');
  await first.locator('.save[data-state="rejected"]').waitFor();

  await refused.getByRole('button', { name: 'Retry' }).click();
  await refused.filter({ hasText: 'check_violation' }).waitFor();
  assert.equal(await refused.count(), 1, 'refused again, and kept once');

  // Refused writes are on the device as well.
  await page.reload();
  await page.locator('.badge', { hasText: '1' }).waitFor();
  await page.locator('.outbox').click();
  await refused.getByRole('button', { name: 'Edit' }).click();
  await refused.getByLabel('priority').selectOption(other);
  await refused.getByRole('button', { name: 'Send' }).click();
  await refused.waitFor({ state: 'detached' });
  await page.locator('.sheet header button').click();
  await page.locator(`.card[data-id="${operations[0].id}"][data-priority="${other}"]`).waitFor();
  await page.waitForFunction(() => ablo.status.pendingWrites === 0);

  await page.locator('.outbox').click();
  await page.locator('.provoke').click();
  await refused.getByRole('button', { name: 'Discard' }).click();
  await refused.waitFor({ state: 'detached' });
  await page.locator('.badge').waitFor({ state: 'hidden' });
});

test('the busy agent moves data on the server', async (t) => {
  const server = await Server.start(t, DEMO);
  const page = await open(t, server);
  const watcher = await open(t, server, { path: '/?user=grace' });
  await watcher.evaluate(() => {
    globalThis.changes = 0;
    ablo.subscribe(() => (changes += 1));
  });
  await page.locator('.agent.busy').click();
  await watcher.waitForFunction(() => globalThis.changes > 20);
  await page.waitForFunction(() => [...document.querySelectorAll('.card')].some((card) => card.getAnimations().length > 0));
  await page.locator('.agent.busy').click();
  await page.locator('.agent.busy[aria-pressed="false"]').waitFor();
});

test('100,000 tasks: filled, complete and fluid', async (t) => {
  const server = await Server.start(t, DEMO);
  const began = performance.now();
  const page = await open(t, server, { path: '/?data=load-100k', ready: null });
  await page.locator('.card').first().waitFor({ timeout: 60_000 });
  t.diagnostic(`filled and shown in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  const again = performance.now();
  await page.reload();
  await page.locator('.card').first().waitFor({ timeout: 60_000 });
  t.diagnostic(`reloaded and shown in ${((performance.now() - again) / 1000).toFixed(1)} s`);
  assert.equal(await page.evaluate(() => ablo.tasks.getCount()), 100_000);
  assert.ok((await page.locator('.card').count()) < 200, 'only what is in sight exists');
  const slowest = await page.evaluate(async () => {
    const scroller = document.querySelector('.scroller');
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    let worst = 0;
    for (let step = 1; step <= 60; step += 1) {
      const at = performance.now();
      scroller.scrollTop = step * 2000;
      await frame();
      await frame();
      worst = Math.max(worst, performance.now() - at);
    }
    return worst;
  });
  t.diagnostic(`slowest of 60 long scrolls: ${slowest.toFixed(0)} ms for two frames`);
  const shown = await page.evaluate(() => {
    const box = document.querySelector('.scroller').getBoundingClientRect();
    return [...document.querySelectorAll('.column[data-status="todo"] .card')].filter((element) => {
      const own = element.getBoundingClientRect();
      return own.bottom > box.top && own.top < box.bottom;
    }).length;
  });
  assert.ok(shown >= 4, `${shown} cards in sight after scrolling`);
});

test('it fits a phone', async (t) => {
  const server = await Server.start(t, DEMO);
  const context = await openContext(t, PHONE);
  const page = await open(t, server, { context });
  const fits = () =>
    page.evaluate(() => {
      const parts = [document.documentElement, ...document.querySelectorAll('dialog[open], .story, .top')];
      return parts.every((element) => element.scrollWidth <= innerWidth && element.getBoundingClientRect().right <= innerWidth);
    });
  assert.ok(await fits(), 'nothing sticks out');
  await page.locator('.pill').tap();
  await page.locator('.story .history li').first().waitFor();
  assert.ok(await fits(), 'the story of the connection fits too');
  await page.locator('.story header button').tap();
  await page.locator('.outbox').tap();
  await page.locator('.provoke').tap();
  await page.locator('.refused li').waitFor();
  assert.ok(await fits(), 'the outbox fits too');
  await page.locator('.sheet header button').tap();
  await page.locator('.tabs button').nth(2).tap();
  await page.locator('.tabs button[aria-pressed="true"]', { hasText: 'Done' }).waitFor();
  await page.locator('.menu').tap();
  await page.locator('.project', { hasText: 'Mobile app' }).tap();
  await page.locator('h1', { hasText: 'Mobile app' }).waitFor();
});
