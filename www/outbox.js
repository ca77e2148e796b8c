// The outbox: what is not saved yet, and what the server refused, side by side with what the row is now.

import { h, icon, number } from './dom.js';
import { PEOPLE } from './people.js';
import { COLORS, PRIORITIES, STATUSES } from './schema.js';
import { explain } from './toast.js';

const ACTIONS = { create: 'New:', update: 'Change:', delete: 'Delete:', archive: 'Archive:', unarchive: 'Restore:' };
const STAGES = {
  applied: ['clock', 'In this tab'],
  journaled: ['device', 'Saved on this device'],
  sent: ['send', 'Sending'],
};
const CHOICES = { status: STATUSES, priority: PRIORITIES, color: COLORS, assignee: Object.keys(PEOPLE) };
const HINT =
  'To see it happen: set a priority that the schema on the server does not know, as an outdated copy of this page might.';
/** More than that is counted, not listed. */
const LISTED_MAX = 5;

export class OutboxPanel {
  #ablo;
  #failed;
  #waiting = h('ul', { class: 'waiting' });
  #refused = h('ul', { class: 'refused' });
  #none = h('p', { class: 'none' }, 'Nothing was refused.');
  /** Elements of refused writes by id, so that a form which somebody fills in stays. */
  #letters = new Map();
  #badge = h('span', { class: 'badge', hidden: true });

