// The page: starts a client, fills the data set if it is empty, and puts the parts together.

import { Agent } from './agent.js';
import { agentButton } from './agent-button.js';
import { Board } from './board.js';
import { BusyAgent } from './busy.js';
import { Company } from './company.js';
import { ConflictDialog } from './conflict.js';
import { connectionBar } from './connection.js';
import { editText, h, icon, nowAndThen, number, oncePerFrame, statusIcon } from './dom.js';
import { Editor } from './editor.js';
import { STATUS_LABELS } from './fields.js';
import { OutboxPanel } from './outbox.js';
import { nameOf } from './people.js';
import { Attention, presenceBar } from './presence.js';
import { fill } from './seed.js';
import { connect, DATA_SETS, place } from './session.js';
import { Sidebar } from './sidebar.js';
import { storageLine } from './storage.js';
import { show, showError } from './toast.js';
import { undoBar } from './undo.js';
import { Writer } from './writer.js';

/** Counting 100,000 rows takes a millisecond: not for every change of a busy agent. */
const COUNT_EVERY_MS = 250;

const started = performance.now();
const ablo = connect(place.user, { persistence: 'indexeddb' });
// For the console of the browser: try ablo.tasks.getAll({ where: { status: 'doing' } }).
globalThis.ablo = ablo;

const page = document.querySelector('#app');
const live = h('p', { class: 'hidden', role: 'status' });

ablo.onSessionError((error) => showError(error));

await start();

async function start() {
  const bar = h('progress', { max: 1, 'aria-label': 'Loading' });
  const words = h('p', {}, 'Loading…');
  page.replaceChildren(h('div', { class: 'splash' }, h('span', { class: 'mark', 'aria-hidden': 'true' }), words, bar));
  try {
    await ablo.ready();
    const took = performance.now() - started;
    if (ablo.projects.getCount() === 0) {
      words.textContent = `Creating ${number(DATA_SETS[place.data].tasks)} tasks on the server…`;
      await fill(ablo, place.data, (share) => (bar.value = share));
    }
    build(took);
  } catch (error) {
    const again = h('button', { class: 'primary', type: 'button', onclick: start }, 'Try again');
    page.replaceChildren(h('div', { class: 'splash' }, h('span', { class: 'mark', 'aria-hidden': 'true' }), h('p', {}, 'The board could not be loaded.'), again));
    showError(error);
  }
}

