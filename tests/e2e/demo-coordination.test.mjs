// Several at one board of the demo: whose turn it is, what an agent does, two versions of one text, undo, and who is here.

import assert from 'node:assert/strict';
import { DEMO, NO_SERVER, openContext, openPage, Server, test } from './harness.mjs';

const open = (t, server, { path = '/', ...options } = {}) =>
  openPage(t, server, { path, ready: () => document.querySelector('.column') && globalThis.ablo.tasks.getCount() > 0, ...options });

/** Two people at one board. */
async function start(t, options) {
  const server = await Server.start(t, DEMO);
  const ada = await open(t, server, options);
  const grace = await open(t, server, { ...options, path: '/?user=grace' });
  return { server, ada, grace };
}

const ID = 'p0-t1';
const card = (page, id = ID) => page.locator(`.card[data-id="${id}"]`);
const editor = (page, state) => page.locator(`.editor[open][data-state="${state}"]`);
const news = (page) => page.locator('.editor .news');
const press = (page, name) => page.locator('dialog[open]').getByRole('button', { name, exact: true }).click();
const titleOf = async (server, id = ID) => (await server.fetch(`/sync/bootstrap`, { token: 'ek_test_grace-demo' }).then(JSON.parse)).models.Task.find((row) => row.id === id).title;

/** Opens the editor as the keyboard does. */
async function openTask(page, state, id = ID) {
  await card(page, id).focus();
  await page.keyboard.press('e');
  await editor(page, state).waitFor();
}

/** Edits the title on the card. */
async function retitle(page, title, id = ID) {
  await card(page, id).locator('.title').click();
  await page.keyboard.type(title);
  await page.keyboard.press('Enter');
}

async function setOffline(page, offline) {
  await page.locator('.switch').click();
  await page.locator(`.pill[data-tone="${offline ? 'off' : 'good'}"]`).waitFor();
}

test('one edits, the other sees who and waits for the turn', async (t) => {
  const { server, ada, grace } = await start(t);
  await openTask(ada, 'ours');
  await card(grace).locator('.holder[data-holder="ada"]', { hasText: 'Ada · editing' }).waitFor();
  await card(grace).locator('.holder .avatar', { hasText: 'AL' }).waitFor();
  assert.equal(await card(grace).locator('.remove').isDisabled(), true, 'what she cannot do is not offered');

  // A click on the title would edit it: now it opens what can be read.
  await card(grace).locator('.title').click();
  await editor(grace, 'theirs').waitFor();
  await news(grace).filter({ hasText: 'Ada Lovelace is editing this task.' }).waitFor();
  assert.equal(await grace.getByLabel('Title', { exact: true }).getAttribute('readonly'), '');
  assert.equal(await grace.locator('.editor [name="status"]').isDisabled(), true);

  await press(grace, 'Wait in line');
  await editor(grace, 'waiting').filter({ hasText: 'You are next in line, behind Ada Lovelace.' }).waitFor();
  await news(ada).filter({ hasText: 'Grace Hopper waits until you are done.' }).waitFor();
  await card(ada).locator('.holder .line', { hasText: '+1' }).waitFor();
  await press(grace, 'Leave the line');
  await editor(grace, 'theirs').waitFor();
  await news(ada).filter({ hasText: 'Grace' }).waitFor({ state: 'hidden' });
  await press(grace, 'Wait in line');
  await news(ada).filter({ hasText: 'Grace' }).waitFor();

  await ada.locator('.editor [name="title"]').fill('Written by Ada under her claim');
  await press(ada, 'Save');
  await ada.locator('.editor').waitFor({ state: 'hidden' });
  await editor(grace, 'ours').waitFor();
  assert.equal(await grace.locator('.editor [name="title"]').inputValue(), 'Written by Ada under her claim', 'the row is fresh');
  await card(ada).locator('.holder[data-holder="grace"]').waitFor();
  await grace.locator('.editor [name="title"]').fill('And then by Grace');
  await grace.keyboard.press('Enter');
  await grace.locator('.editor').waitFor({ state: 'hidden' });
  await card(ada).filter({ hasText: 'And then by Grace' }).waitFor();
  await card(ada).locator('.holder').waitFor({ state: 'detached' });
  assert.equal(await titleOf(server), 'And then by Grace');
});

