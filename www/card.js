// One task on the board. Rows are frozen and keep their identity until something in them changes, so a card that is given
// the row that it already shows has nothing to do.

import { avatar, PEOPLE } from './people.js';
import { editText, h, icon, statusIcon } from './dom.js';
import { PRIORITIES, STATUSES } from './schema.js';

export const STATUS_LABELS = { todo: 'To do', doing: 'In progress', done: 'Done' };
/** How far a change has come: icon, words, and more words. */
const SAVE = {
  applied: ['clock', 'Not sent yet', 'In this tab only, not sent yet'],
  journaled: ['device', 'On this device', 'Saved on this device, not sent yet'],
  sent: ['send', 'Sending', 'On its way to the server'],
  saved: ['check', 'Saved', 'Confirmed by the server'],
  rejected: ['alert', 'Not saved', 'The server refused a change: see the outbox'],
};
/** How a change by somebody else looks. */
const HIGHLIGHT = { borderColor: 'var(--agent)', backgroundColor: 'color-mix(in srgb, var(--agent) 14%, var(--panel))' };
const PRIORITY_LABELS = { low: 'Low', normal: 'Normal', high: 'High' };

export class Card {
  row;
  #writer;
  #stopEditing = () => {};
  #parts;

  constructor(row, writer) {
    this.#writer = writer;
    const id = row.id;
    const parts = (this.#parts = {
      ring: h('button', { class: 'ring-button', type: 'button', tabindex: -1, onclick: () => this.advance() }),
      title: h('button', { class: 'title', type: 'button', tabindex: -1, onclick: () => this.edit() }),
      priority: select('Priority', PRIORITIES.map((value) => [value, PRIORITY_LABELS[value]]), (priority) =>
        writer.update(id, { priority }),
      ),
      assignee: select('Assignee', [['', 'Nobody'], ...Object.entries(PEOPLE).map(([key, { name }]) => [key, name])], (value) =>
        writer.update(id, { assignee: value === '' ? null : value }),
      ),
      priorityText: h('span', {}),
      face: h('span', { class: 'face' }),
      save: h('span', { class: 'save' }),
      remove: h(
        'button',
        { class: 'remove', type: 'button', tabindex: -1, 'aria-label': 'Delete task', onclick: () => this.remove() },
        icon('trash'),
      ),
    });
    this.element = h(
      'li',
      { class: 'card', tabindex: -1, draggable: 'true', 'data-id': id },
      parts.ring,
      parts.title,
      h(
        'div',
        { class: 'foot' },
        h('span', { class: 'chip' }, h('i', { class: 'bars', 'aria-hidden': 'true' }), parts.priorityText, parts.priority),
        parts.save,
        parts.remove,
        h('span', { class: 'person' }, parts.face, parts.assignee),
      ),
    );
    this.show(row);
  }

  /** Shows a state of the row. */
  show(row) {
    const before = this.row;
    if (before === row) return;
    this.row = row;
    const { ring, title, priority, priorityText, face, assignee } = this.#parts;
    if (before?.title !== row.title) {
      title.textContent = row.title;
      title.title = row.title;
    }
    if (before?.status !== row.status) {
      const next = nextStatus(row.status);
      ring.replaceChildren(statusIcon(row.status));
      ring.setAttribute('aria-label', `${STATUS_LABELS[row.status]}: move to ${STATUS_LABELS[next]}`);
      ring.title = `Move to ${STATUS_LABELS[next]}`;
      this.element.dataset.status = row.status;
    }
    if (before?.priority !== row.priority) {
      priorityText.textContent = PRIORITY_LABELS[row.priority] ?? row.priority;
      priority.value = row.priority;
      this.element.dataset.priority = row.priority;
    }
    if (before === undefined || before.assignee !== row.assignee) {
      face.replaceChildren(avatar(row.assignee));
      face.title = PEOPLE[row.assignee]?.name ?? 'Nobody yet';
      assignee.value = Object.hasOwn(PEOPLE, row.assignee ?? '') ? row.assignee : '';
    }
    this.showSaving();
    const seen = ['title', 'status', 'priority', 'assignee', 'rank'];
    if (before !== undefined && seen.some((field) => before[field] !== row[field])) this.flash();
  }

  /** Highlights the card for a moment, unless the change is one of our own. */
  flash(fromOpacity = 1) {
    if (this.#writer.isOurs(this.row.id)) return;
    const frames = [{ ...HIGHLIGHT, opacity: fromOpacity }, { ...HIGHLIGHT, opacity: 1, offset: 0.1 }, { ...HIGHLIGHT, offset: 0.3 }, {}];
    this.element.animate(frames, { duration: 1100, easing: 'ease-out' });
  }

  showSaving() {
    const state = this.#writer.state(this.row.id);
    const { save } = this.#parts;
    if (save.dataset.state === (state ?? '')) return;
    save.dataset.state = state ?? '';
    const [name, text, more] = SAVE[state] ?? [];
    save.title = more ?? '';
    save.replaceChildren(...(name ? [icon(name), h('span', {}, text)] : []));
  }

  /** Only the card that the keyboard is on can be tabbed into. */
  setActive(active) {
    const { ring, title, priority, assignee, remove } = this.#parts;
    for (const part of [this.element, ring, title, priority, assignee, remove]) part.tabIndex = active ? 0 : -1;
  }

  edit() {
    const { title } = this.#parts;
    if (!title.isConnected) return;
    this.element.draggable = false;
    const id = this.row.id;
    this.#stopEditing = editText(title, this.row.title, 'Title', (text) => this.#writer.update(id, { title: text }));
    this.element.querySelector('.edit').addEventListener('blur', () => (this.element.draggable = true), { once: true });
  }

  advance() {
    this.#writer.update(this.row.id, { status: nextStatus(this.row.status) });
  }

  remove() {
    this.#writer.delete(this.row.id);
  }

  destroy() {
    this.#stopEditing();
    this.element.remove();
  }
}

function nextStatus(status) {
  return STATUSES[(STATUSES.indexOf(status) + 1) % STATUSES.length];
}

/** A native select, invisible over what it changes: right on every device, and with every assistive technology. */
function select(label, options, keep) {
  const element = h('select', { 'aria-label': label, tabindex: -1 }, ...options.map(([value, text]) => h('option', { value }, text)));
  element.addEventListener('change', () => keep(element.value));
  element.addEventListener('keydown', (event) => event.stopPropagation());
  return element;
}
