// Who else is on a task: whoever holds it, who waits for it, and who looks at it. All of it as the server tells it.

import { h } from './dom.js';
import { avatar, nameOf, PEOPLE } from './people.js';

/** What people call the words of presence. */
const DOING = { editing: 'editing', viewing: 'looking', reading: 'reading', waiting: 'waiting' };
/** More than that do not fit on a card. */
const FACES_MAX = 3;

export class Company {
  #ablo;

  constructor(ablo) {
    this.#ablo = ablo;
  }

  /** Calls back after something of this has changed. */
  onChange(listener) {
    this.#ablo.claims.onChange(listener);
  }

  get me() {
    return this.#ablo.status.participantId;
  }

  /** Who holds the task, if anybody; `isOurs` when it is us. `doing` is the latest word of what for. */
  holder(id) {
    const claim = this.#ablo.tasks.claim.state({ id });
    if (claim === null) return undefined;
    const { heldBy, reason } = claim;
    const { activity } = this.peers(id).find(({ participantId }) => participantId === heldBy) ?? {};
    return { id: heldBy, isOurs: heldBy === this.me, doing: activity?.detail ?? reason, reason };
  }

  /** Who waits for the task, in order. */
  line(id) {
    return this.#ablo.tasks.claim.queue({ id }).data.map(({ heldBy }) => heldBy);
  }

  /** Our place in line: 1 is next. 0 when we are not in it. */
  place(id) {
    return this.line(id).indexOf(this.me) + 1;
  }

  /** Others who are turned to the task. */
  peers(id) {
    return this.#ablo.presence.others.filter(({ activity }) => activity.entityId === id);
  }
}

/** The corner of a card that shows it. */
export class CompanyMark {
  element = h('span', { class: 'company' });
  #company;
  #shown = '';

  constructor(company) {
    this.#company = company;
  }

  /** Shows who is on this task, and returns who holds it. */
  show(id) {
    const holder = this.#company.holder(id);
    const waiting = this.#company.line(id);
    const isNamed = ({ participantId }) => participantId === holder?.id || waiting.includes(participantId);
    const peers = this.#company.peers(id).filter((peer) => !isNamed(peer));
    const shown = JSON.stringify([holder, waiting, peers.map(({ participantId, activity }) => [participantId, activity.action])]);
    if (shown !== this.#shown) {
      this.#shown = shown;
      const parts = [holder && holding(holder, waiting), ...peers.slice(0, FACES_MAX).map(looking)];
      this.element.replaceChildren(...parts.filter(Boolean));
    }
    return holder;
  }
}

function holding({ id, isOurs, doing }, waiting) {
  // An agent has its spark, and more to say than people.
  const isPerson = Object.hasOwn(PEOPLE, id);
  const name = isOurs ? 'You' : nameOf(id);
  const who = h('span', { class: isPerson ? 'name' : 'hidden' }, `${isPerson ? name.split(' ')[0] : name} · `);
  const behind = waiting.length === 0 ? '' : `${waiting.length} in line: ${waiting.map(nameOf).join(', ')}`;
  return h(
    'span',
    { class: 'holder', 'data-holder': id, title: [`${name}: ${doing}`, behind].filter(Boolean).join(' · ') },
    avatar(id),
    h('span', { class: 'doing' }, who, doing),
    waiting.length === 0 ? null : h('span', { class: 'line' }, `+${waiting.length}`, h('span', { class: 'hidden' }, ' in line')),
  );
}

function looking({ participantId, activity }) {
  const words = `${nameOf(participantId)} is ${DOING[activity.action] ?? activity.action}`;
  return h('span', { class: 'looking', 'data-peer': participantId, title: words }, avatar(participantId), h('span', { class: 'hidden' }, words));
}