test('the line is in order, and whoever closes the dialog leaves it', async (t) => {
  const { server, ada, grace } = await start(t);
  await openTask(ada, 'ours');
  // The agent of Ada's page is asked for the same task: first in line.
  await press(ada, 'Ask the agent');
  await news(ada).filter({ hasText: 'The agent waits until you are done.' }).waitFor();
  await ada.locator('.agent.careful', { hasText: 'in line' }).waitFor();
  await openTask(grace, 'theirs');
  await news(grace).filter({ hasText: 'One waits already.' }).waitFor();
  await press(grace, 'Wait in line');
  await news(grace).filter({ hasText: 'You are number 2 in line, behind Ada Lovelace and The agent.' }).waitFor();
  await card(ada).locator('.holder .line', { hasText: '+2' }).waitFor();

  await ada.keyboard.press('Escape');
  await news(grace).filter({ hasText: 'You are next in line, behind The agent.' }).waitFor();
  await grace.keyboard.press('Escape');
  await card(ada).locator('.holder[data-holder="agent"]').waitFor();
  await card(ada).locator('.holder .line').waitFor({ state: 'detached' });
  await card(ada).locator('.holder').waitFor({ state: 'detached' });
  assert.equal(await titleOf(server), 'Pick photographs for the team page', 'nobody has touched the title');
});

test('the agent claims, thinks, writes and gives back; it can be stopped', async (t) => {
  const { ada, grace } = await start(t);
  // The first task that nobody has.
  const free = 'p0-t4';
  await ada.locator('.agent.careful').click();
  await card(grace, free).locator('.holder[data-holder="agent"]', { hasText: 'The agent · reading the task' }).waitFor();
  await grace.locator('.here [data-peer="agent"]').waitFor();
  await card(grace, free).locator('.holder', { hasText: 'comparing loads' }).waitFor();
  // Somebody waits behind it.
  await openTask(grace, 'theirs', free);
  await press(grace, 'Wait in line');
  await editor(grace, 'ours').waitFor();
  const assignee = await grace.locator('.editor [name="assignee"]').inputValue();
  assert.notEqual(assignee, '', 'what it wrote is there when it gives the task back');
  await grace.keyboard.press('Escape');

  const next = ada.locator('.holder[data-holder="agent"]');
  await next.waitFor();
  const id = await next.evaluate((mark) => mark.closest('.card').dataset.id);
  const before = await grace.evaluate((task) => ablo.tasks.get(task).assignee ?? null, id);
  await ada.locator('.agent.careful').click();
  await ada.locator('.agent.careful[aria-pressed="false"]').waitFor();
  await card(grace, id).locator('.holder').waitFor({ state: 'detached' });
  assert.equal(await grace.evaluate((task) => ablo.tasks.get(task).assignee ?? null, id), before, 'it had not written yet');
});

test('a claim that is lost ends the editing, and the text is kept', async (t) => {
  const { server, ada } = await start(t, { expected: NO_SERVER });
  await openTask(ada, 'ours');
  await ada.locator('.editor [name="title"]').fill('A long thought');
  // Leases are in the server's memory: the next one knows nothing of this one.
  await server.stop('SIGKILL');
  await server.run();
  await editor(ada, 'lost').waitFor();
  await news(ada).filter({ hasText: 'What you had written is below' }).waitFor();
  await ada.locator('.kept dd', { hasText: 'A long thought' }).waitFor();
  assert.equal(await ada.locator('.editor [name="title"]').inputValue(), 'Pick photographs for the team page');
  await ada.locator('.kept').getByRole('button').click();
  await ada.locator('.kept').getByRole('button', { name: /Copied|Selected/ }).waitFor();

  await press(ada, 'Edit again');
  await editor(ada, 'ours').waitFor();
  await ada.locator('.kept dd', { hasText: 'A long thought' }).waitFor();
  await ada.locator('.editor [name="title"]').fill('A long thought');
  await press(ada, 'Save');
  await ada.locator('.editor').waitFor({ state: 'hidden' });
  assert.equal(await titleOf(server), 'A long thought');
});

/** Ada writes offline what Grace writes meanwhile, and comes back. */
async function disagree({ ada, grace }) {
  await setOffline(ada, true);
  await retitle(ada, 'Mine');
  await card(ada).locator('.save[data-state="journaled"]').waitFor();
  await retitle(grace, 'Theirs');
  await grace.waitForFunction(() => ablo.status.pendingWrites === 0);
}

const conflict = (page) => page.locator('.conflict[open]');
const cells = (page) => conflict(page).locator('tbody tr').evaluateAll((lines) => lines.map((line) => [...line.children].map((cell) => cell.textContent)));

