// One task on the board. Rows are frozen and keep their identity until something in them changes, so a card that is given
// the row that it already shows has nothing to do.

import { CompanyMark } from './company.js';
import { CHOICES, PRIORITY_LABELS, STATUS_LABELS } from './fields.js';
import { avatar, PEOPLE } from './people.js';
import { editText, h, icon, statusIcon } from './dom.js';
import { STATUSES } from './schema.js';

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

export class Card {
  row;
  #writer;
  #open;
  #mark;
  #holder;
  #stopEditing = () => {};
  #parts;

  /**
   * @param company knows who else is on a task
   * @param open opens the editor of a task
   */
  constructor(row, writer, { company, open }) {
    this.#writer = writer;
    this.#open = open;
    this.#mark = new CompanyMark(company);
    const id = row.id;
    const parts = (this.#parts = {
      ring: h('button', { class: 'ring-button', type: 'button', tabindex: -1, onclick: () => this.advance() }),
      title: h('button', { class: 'title', type: 'button', tabindex: -1, onclick: () => this.edit() }),
      priority: select('Priority', CHOICES.priority, (priority) => writer.update(id, { priority })),
      assignee: select('Assignee', CHOICES.assignee, (value) => writer.update(id, { assignee: value === '' ? null : value })),
      priorityText: h('span', {}),
      face: h('span', { class: 'face' }),
      save: h('span', { class: 'save' }),
      open: h(
        'button',
        { class: 'open', type: 'button', tabindex: -1, 'aria-label': 'Open task', title: 'Open (E)', onclick: () => open(id) },
        icon('open'),
      ),
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
        this.#mark.element,
        parts.save,
        parts.open,
        parts.remove,
        h('span', { class: 'person' }, parts.face, parts.assignee),
      ),
    );
    this.element.addEventListener('dblclick', ({ target }) => !target.closest('button, select, textarea') && open(id));
    this.show(row);
    this.showCompany();
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

  /** Shows who else is on it. What somebody else holds can be opened, and not changed. */
  showCompany() {
    const holder = this.#mark.show(this.row.id);
    this.#holder = holder;
    const held = holder === undefined ? '' : holder.isOurs ? 'ours' : 'theirs';
    if ((this.element.dataset.held ?? '') === held) return;
    this.element.dataset.held = held;
    const { ring, priority, assignee, remove } = this.#parts;
    for (const part of [ring, priority, assignee, remove]) part.disabled = held === 'theirs';
    this.element.draggable = held !== 'theirs';
  }

  /** Only the card that the keyboard is on can be tabbed into. */
  setActive(active) {
    const { ring, title, priority, assignee, open, remove } = this.#parts;
    for (const part of [this.element, ring, title, priority, assignee, open, remove]) part.tabIndex = active ? 0 : -1;
  }

  /** Opens the editor. */
  open() {
    this.#open(this.row.id);
  }

  /** Edits the title in place, or opens what somebody else holds. */
  edit() {
    const { title } = this.#parts;
    if (!title.isConnected) return;
    if (this.#holder?.isOurs === false) return this.open();
    this.element.draggable = false;
    const id = this.row.id;
    // What others do to it from now on is not seen.
    const seen = this.#writer.now;
    this.#stopEditing = editText(title, this.row.title, 'Title', (text) => this.#writer.update(id, { title: text }, seen));
    this.element.querySelector('.edit').addEventListener('blur', () => (this.element.draggable = true), { once: true });
  }

  advance() {
    this.#writer.move(this.row.id, { status: nextStatus(this.row.status) });
  }

  /** @returns undefined when somebody else holds it, and nothing was done */
  remove() {
    return this.#writer.delete(this.row.id);
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
