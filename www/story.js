// The story of the connection: what it does, why, what it did before, and buttons that make something happen to it.

import { h, icon, number } from './dom.js';
import { findFaults } from './faults.js';
import { PEOPLE } from './people.js';
import { describe } from './states.js';

const PARTS = ['name', 'meaning', 'code', 'why', 'since', 'next', 'unsent', 'who'];
const REMEMBERED_MAX = 20;
/** The countdown shows tenths of a second. */
const TICK_MS = 100;
/** Between the panel, what it belongs to, and the edges of the page. */
const GAP = 8;

export class ConnectionStory {
  /** Called when the pretended network goes or comes. */
  onOffline;
  #ablo;
  #isOffline = false;
  #entries = [];
  #last;
  #timer;
  #parts = Object.fromEntries(PARTS.map((name) => [name, h('span', { class: name })]));
  #reason = h('p', { class: 'reason' }, this.#parts.code, this.#parts.why);
  #offline = button('Go offline', () => this.setOffline(!this.#isOffline));
  #faults = h('div', { hidden: true });
  #history = h('ol', { class: 'history' });

  /** @param failed told what went wrong */
  constructor(ablo, { failed }) {
    this.#ablo = ablo;
    const { name, meaning, since, next, unsent, who } = this.#parts;
    const fact = (title, value) => [h('dt', {}, title), h('dd', {}, value)];
    const close = h('button', { class: 'plain', type: 'button', 'aria-label': 'Close' }, icon('close'));
    this.element = h(
      'div',
      { class: 'story', popover: 'auto', role: 'dialog', 'aria-labelledby': 'story-title' },
      h('header', {}, h('i', { class: 'dot', 'aria-hidden': 'true' }), h('h2', { id: 'story-title' }, h('span', { class: 'hidden' }, 'Connection: '), name), close),
      h('p', {}, meaning),
      this.#reason,
      h('dl', {}, ...fact('Since', since), ...fact('Next attempt', next), ...fact('Not saved yet', unsent), ...fact('We are', who)),
      h('h3', {}, 'Make something happen'),
      h(
        'div',
        { class: 'levers' },
        this.#offline,
        button('Wake up', () => dispatchEvent(new Event('ablo:wake')), 'As if the computer had slept'),
        button('Try now', () => ablo.nudgeReconnect(), 'Does not wait for the next attempt'),
      ),
      this.#faults,
      h('h3', {}, 'What happened'),
      this.#history,
    );
    close.popoverTargetElement = this.element;
    close.popoverTargetAction = 'hide';
    this.element.addEventListener('toggle', ({ newState }) => this.#toggled(newState === 'open'));
    ablo.onStatus(() => this.#remember());
    this.#remember();
    this.#offerFaults(failed);
  }

  async #offerFaults(failed) {
    const faults = await findFaults(this.#ablo);
    if (faults.length === 0) return;
    const buttons = faults.map(({ name, title, run }) => button(name, () => run().catch(failed), title));
    this.#faults.append(h('h3', {}, 'What the server does'), h('div', { class: 'levers' }, ...buttons));
    this.#faults.hidden = false;
  }

  /** Makes `opener` the button that shows and hides this. */
  opensFrom(opener) {
    opener.popoverTargetElement = this.element;
    const put = () => {
      const { left, bottom } = opener.getBoundingClientRect();
      const right = innerWidth - this.element.offsetWidth - GAP;
      this.element.style.setProperty('--left', `${Math.max(GAP, Math.min(left, right))}px`);
      this.element.style.setProperty('--top', `${bottom + GAP}px`);
    };
    this.element.addEventListener('toggle', put);
    addEventListener('resize', put);
  }

  /** Pretends that the network is gone, or there again. */
  setOffline(isOffline) {
    this.#isOffline = isOffline;
    this.#ablo.setOffline(isOffline);
    this.#offline.textContent = isOffline ? 'Go online' : 'Go offline';
    this.onOffline?.(isOffline);
  }

  #toggled(isOpen) {
    clearInterval(this.#timer);
    if (!isOpen) return;
    this.#show();
    this.#timer = setInterval(() => this.#showTimes(), TICK_MS);
  }

  /** Notes a state that is new, or has another reason. */
  #remember() {
    const { connection } = this.#ablo.status;
    const key = [connection.state, connection.reason].join();
    if (key !== this.#last) {
      this.#last = key;
      this.#entries.unshift(entry(connection));
      this.#entries.length = Math.min(this.#entries.length, REMEMBERED_MAX);
      this.#history.replaceChildren(...this.#entries);
    }
    if (this.element.matches(':popover-open')) this.#show();
  }

  #show() {
    const { connection, pendingWrites, participantId, organizationId } = this.#ablo.status;
    const { tone, name, meaning, why } = describe(connection);
    const parts = this.#parts;
    this.element.dataset.tone = tone;
    parts.name.textContent = name;
    parts.meaning.textContent = meaning;
    this.#reason.hidden = connection.reason === undefined;
    parts.code.textContent = connection.reason ?? '';
    parts.why.textContent = why;
    parts.unsent.textContent = pendingWrites === 0 ? 'nothing' : number(pendingWrites);
    const person = PEOPLE[participantId]?.name ?? participantId;
    parts.who.textContent = person === null ? 'nobody' : `${person} in “${organizationId}”`;
    this.#showTimes();
  }

  #showTimes() {
    const { connection } = this.#ablo.status;
    const { nextAttemptAt } = describe(connection);
    const now = Date.now();
    this.#parts.since.textContent = `${clock(connection.since)}, ${ago(now - connection.since)}`;
    const left = nextAttemptAt === undefined ? undefined : Math.max(0, nextAttemptAt - now);
    this.#parts.next.textContent = left === undefined ? '–' : `in ${(left / 1000).toFixed(1)} s`;
  }
}

const button = (text, onclick, title) => h('button', { class: 'quiet', type: 'button', onclick, title }, text);
const clock = (at) => new Date(at).toLocaleTimeString('en-GB');

/** A line of the history. On the way back the reason is still that of the trouble before: once is enough. */
function entry(connection) {
  const { tone, name } = describe(connection);
  const { reason } = connection;
  return h(
    'li',
    { 'data-tone': tone, 'data-state': connection.state },
    h('time', { datetime: new Date(connection.since).toISOString() }, clock(connection.since)),
    h('i', { class: 'dot', 'aria-hidden': 'true' }),
    h('span', {}, name),
    reason === undefined || tone === 'wait' ? null : h('code', {}, reason),
  );
}

function ago(ms) {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 1) return 'just now';
  if (seconds < 60) return `${seconds} s ago`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ago` : `${Math.floor(minutes / 60)} h ${minutes % 60} min ago`;
}