test('two versions: keep mine', async (t) => {
  const { server, ...pages } = await start(t);
  const { ada, grace } = pages;
  await disagree(pages);
  await setOffline(ada, false);
  await conflict(ada).filter({ hasText: 'Grace Hopper changed “Theirs” while you did.' }).waitFor();
  assert.deepEqual(await cells(ada), [['Title', 'Mine', 'Theirs']]);
  assert.equal(await titleOf(server), 'Theirs', 'nobody was overwritten');
  // It becomes newer while Ada thinks: that is shown, and keeping mine asks again.
  await retitle(grace, 'Theirs, again');
  await conflict(ada).locator('td', { hasText: 'Theirs, again' }).waitFor();
  await press(ada, 'Keep mine');
  await conflict(ada).filter({ hasText: 'Grace Hopper changed “Theirs, again” while you did.' }).waitFor();
  await press(ada, 'Keep mine');
  await conflict(ada).waitFor({ state: 'hidden' });
  await card(grace).filter({ hasText: 'Mine' }).waitFor();
  assert.equal(await titleOf(server), 'Mine');
  await ada.waitForFunction(() => ablo.outbox.list().length === 0);
});

test('two versions: take theirs, of what they have changed', async (t) => {
  const { server, ada, grace } = await start(t);
  await setOffline(ada, true);
  // A draft: nobody can be asked for the task.
  await openTask(ada, 'draft');
  await ada.locator('.editor [name="title"]').fill('Mine');
  await ada.locator('.editor [name="priority"]').selectOption('low');
  await press(ada, 'Save');
  await ada.locator('.editor').waitFor({ state: 'hidden' });
  await retitle(grace, 'Theirs');
  await grace.waitForFunction(() => ablo.status.pendingWrites === 0);
  await setOffline(ada, false);
  await conflict(ada).waitFor();
  assert.deepEqual(await cells(ada), [['Title', 'Mine', 'Theirs'], ['Priority', 'Low', 'not changed']]);
  await press(ada, 'Take theirs');
  await conflict(ada).waitFor({ state: 'hidden' });
  await grace.locator(`.card[data-id="${ID}"][data-priority="low"]`).waitFor();
  assert.equal(await titleOf(server), 'Theirs');
  await ada.waitForFunction(() => ablo.outbox.list().length === 0);
});

test('two versions: decide later, after a reload', async (t) => {
  const { server, ...pages } = await start(t);
  const { ada } = pages;
  await disagree(pages);
  await ada.reload();
  await conflict(ada).waitFor();
  assert.deepEqual(await cells(ada), [['Title', 'Mine', 'Theirs']]);
  await press(ada, 'Decide later');
  await conflict(ada).waitFor({ state: 'hidden' });
  await ada.locator('.toast', { hasText: 'waits in the outbox' }).getByRole('button', { name: 'Outbox' }).click();
  assert.deepEqual(await ada.locator('.refused tbody').locator('th, td').allTextContents(), ['title', 'Mine', 'Theirs']);
  await press(ada, 'Retry');
  await card(pages.grace).filter({ hasText: 'Mine' }).waitFor();
  assert.equal(await titleOf(server), 'Mine');
});

test('two versions: both typed at once', async (t) => {
  const { server, ada, grace } = await start(t);
  await card(ada).locator('.title').click();
  await ada.keyboard.type('Mine');
  await retitle(grace, 'Theirs');
  await ada.waitForFunction((id) => ablo.tasks.get(id).title === 'Theirs', ID);
  await ada.keyboard.press('Enter');
  await conflict(ada).waitFor();
  assert.equal(await titleOf(server), 'Theirs', 'nobody was overwritten');
  // The keyboard is where it should be.
  await ada.keyboard.press('Enter');
  await conflict(ada).waitFor({ state: 'hidden' });
  await card(grace).filter({ hasText: 'Mine' }).waitFor();
});

test('what is closed unsaved can be brought back', async (t) => {
  const server = await Server.start(t, DEMO);
  const ada = await open(t, server);
  await openTask(ada, 'ours');
  await ada.locator('.editor [name="title"]').fill('Not yet');
  await ada.keyboard.press('Escape');
  await card(ada).locator('.holder').waitFor({ state: 'detached' });
  assert.ok(await card(ada).evaluate((element) => element === document.activeElement), 'the keyboard is where it was');
  await ada.getByRole('button', { name: 'Bring it back' }).click();
  await editor(ada, 'ours').waitFor();
  await ada.locator('.kept dd', { hasText: 'Not yet' }).waitFor();
  // Nor is it gone with the task.
  await ada.locator('.editor [name="title"]').fill('Never');
  await ada.evaluate((id) => ablo.tasks.delete({ id }), ID);
  await editor(ada, 'gone').filter({ hasText: 'Somebody has deleted this task.' }).waitFor();
  await ada.locator('.kept dd', { hasText: 'Never' }).waitFor();
});

