// The three columns: what they have in common, dragging between them, and the keyboard.

import { Column } from './column.js';
import { STATUS_LABELS } from './fields.js';
import { STATUSES } from './schema.js';

export class Board {
  columns;
  projectId;
  #writer;
  #say;
  #attention;

  /**
   * @param say announces something to those who cannot see it move
   * @param attention told which task is looked at
   * @param around what cards need beside their row
   */
  constructor(ablo, writer, { say, attention, ...around }) {
    this.#writer = writer;
    this.#say = say;
    this.#attention = attention;
    this.columns = new Map(STATUSES.map((status) => [status, new Column(ablo, writer, status, around)]));
    this.elements = [...this.columns.values()].map((column) => column.element);
    for (const column of this.columns.values()) this.#listen(column);
  }

  open(projectId) {
    this.projectId = projectId;
    for (const column of this.columns.values()) column.open(projectId);
  }

  draw() {
    for (const column of this.columns.values()) column.draw();
  }

  drawCompany() {
    for (const column of this.columns.values()) column.drawCompany();
  }

  /** How many tasks the project has, and how many of them are done. */
  get counts() {
    let all = 0;
    for (const { count } of this.columns.values()) all += count;
    return { all, done: this.columns.get('done').count };
  }

  /** Where a task is on the screen, if it is. */
  find(id) {
    for (const column of this.columns.values()) {
      const card = column.card(id);
      if (card !== undefined) return { card, column };
    }
    return undefined;
  }

  /** Moves a task to a place in a column. */
  move(id, status, index) {
    const column = this.columns.get(status);
    const done = this.#writer.move(id, { status, rank: column.rankAt(index, id) });
    if (done !== undefined) this.#say(`Moved to ${STATUS_LABELS[status]}`);
  }

  #listen(column) {
    const status = column.element.dataset.status;
    const { element } = column;
    element.addEventListener('dragstart', (event) => {
      const card = event.target.closest?.('.card');
      if (!card) return;
      event.dataTransfer.setData('text/plain', card.dataset.id);
      event.dataTransfer.effectAllowed = 'move';
      card.classList.add('dragged');
    });
    element.addEventListener('dragend', (event) => {
      event.target.classList?.remove('dragged');
      for (const each of this.columns.values()) each.markDrop();
    });
    element.addEventListener('dragover', (event) => {
      event.preventDefault();
      event.dataTransfer.dropEffect = 'move';
      for (const each of this.columns.values()) each.markDrop(each === column ? column.indexAt(event.clientY) : undefined);
    });
    element.addEventListener('drop', (event) => {
      event.preventDefault();
      const id = event.dataTransfer.getData('text/plain');
      column.markDrop();
      if (this.find(id) !== undefined) this.move(id, status, column.indexAt(event.clientY));
    });
    element.addEventListener('focusin', (event) => {
      const card = event.target.closest?.('.card');
      if (!card) return;
      for (const each of element.querySelectorAll('.card[tabindex="0"]')) {
        if (each !== card) column.card(each.dataset.id)?.setActive(false);
      }
      column.card(card.dataset.id)?.setActive(true);
      this.#attention.turn(card.dataset.id, event.target.matches('.edit') ? 'editing' : 'viewing');
    });
    element.addEventListener('focusout', ({ relatedTarget }) => {
      if (relatedTarget?.closest('.card, dialog') == null) this.#attention.turn();
    });
    element.addEventListener('keydown', (event) => this.#key(event, column));
  }

  #key(event, column) {
    const element = event.target.closest?.('.card');
    if (!element) return;
    const { card } = this.find(element.dataset.id) ?? {};
    if (card === undefined) return;
    const statuses = [...this.columns.keys()];
    const at = statuses.indexOf(column.element.dataset.status);
    const side = { ArrowLeft: at - 1, ArrowRight: at + 1 }[event.key];
    const along = { ArrowUp: card.index - 1, ArrowDown: card.index + 1, Home: 0, End: column.count - 1 }[event.key];
    const direct = event.target === element;
    if (side !== undefined && statuses[side] !== undefined) {
      event.preventDefault();
      if (event.shiftKey) this.#carry(card, statuses[side]);
      else this.columns.get(statuses[side]).focus(card.index);
    } else if (along !== undefined) {
      event.preventDefault();
      column.focus(along);
    } else if (direct && (event.key === 'Enter' || event.key === 'F2')) {
      event.preventDefault();
      card.edit();
    } else if (direct && event.key.toLowerCase() === 'e' && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      card.open();
    } else if (direct && event.key === ' ') {
      event.preventDefault();
      this.#carry(card, statuses[(at + 1) % statuses.length]);
    } else if (direct && (event.key === 'Delete' || event.key === 'Backspace')) {
      event.preventDefault();
      const index = card.index;
      if (card.remove() === undefined) return;
      this.#say('Task deleted');
      column.focus(index);
    }
  }

  /** Moves a card to another column, and the keyboard with it. */
  #carry(card, status) {
    this.move(card.row.id, status, 0);
    this.columns.get(status).focusRow(card.row.id);
  }
}
