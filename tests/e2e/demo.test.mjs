// The demo application, used the way people do.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEMO, openContext, openPage, Server } from './harness.mjs';

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

test('offline work is kept, shown as unsent, and sent', async (t) => {
  const server = await Server.start(t, DEMO);
  const ada = await open(t, server);
  const grace = await open(t, server, { path: '/?user=grace' });
  await ada.locator('.switch').click();
  await ada.locator('.pill[data-tone="off"]').waitFor();
  const title = await column(ada, 'todo').locator('.card .title').first().textContent();
  await card(ada, title).locator('.ring-button').click();
  await inColumn(ada, 'doing', title);
  await card(ada, title).locator('.save[data-state="waiting"]').waitFor();
  await ada.locator('.pending', { hasText: '1 unsaved' }).waitFor();
  assert.equal(await column(grace, 'todo').locator('.card', { hasText: title }).count(), 1);
  await ada.locator('.switch').click();
  await inColumn(grace, 'doing', title);
  await ada.locator('.pending').waitFor({ state: 'hidden' });
});

test('the busy agent moves data on the server', async (t) => {
  const server = await Server.start(t, DEMO);
  const page = await open(t, server);
  const watcher = await open(t, server, { path: '/?user=grace' });
  await watcher.evaluate(() => {
    globalThis.changes = 0;
    ablo.subscribe(() => (changes += 1));
  });
  await page.locator('.agent').click();
  await watcher.waitForFunction(() => globalThis.changes > 20);
  await page.waitForFunction(() => [...document.querySelectorAll('.card')].some((card) => card.getAnimations().length > 0));
  await page.locator('.agent').click();
  await page.locator('.agent[aria-pressed="false"]').waitFor();
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
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing sticks out');
  await page.locator('.tabs button').nth(2).tap();
  await page.locator('.tabs button[aria-pressed="true"]', { hasText: 'Done' }).waitFor();
  await page.locator('.menu').tap();
  await page.locator('.project', { hasText: 'Mobile app' }).tap();
  await page.locator('h1', { hasText: 'Mobile app' }).waitFor();
});