test('what somebody else has taken meanwhile is not written, and the text is kept', async (t) => {
  const { ada, grace } = await start(t);
  await card(ada).locator('.title').click();
  await ada.keyboard.type('Too late');
  await openTask(grace, 'ours');
  await card(ada).locator('.holder[data-holder="grace"]').waitFor();
  await ada.keyboard.press('Enter');
  await editor(ada, 'theirs').waitFor();
  await ada.locator('.kept dd', { hasText: 'Too late' }).waitFor();
});

test('undo and redo, and what others have changed is left alone', async (t) => {
  const { ada, grace } = await start(t);
  const undo = ada.getByRole('button', { name: 'Undo' });
  const redo = ada.getByRole('button', { name: 'Redo' });
  assert.equal(await undo.isDisabled(), true);
  await retitle(ada, 'First');
  await card(grace).filter({ hasText: 'First' }).waitFor();
  await undo.click();
  await card(grace).filter({ hasText: 'Pick photographs' }).waitFor();
  await ada.locator('main').click({ position: { x: 300, y: 10 } });
  await ada.keyboard.press('Control+Shift+Z');
  await card(grace).filter({ hasText: 'First' }).waitFor();
  assert.equal(await redo.isDisabled(), true);
  await card(ada).locator('.ring-button').click();
  await grace.locator('.column[data-status="doing"]').locator(`.card[data-id="${ID}"]`).waitFor();
  await card(ada).focus();
  await ada.keyboard.press('Control+z');
  await grace.locator('.column[data-status="todo"]').locator(`.card[data-id="${ID}"]`).waitFor();

  // What was written under a claim is a step like any other.
  await openTask(ada, 'ours');
  await ada.locator('.editor [name="title"]').fill('Under a claim');
  await press(ada, 'Save');
  await card(grace).filter({ hasText: 'Under a claim' }).waitFor();
  await retitle(grace, 'By Grace');
  await card(ada).filter({ hasText: 'By Grace' }).waitFor();
  await undo.click();
  await ada.locator('.toast', { hasText: 'is left as' }).waitFor();
  assert.equal(await grace.evaluate((id) => ablo.tasks.get(id).title, ID), 'By Grace');
});

test('who is here, and which task they look at', async (t) => {
  const { ada, grace } = await start(t);
  await ada.locator('.here li').nth(1).waitFor();
  assert.deepEqual(await ada.locator('.here .avatar').allTextContents(), ['AL', 'GH']);
  await card(grace).focus();
  await card(ada).locator('.looking[data-peer="grace"]', { hasText: 'Grace Hopper is looking' }).waitFor();
  await ada.locator('.here [data-peer="grace"]', { hasText: 'viewing “Pick photographs for the team page”' }).waitFor();
  await grace.keyboard.press('Enter');
  await card(ada).locator('.looking[data-peer="grace"]', { hasText: 'Grace Hopper is editing' }).waitFor();
  await grace.keyboard.press('Escape');
  await grace.locator('.pill').focus();
  await card(ada).locator('.looking').waitFor({ state: 'detached' });
  // Who leaves the page gives back what they hold.
  await openTask(grace, 'ours');
  await card(ada).locator('.holder[data-holder="grace"]').waitFor();
  await grace.goto('about:blank');
  await card(ada).locator('.holder').waitFor({ state: 'detached' });
  await ada.waitForFunction(() => document.querySelectorAll('.here li').length === 1);
});

test('it fits a phone', async (t) => {
  const server = await Server.start(t, DEMO);
  const context = await openContext(t, { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
  const page = await open(t, server, { context });
  const other = await open(t, server, { path: '/?user=grace' });
  const fits = () =>
    page.evaluate(() => {
      const parts = [document.documentElement, ...document.querySelectorAll('dialog[open], .top, .card')];
      return parts.every((element) => element.scrollWidth <= Math.ceil(element.getBoundingClientRect().width) && element.getBoundingClientRect().width <= innerWidth);
    });
  await openTask(other, 'ours');
  await card(page).locator('.holder').waitFor();
  assert.ok(await fits(), 'a card that is held');
  await card(page).locator('.open').tap();
  await editor(page, 'theirs').waitFor();
  assert.ok(await fits(), 'the editor');
  await page.locator('.news button').tap();
  await editor(page, 'waiting').waitFor();
  assert.ok(await fits(), 'the editor, in line');
});