  /** @param anyTask a task that is on the board, to show what a refusal looks like */
  constructor(ablo, { anyTask, failed }) {
    this.#ablo = ablo;
    this.#failed = failed;
    this.button = h(
      'button',
      {
        class: 'outbox',
        type: 'button',
        'aria-haspopup': 'dialog',
        title: 'What is not saved yet, and what was refused',
        onclick: () => this.open(),
      },
      icon('tray'),
      h('span', {}, 'Outbox'),
      this.#badge,
    );
    const close = () => this.element.close();
    this.element = h(
      'dialog',
      { class: 'sheet', 'aria-labelledby': 'outbox-title' },
      h(
        'header',
        {},
        h('h2', { id: 'outbox-title' }, 'Outbox'),
        h('button', { class: 'plain', type: 'button', 'aria-label': 'Close', onclick: close }, icon('close')),
      ),
      h('h3', {}, 'On its way'),
      this.#waiting,
      h('h3', {}, 'Refused by the server'),
      this.#none,
      this.#refused,
      h(
        'footer',
        {},
        h('p', {}, HINT),
        button('Send a write that is refused', () => this.#provoke(anyTask()), 'quiet provoke'),
      ),
    );
    this.element.addEventListener('click', (event) => event.target === this.element && close());
    ablo.outbox.onChange(() => this.#show());
    this.#show();
  }

  open() {
    if (!this.element.open) this.element.showModal();
  }

  // Not `tasks.update`: that checks values against the schema of this page, and would not let it out.
  async #provoke(task) {
    if (task === undefined) return;
    const operation = { action: 'update', model: 'tasks', id: task.id, data: { priority: 'urgent' } };
    await this.#ablo.commits.create({ operation, wait: 'queued' }).catch(this.#failed);
  }

  #show() {
    const entries = this.#ablo.outbox.list();
    const refused = entries.filter(({ stage }) => stage === 'rejected');
    const waiting = entries
      .filter(({ stage }) => stage !== 'rejected')
      .flatMap(({ stage, operations }) => operations.map((operation) => ({ stage, operation })));
    this.#badge.hidden = refused.length === 0;
    this.#badge.textContent = number(refused.length);
    this.#badge.setAttribute('aria-label', `${refused.length} refused`);
    this.#none.hidden = refused.length > 0;

    const listed = waiting.slice(0, LISTED_MAX).map(({ stage, operation }) => {
      const [name, text] = STAGES[stage];
      return h('li', {}, icon(name), h('span', {}, this.#headline(operation)), h('small', {}, text));
    });
    const more = waiting.length - listed.length;
    if (more > 0) listed.push(h('li', { class: 'none' }, `and ${number(more)} more`));
    if (listed.length === 0) listed.push(h('li', { class: 'none' }, 'Nothing: everything is saved.'));
    this.#waiting.replaceChildren(...listed);

    for (const id of this.#letters.keys()) {
      if (!refused.some((entry) => entry.id === id)) this.#letters.delete(id);
    }
    for (const entry of refused) {
      const known = this.#letters.get(entry.id);
      const isStale = known === undefined || (known.entry !== entry && !known.editing);
      if (isStale) this.#letters.set(entry.id, this.#letter(entry));
    }
    const elements = refused.map(({ id }) => this.#letters.get(id).element);
    const { children } = this.#refused;
    // Moving an element that is in place already would take the focus out of it.
    const isShown = elements.length === children.length && elements.every((element, at) => children[at] === element);
    if (!isShown) this.#refused.replaceChildren(...elements);
  }

  #headline({ action, id, data }, currentValues) {
    const row = this.#ablo.tasks.get(id) ?? this.#ablo.projects.get(id) ?? currentValues ?? data ?? {};
    return `${ACTIONS[action] ?? action} ${row.title ?? row.name ?? 'a task that is gone'}`;
  }

  #letter(entry) {
    const { id, error, currentValues } = entry;
    const [operation] = entry.operations;
    const fields = Object.entries(operation.data ?? {});
    const letter = { entry, editing: false, element: h('li', { 'data-id': id }) };
    const act = (work) => async () => {
      await work().catch(this.#failed);
    };
    const render = () => {
      const inputs = new Map();
      const yours = (name, value) => {
        if (!letter.editing) return format(value);
        const input = field(name, value);
        inputs.set(name, input);
        return input;
      };
      const cell = (content) => h('td', {}, content);
      const line = ([name, value]) =>
        h('tr', {}, h('th', { scope: 'row' }, name), cell(yours(name, value)), cell(format(currentValues?.[name])));
      const head = ['Field', 'Yours', 'Now'].map((text) => h('th', { scope: 'col' }, text));
      const rows = h('tbody', {}, ...fields.map(line));
      const table = fields.length > 0 ? h('table', {}, h('thead', {}, h('tr', {}, ...head)), rows) : null;
      const edit = (editing) => () => {
        letter.editing = editing;
        render();
        letter.element.querySelector(editing ? 'input, select' : 'button')?.focus();
      };
      const send = () => {
        const data = Object.fromEntries(fields.map(([name, value]) => [name, read(inputs.get(name).value, value)]));
        return this.#ablo.outbox.edit(id, data);
      };
      const buttons = letter.editing
        ? [h('button', { class: 'primary', type: 'submit' }, 'Send'), button('Cancel', edit(false))]
        : [
            button('Retry', act(() => this.#ablo.outbox.retry(id))),
            fields.length > 0 ? button('Edit', edit(true)) : null,
            button('Discard', act(() => this.#ablo.outbox.discard(id)), 'quiet danger'),
          ];
      const form = h(
        'form',
        {},
        h('h4', {}, this.#headline(operation, currentValues)),
        h('p', {}, explain(error), h('code', {}, error.code)),
        table,
        h('div', { class: 'actions' }, ...buttons),
      );
      form.addEventListener('submit', (event) => {
        event.preventDefault();
        act(send)();
      });
      letter.element.replaceChildren(form);
    };
    render();
    return letter;
  }
}

const button = (text, onclick, kind = 'quiet') => h('button', { class: kind, type: 'button', onclick }, text);
const format = (value) => (value === undefined || value === null || value === '' ? '–' : String(value));

/** What was typed, as the type that the value had. */
function read(text, before) {
  if (typeof before === 'number') return Number(text);
  if (typeof before === 'boolean') return text === 'true';
  return text === '' && before === null ? null : text;
}

function field(name, value) {
  const choices = typeof value === 'boolean' ? ['true', 'false'] : CHOICES[name];
  if (choices === undefined) return h('input', { 'aria-label': name, value: value ?? '', autocomplete: 'off' });
  // A value that is none of the choices is what was refused: it is shown, and has to be left.
  const text = String(value ?? '');
  const options = choices.includes(text) ? choices : [text, ...choices];
  const option = (choice) => h('option', { value: choice, selected: choice === text }, choice);
  return h('select', { 'aria-label': name }, ...options.map(option));
}
