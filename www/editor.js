// The editor of one task: a dialog that can be written in while we hold the task, and only read while somebody else does.

import { h, icon } from './dom.js';
import { CHOICES, FIELD_LABELS } from './fields.js';
import { keptText } from './kept.js';
import { avatar, nameOf } from './people.js';
import { explain, show } from './toast.js';
import { Turn } from './turn.js';

const FIELDS = ['title', 'status', 'priority', 'assignee'];
/** States of a turn in which the fields can be written in. */
const WRITABLE = ['ours', 'draft'];

export class Editor {
  #ablo;
  #writer;
  #company;
  #attention;
  #say;
  #askAgent;
  #id;
  #turn;
  #saving = false;
  #isGone = false;
  #inputs = {};
  #news = h('div', { class: 'news', role: 'status' });
  #kept = h('div', {});
  #save = h('button', { class: 'primary', type: 'submit' }, 'Save');
  #cancel = h('button', { class: 'quiet', type: 'button', onclick: () => this.element.close() }, 'Cancel');
  #agent = h('button', { class: 'quiet ask', type: 'button', onclick: () => this.#handOver() }, icon('spark'), 'Ask the agent');

  /**
   * @param say announces something
   * @param askAgent called with the id of a task that the agent is to look at
   */
  constructor(ablo, writer, { company, attention, say, askAgent }) {
    this.#ablo = ablo;
    this.#writer = writer;
    this.#company = company;
    this.#attention = attention;
    this.#say = say;
    this.#askAgent = askAgent;
    const close = h('button', { class: 'plain', type: 'button', 'aria-label': 'Close', onclick: () => this.element.close() }, icon('close'));
    const form = h(
      'form',
      {},
      ...FIELDS.map((field) => h('label', { 'data-field': field }, h('span', {}, FIELD_LABELS[field]), (this.#inputs[field] = input(field)))),
      h('footer', {}, this.#agent, this.#cancel, this.#save),
    );
    this.element = h(
      'dialog',
      { class: 'editor', 'aria-labelledby': 'editor-title' },
      h('header', {}, h('h2', { id: 'editor-title' }, 'Task'), close),
      this.#news,
      this.#kept,
      form,
    );
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#inputs.title.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    });
    this.element.addEventListener('close', () => this.element.open || this.#end());
    company.onChange(() => this.#draw());
    ablo.subscribe(({ models }) => models.includes('tasks') && this.#follow());
  }

  /** @param kept fields that somebody has written elsewhere and could not save */
  open(id, kept) {
    if (this.element.open) return;
    this.#end();
    this.#id = id;
    this.#isGone = this.#saving = false;
    this.#kept.replaceChildren(...(kept ? [keptText(kept, '', this.#say)] : []));
    this.#forget();
    this.#turn = new Turn(this.#ablo, id, () => this.#turned());
    this.#follow();
    this.element.showModal();
    this.#turn.take();
  }

  /** What was written in here and is not saved. */
  get #edits() {
    const row = this.#ablo.tasks.get(this.#id) ?? {};
    const edits = FIELDS.map((field) => [field, valueOf(this.#inputs[field])]);
    return Object.fromEntries(edits.filter(([field, value]) => this.#inputs[field].touched && value !== (row[field] ?? null)));
  }

  /** The turn is in another state. */
  #turned() {
    const { state, error } = this.#turn;
    if (state === 'lost') this.#keep();
    if (state === 'ours' || state === 'draft') this.#follow();
    this.#attention.turn(this.#id, { ours: 'editing', draft: 'editing', waiting: 'waiting' }[state] ?? 'viewing');
    this.#draw(error);
    if (WRITABLE.includes(state)) this.#inputs.title.focus();
    else if (state === 'lost') this.#news.querySelector('button').focus();
  }

  /** Shows the row as it is, except in fields that are being written in. */
  #follow() {
    if (this.#turn === undefined) return;
    const row = this.#ablo.tasks.get(this.#id);
    const wasGone = this.#isGone;
    this.#isGone = row === undefined;
    if (this.#isGone && !wasGone) this.#keep();
    for (const field of FIELDS) if (row && !this.#inputs[field].touched) this.#inputs[field].value = row[field] ?? '';
    this.#draw();
  }

  /** Keeps what was written where it can be copied, and shows the row again. */
  #keep(why = '') {
    const edits = this.#edits;
    this.#forget();
    if (Object.keys(edits).length > 0) this.#kept.replaceChildren(keptText(edits, why, this.#say));
    this.#follow();
  }

  async #submit() {
    const turn = this.#turn;
    const { state, claim, readAt } = turn;
    const data = this.#edits;
    if (this.#saving || !WRITABLE.includes(state) || data.title === '') return;
    if (Object.keys(data).length === 0) return this.element.close();
    if (state === 'draft') {
      this.#writer.draft(this.#id, data, readAt);
      this.#forget();
      return this.element.close();
    }
    this.#saving = true;
    this.#draw();
    let problem;
    try {
      await this.#writer.updateUnder(claim, this.#id, data);
    } catch (error) {
      problem = error;
    }
    // Whoever does not wait for the answer finds it in the outbox.
    if (this.#turn !== turn) return;
    this.#saving = false;
    if (problem === undefined) {
      this.#forget();
      this.element.close();
    } else {
      this.#keep(`It was not saved. ${explain(problem)}`);
    }
  }

  #forget() {
    for (const field of FIELDS) this.#inputs[field].touched = false;
  }

  #handOver() {
    this.#askAgent(this.#id);
    if (this.#turn.state === 'ours') this.#say('The agent waits in line until you close this.');
  }

  /** Ends what was open. The dialog tells of its end a moment later, when the next task may be open already. */
  #end() {
    if (this.#turn === undefined) return;
    const turn = this.#turn;
    const id = this.#id;
    const edits = this.#saving || this.#isGone ? {} : this.#edits;
    if (Object.keys(edits).length > 0) {
      show('hint', 'What you changed is not saved.', undefined, { label: 'Bring it back', run: () => this.open(id, edits) });
    }
    this.#turn = undefined;
    this.#attention.turn();
    turn.end();
  }

  #draw(error = this.#turn?.error) {
    if (this.#turn === undefined) return;
    const { state } = this.#turn;
    const isOpen = WRITABLE.includes(state) && !this.#isGone && !this.#saving;
    this.element.dataset.state = this.#isGone ? 'gone' : state;
    this.#inputs.title.readOnly = !isOpen;
    for (const field of FIELDS.slice(1)) this.#inputs[field].disabled = !isOpen;
    this.#save.hidden = !WRITABLE.includes(state) || this.#isGone;
    this.#save.disabled = this.#saving;
    this.#save.textContent = this.#saving ? 'Saving…' : 'Save';
    this.#cancel.textContent = this.#save.hidden ? 'Close' : 'Cancel';
    this.#agent.hidden = this.#isGone;
    const [face, text, action] = this.#words(state, error);
    const key = JSON.stringify([face, text, action?.[0]]);
    if (key === this.#news.dataset.key) return;
    this.#news.dataset.key = key;
    // The button that has the focus may be about to go.
    const hadFocus = this.#news.contains(document.activeElement);
    const button = action && h('button', { class: 'quiet', type: 'button', onclick: action[1] }, action[0]);
    this.#news.replaceChildren(...(text ? [face ? avatar(face) : icon(state === 'lost' ? 'alert' : 'clock'), h('p', {}, text), button ?? ''] : []));
    if (hadFocus) (button ?? this.#cancel).focus();
  }

  /** Whose face, what to say, and what can be done: its name and a function. */
  #words(state, error) {
    if (this.#isGone) return ['', 'Somebody has deleted this task.'];
    const again = (name) => [name, () => this.#turn.take()];
    const holder = this.#company.holder(this.#id);
    const line = this.#company.line(this.#id);
    const who = holder && nameOf(holder.id);
    switch (state) {
      case 'asking':
        return ['', 'One moment: asking for the task…'];
      case 'ours':
        return line.length === 0 ? [] : [line[0], `${list(line.map(nameOf))} ${line.length === 1 ? 'waits' : 'wait'} until you are done.`];
      case 'theirs': {
        if (holder === undefined) return ['', 'It is free now.', again('Edit')];
        const behind = line.length === 0 ? '' : ` ${line.length === 1 ? 'One waits' : `${line.length} wait`} already.`;
        const doing = holder.doing === 'editing' ? 'is editing this task' : `has this task: ${holder.doing}`;
        return [holder.id, `${who} ${doing}.${behind}`, ['Wait in line', () => this.#turn.wait()]];
      }
      case 'waiting': {
        const place = this.#company.place(this.#id);
        const text = place === 0 ? 'Getting in line…' : `You are ${place === 1 ? 'next' : `number ${place}`} in line, behind ${list([who, ...line.slice(0, place - 1).map(nameOf)])}.`;
        return [holder?.id ?? '', text, ['Leave the line', () => this.#turn.leaveLine()]];
      }
      case 'draft':
        return ['', 'There is no connection, so nobody can be asked. Your changes are sent later, and compared with what others did.'];
      case 'lost':
        return ['', `Your turn is over: the server could not keep the task for you.${this.#kept.firstChild ? ' What you had written is below, so that nothing is lost.' : ''}`, again('Edit again')];
      default:
        return ['', error ? explain(error) : 'It cannot be edited.', again('Try again')];
    }
  }
}

/** The control of a field. */
function input(field) {
  const touch = ({ target }) => (target.touched = true);
  if (field === 'title') return h('textarea', { name: field, rows: 2, maxlength: 500, oninput: touch });
  return h('select', { name: field, onchange: touch }, ...CHOICES[field].map(([value, text]) => h('option', { value }, text)));
}

function valueOf({ name, value }) {
  if (name === 'title') return value.replace(/\s+/g, ' ').trim();
  return value === '' ? null : value;
}

const list = (names) => new Intl.ListFormat('en').format(names.filter(Boolean));
