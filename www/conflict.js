// What the server held back because somebody else was faster: mine and theirs side by side, and whose it shall be. Until
// that is decided mine is in the outbox, which survives a reload.

import { h, icon } from './dom.js';
import { FIELD_LABELS, wordsOf } from './fields.js';
import { keptText } from './kept.js';
import { avatar, nameOf } from './people.js';
import { show } from './toast.js';

export class ConflictDialog {
  #ablo;
  #writer;
  #say;
  #openOutbox;
  #failed;
  /** Told by the server, while the write itself is not undone yet: by row. */
  #told = new Map();
  /** Conflicts that wait for a decision, the one that is shown first. */
  #waiting = [];
  #deciding = false;
  #body = h('div', { class: 'body' });

  /**
   * @param say announces something
   * @param openOutbox shows where undecided ones are
   */
  constructor(ablo, writer, { say, openOutbox, failed }) {
    this.#ablo = ablo;
    this.#writer = writer;
    this.#say = say;
    this.#openOutbox = openOutbox;
    this.#failed = failed;
    const later = () => this.element.close();
    this.element = h(
      'dialog',
      { class: 'conflict', 'aria-labelledby': 'conflict-title' },
      h(
        'header',
        {},
        h('h2', { id: 'conflict-title' }, 'Two versions'),
        h('button', { class: 'plain', type: 'button', 'aria-label': 'Close', onclick: later }, icon('close')),
      ),
      this.#body,
    );
    this.element.addEventListener('close', () => this.#closed());
    ablo.on('conflict:notified', ({ notifications }) => {
      for (const one of notifications) if (writer.isGuarded(one.id, one.readAt)) this.#told.set(one.id, one);
    });
    ablo.on('write:rejected', ({ transaction: { modelId, data } }) => this.#take(modelId, data));
    ablo.subscribe(() => this.element.open && !this.#deciding && this.#draw());
  }

  /** Whether a refusal of a write to this row is shown here. */
  handles(id) {
    return this.#told.has(id) || this.#waiting.some(({ notification }) => notification.id === id);
  }

  #take(id, mine) {
    const notification = this.#told.get(id);
    if (notification === undefined || mine === undefined) return;
    this.#told.delete(id);
    this.#waiting.push({ notification, mine });
    if (this.#waiting.length === 1) this.#show();
  }

  #show() {
    // Another dialog may be open: this one comes above it.
    if (!this.element.open) this.element.showModal();
    this.#draw(true);
  }

  #draw(isNew = false) {
    const [{ notification, mine }] = this.#waiting;
    const { id, conflictingFields, writtenBy } = notification;
    const row = this.#ablo.tasks.get(id);
    const shown = row && Object.keys(mine).map((field) => row[field]);
    const key = JSON.stringify([id, notification.observedSyncId, shown]);
    if (!isNew && this.#body.dataset.key === key) return;
    this.#body.dataset.key = key;
    const who = writtenBy.id === this.#ablo.status.participantId ? 'You, elsewhere,' : nameOf(writtenBy.id);
    const isTheirs = (field) => conflictingFields.length === 0 || conflictingFields.includes(field);
    const cell = (...content) => h('td', {}, ...content);
    const line = ([field, value]) => {
      const theirs = isTheirs(field) ? wordsOf(field, row[field]) : h('span', { class: 'same' }, 'not changed');
      return h('tr', { 'data-field': field }, h('th', { scope: 'row' }, FIELD_LABELS[field] ?? field), cell(wordsOf(field, value)), cell(theirs));
    };
    const head = (text, ...more) => h('th', { scope: 'col' }, text, ...more);
    const buttons = row
      ? [button('Decide later', () => this.element.close(), 'quiet later'), button('Take theirs', () => this.#decide(false)), button('Keep mine', () => this.#decide(true), 'primary')]
      : [button('Give mine up', () => this.#decide(false)), button('Decide later', () => this.element.close(), 'primary')];
    this.#body.replaceChildren(
      h('p', { class: 'who' }, avatar(writtenBy.id), h('span', {}, row ? `${who} changed “${row.title}” while you did. Nothing of yours was written yet.` : `${who} deleted the task that you changed.`)),
      row
        ? h(
            'table',
            {},
            h('thead', {}, h('tr', {}, head('', h('span', { class: 'hidden' }, 'Field')), head('Mine'), head(`By ${nameOf(writtenBy.id)}`))),
            h('tbody', {}, ...Object.entries(mine).map(line)),
          )
        : keptText(mine, '', this.#say),
      h('div', { class: 'actions' }, ...buttons),
    );
    this.#body.querySelector('.primary').focus();
  }

  /** Writes mine over what was seen of theirs; or leaves theirs, and writes what they have not touched. */
  async #decide(keepMine) {
    if (this.#deciding) return;
    this.#deciding = true;
    for (const each of this.#body.querySelectorAll('button')) each.disabled = true;
    const [{ notification, mine }] = this.#waiting;
    const { id, conflictingFields, observedSyncId } = notification;
    const rest = Object.entries(mine).filter(([field]) => keepMine || (conflictingFields.length > 0 && !conflictingFields.includes(field)));
    const letters = this.#ablo.outbox.list({ stage: 'rejected' }).filter(({ error, operations }) => error.code === 'stale_context' && operations[0].id === id);
    try {
      const isWanted = rest.length > 0 && this.#ablo.tasks.get(id) !== undefined;
      const isDone = !isWanted || (await this.#writer.draft(id, Object.fromEntries(rest), observedSyncId));
      // It is on its way, or given up: the outbox need not keep it any more.
      for (const letter of isDone ? letters : []) await this.#ablo.outbox.discard(letter.id);
      if (isDone) this.#say(keepMine ? 'Yours was kept' : 'Theirs was taken');
    } catch (error) {
      this.#failed(error);
    }
    this.#deciding = false;
    this.#waiting.shift();
    if (this.#waiting.length > 0) this.#show();
    else this.element.close();
  }

  #closed() {
    // This is told a moment after: the next one may be shown already.
    if (this.element.open || this.#waiting.length === 0 || this.#deciding) return;
    this.#waiting = [];
    show('hint', 'Your version waits in the outbox until you decide.', undefined, { label: 'Outbox', run: this.#openOutbox });
  }
}

const button = (text, onclick, kind = 'quiet') => h('button', { class: kind, type: 'button', onclick }, text);
