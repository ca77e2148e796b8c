// One column: however many tasks it has, only those in sight exist as elements and are asked for. The list is as high as
// all of them, and a live view with `offset` and `limit` follows the scroll position.

import { Card } from './card.js';
import { h, icon, number, statusIcon } from './dom.js';
import { STATUS_LABELS } from './fields.js';

/** Height of a card with the gap below it: the style sheet must agree. */
const PITCH = 98;
/** The window moves in steps, so that most scrolling asks for nothing. */
const STEP = 8;
/** Cards beyond the edges. */
const MARGIN = 8;
const ARRIVED_MS = 2500;

export class Column {
  count = 0;
  #ablo;
  #writer;
  #around;
  #status;
  #where;
  #offset = 0;
  #limit = 0;
  #rows = [];
  #stop = () => {};
  #cards = new Map();
  #fresh = true;
  #list;
  #scroller;
  #number;
  #empty;
  #mark;
  #composer;

  /** @param around what its cards need beside their row */
  constructor(ablo, writer, status, around) {
    this.#ablo = ablo;
    this.#writer = writer;
    this.#around = around;
    this.#status = status;
    this.#list = h('ol', { class: 'list' });
    this.#mark = h('div', { class: 'drop-mark', hidden: true });
    this.#empty = h('p', { class: 'empty', hidden: true }, EMPTY[status]);
    this.#scroller = h('div', { class: 'scroller' }, this.#empty, this.#list, this.#mark);
    this.#number = h('span', { class: 'count' });
    this.element = h(
      'section',
      { class: 'column', 'data-status': status, 'aria-label': STATUS_LABELS[status] },
      h(
        'header',
        {},
        statusIcon(status),
        h('h2', {}, STATUS_LABELS[status]),
        this.#number,
        h(
          'button',
          { class: 'plain add', type: 'button', 'aria-label': `Add a task to ${STATUS_LABELS[status]}`, onclick: () => this.compose() },
          icon('plus'),
        ),
      ),
      this.#scroller,
    );
    this.#scroller.addEventListener('scroll', () => this.#follow(), { passive: true });
    new ResizeObserver(() => this.#follow()).observe(this.#scroller);
  }

  /** Shows the tasks of another project. */
  open(projectId) {
    this.#where = { projectId, status: this.#status };
    this.#scroller.scrollTop = 0;
    this.#limit = 0;
    this.#closeComposer();
    this.#follow();
  }

  close() {
    this.#stop();
  }

  #follow() {
    if (this.#where === undefined) return;
    const first = Math.floor(this.#scroller.scrollTop / PITCH);
    const sight = Math.ceil(this.#scroller.clientHeight / PITCH) || 1;
    const offset = Math.max(0, Math.floor((first - MARGIN) / STEP) * STEP);
    const limit = Math.ceil((sight + 2 * MARGIN) / STEP + 1) * STEP;
    if (offset === this.#offset && limit === this.#limit) return;
    this.#offset = offset;
    this.#limit = limit;
    // What only scrolls into sight has not arrived.
    this.#fresh = true;
    this.#stop();
    this.#stop = this.#ablo.tasks.onChange(
      (rows) => (this.#rows = rows),
      { where: this.#where, orderBy: { rank: 'asc' }, offset, limit },
    );
    this.draw();
  }

  /** To be called when tasks have changed: those in the window, or those that are only counted. */
  draw() {
    if (this.#where === undefined) return;
    this.count = this.#ablo.tasks.getCount({ where: this.#where });
    this.#number.textContent = number(this.count);
    this.#list.style.height = `${this.count * PITCH}px`;
    this.#empty.hidden = this.count > 0;
    const gone = new Set(this.#cards.keys());
    for (const [at, row] of this.#rows.entries()) {
      gone.delete(row.id);
      this.#place(row, this.#offset + at);
    }
    for (const id of gone) {
      this.#cards.get(id).destroy();
      this.#cards.delete(id);
    }
    this.#fresh = false;
    if (this.#list.querySelector('.card[tabindex="0"]') === null) this.#cards.get(this.#rows[0]?.id)?.setActive(true);
  }

  #place(row, index) {
    let card = this.#cards.get(row.id);
    if (card === undefined) {
      card = new Card(row, this.#writer, this.#around);
      this.#cards.set(row.id, card);
      this.#list.append(card.element);
      const arrived = !this.#fresh && Math.abs(Date.now() - row.updatedAt) < ARRIVED_MS;
      if (arrived) card.flash(0);
    } else card.show(row);
    const y = index * PITCH;
    if (card.y !== y) card.element.style.transform = `translateY(${y}px)`;
    card.y = y;
    if (card.index !== index) card.element.setAttribute('aria-posinset', index + 1);
    card.index = index;
    if (card.of !== this.count) card.element.setAttribute('aria-setsize', this.count);
    card.of = this.count;
  }

  /** To be called when somebody came to a task, or left it. */
  drawCompany() {
    for (const card of this.#cards.values()) card.showCompany();
  }

  card(id) {
    return this.#cards.get(id);
  }

  /** The rows in the window. */
  get rows() {
    return this.#rows;
  }

  /** Puts the keyboard on the card at `index`, scrolling to it. */
  focus(index) {
    const at = Math.max(0, Math.min(index, this.count - 1));
    const top = at * PITCH;
    const { scrollTop, clientHeight } = this.#scroller;
    if (top < scrollTop) this.#scroller.scrollTop = top;
    else if (top + PITCH > scrollTop + clientHeight) this.#scroller.scrollTop = top + PITCH - clientHeight;
    this.#follow();
    this.draw();
    const card = this.#cards.get(this.#rows[at - this.#offset]?.id);
    for (const other of this.#cards.values()) if (other !== card) other.setActive(false);
    card?.setActive(true);
    card?.element.focus({ preventScroll: true });
    return card !== undefined;
  }

  /** Puts the keyboard on a row as soon as it is here. */
  focusRow(id) {
    requestAnimationFrame(() => {
      const at = this.#rows.findIndex((row) => row.id === id);
      if (at !== -1) this.focus(this.#offset + at);
    });
  }

  /** A rank that puts a row before the one at `index`, leaving out the row that moves. */
  rankAt(index, movingId) {
    const from = Math.max(0, index - 2);
    const near = this.#ablo.tasks.getAll({ where: this.#where, orderBy: { rank: 'asc' }, offset: from, limit: 5 });
    const moving = near.findIndex((row) => row.id === movingId);
    const rest = near.filter((row) => row.id !== movingId);
    // Taking the moving row out shifts the place when it stood before it.
    const at = index - from - (moving !== -1 && moving < index - from ? 1 : 0);
    const before = rest[at - 1]?.rank;
    const after = rest[at]?.rank;
    if (before === undefined) return after === undefined ? 0 : after - 1;
    return after === undefined ? before + 1 : (before + after) / 2;
  }

  /** The place that a pointer at this height means. */
  indexAt(clientY) {
    const top = this.#list.getBoundingClientRect().top;
    return Math.max(0, Math.min(this.count, Math.round((clientY - top) / PITCH)));
  }

  markDrop(index) {
    this.#mark.hidden = index === undefined;
    if (index !== undefined) this.#mark.style.transform = `translateY(${index * PITCH - 6}px)`;
    this.element.classList.toggle('drop', index !== undefined);
  }

  /** Opens the line for new tasks. It stays open for the next one until it is left empty. */
  compose() {
    this.#closeComposer();
    const input = h('input', { name: 'title', placeholder: 'What needs to be done?', 'aria-label': 'Title of the new task', maxlength: 500, autocomplete: 'off' });
    const form = h('form', { class: 'composer' }, input, h('button', { class: 'primary', type: 'submit' }, 'Add'));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      const title = input.value.replace(/\s+/g, ' ').trim();
      if (title === '') return;
      input.value = '';
      this.#scroller.scrollTop = 0;
      this.#writer.create({ ...this.#where, title, rank: this.rankAt(0) });
    });
    form.addEventListener('keydown', (event) => {
      event.stopPropagation();
      if (event.key === 'Escape') this.#closeComposer();
    });
    form.addEventListener('focusout', (event) => {
      if (!form.contains(event.relatedTarget) && input.value.trim() === '') this.#closeComposer();
    });
    this.#composer = form;
    this.#scroller.before(form);
    input.focus();
  }

  #closeComposer() {
    // Taking it away takes the focus away, which closes it.
    const form = this.#composer;
    this.#composer = undefined;
    form?.remove();
  }
}

const EMPTY = {
  todo: 'Nothing to do. Add a task with +, or drop one here.',
  doing: 'Nobody is on anything. Drop a task here to start.',
  done: 'Nothing finished yet. It will come.',
};