function build(took) {
  const say = (text) => (live.textContent = text);
  const failed = showError;
  const company = new Company(ablo);
  const attention = new Attention(ablo);
  // The parts know each other only by these.
  const openTask = (id, kept) => editor.open(id, kept);
  const held = (id, data) => {
    if (data?.title !== undefined) openTask(id, data);
    else show('hint', `${nameOf(company.holder(id)?.id)} has this task just now.`, undefined, { label: 'Open', run: () => openTask(id) });
  };
  const writer = new Writer(ablo, { changed: (id) => board.find(id)?.card.showSaving(), failed, held });
  const board = new Board(ablo, writer, { say, attention, company, open: openTask });
  const { agent, elements: agentElements } = agentButton('careful', 'A second client claims a task, thinks, and writes', (changed) => new Agent(board, { changed, failed }));
  const { elements: busyElements } = agentButton('busy', 'Another client changes tasks as fast as it can', (changed) => new BusyAgent(board, { changed, failed }));
  const editor = new Editor(ablo, writer, { company, attention, say, askAgent: (id) => agent.ask(id) });
  const anyTask = () => [...board.columns.values()].flatMap(({ rows }) => rows)[0];
  const outbox = new OutboxPanel(ablo, { anyTask, failed });
  // Before the listener below: what it shows needs no message.
  const conflict = new ConflictDialog(ablo, writer, { say, openOutbox: () => outbox.open(), failed });
  ablo.onMutationFailure(({ error, transaction }) => {
    if (outbox.element.open || conflict.handles(transaction.modelId)) return;
    showError(error, 'A change was undone.', { label: 'Outbox', run: () => outbox.open() });
  });
  company.onChange(oncePerFrame(() => board.drawCompany()));
  const sidebar = new Sidebar(ablo, { open, created: rename, failed, storage: storageLine(ablo) });
  const title = h('button', { type: 'button', title: 'Rename', onclick: rename });
  const share = h('div', { class: 'share' }, h('i', {}), h('span', {}));
  const tabs = h('div', { class: 'tabs', role: 'group', 'aria-label': 'Columns' }, ...[...board.columns].map(tab));
  const columns = h('div', { class: 'columns' }, ...board.elements);
  const menu = h('button', { class: 'plain menu', type: 'button', 'aria-label': 'Projects', 'aria-controls': 'sidebar', onclick: () => drawer(true) }, icon('menu'));
  const shade = h('div', { class: 'shade', onclick: () => drawer(false) });
  page.replaceChildren(
    sidebar.element,
    shade,
    h('main', {}, h('header', { class: 'top' }, menu, h('div', { class: 'headline' }, h('h1', {}, title), share), h('div', { class: 'tools' }, undoBar(ablo, { failed, say }), ...connectionBar(ablo, { failed }), ...agentElements, ...busyElements), outbox.button, presenceBar(ablo, place.user)), tabs, columns),
    outbox.element,
    editor.element,
    conflict.element,
    live,
  );

  let projects = [];
  ablo.projects.onChange(
    (rows) => {
      projects = rows;
      if (!rows.some((row) => row.id === board.projectId)) open(rows[0]?.id);
      else showProject();
    },
    { orderBy: { rank: 'asc' } },
  );

  const countOthers = nowAndThen(COUNT_EVERY_MS, () => sidebar.count());
  const draw = oncePerFrame(() => {
    board.draw();
    showCounts();
    countOthers();
  });
  ablo.subscribe(({ models }) => models.includes('tasks') && draw());

  function open(id) {
    if (id !== undefined && id !== board.projectId) board.open(id);
    drawer(false);
    showProject();
  }

  function showProject() {
    sidebar.show(projects, board.projectId);
    sidebar.count();
    const project = ablo.projects.get(board.projectId);
    if (title.isConnected) title.textContent = project?.name ?? 'No project yet';
    document.title = `${project?.name ?? 'Board'} · Ablo`;
    showCounts();
  }

  function showCounts() {
    const { all, done } = board.counts;
    sidebar.showOpen(board.projectId, all - done);
    share.firstChild.style.setProperty('--share', all === 0 ? 0 : done / all);
    share.lastChild.textContent = all === 0 ? 'No tasks yet' : `${number(done)} of ${number(all)} done`;
    const total = ablo.tasks.getCount();
    sidebar.tell(`${number(total)} tasks · ready in ${Math.round(took)} ms`);
  }

  function rename() {
    const project = ablo.projects.get(board.projectId);
    if (!project) return;
    editText(title, project.name, 'Project name', (name) => ablo.projects.update({ id: project.id, data: { name } }).catch(showError));
  }

  function tab([status, column]) {
    const show = () => column.element.scrollIntoView({ behavior: 'smooth', inline: 'start', block: 'nearest' });
    const button = h('button', { type: 'button', onclick: show }, statusIcon(status), STATUS_LABELS[status]);
    new IntersectionObserver(([entry]) => button.setAttribute('aria-pressed', String(entry.intersectionRatio > 0.5)), { threshold: 0.5 }).observe(
      column.element,
    );
    return button;
  }

  function drawer(isOpen) {
    document.body.classList.toggle('drawer', isOpen);
  }
  document.addEventListener('keydown', (event) => event.key === 'Escape' && drawer(false));

  if (place.data === 'demo') return;
  show('hint', `${number(ablo.tasks.getCount())} tasks, and nothing is paged. Scroll, drag, or start the busy agent.`);
}
