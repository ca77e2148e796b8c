// Who is here: faces at the top of the page, ours first, with what each of them does.

import { h } from './dom.js';
import { avatar, nameOf, PEOPLE } from './people.js';

const FACES_MAX = 5;

export function presenceBar(ablo, me) {
  const list = h('ul', { class: 'here', 'aria-label': 'Who is here' });
  const face = (id, words) => h('li', { 'data-peer': id, title: words }, avatar(id), h('span', { class: 'hidden' }, words));
  const own = face(me, `${PEOPLE[me].name} (you)`);
  const show = () => {
    const { others } = ablo.presence;
    const faces = others.slice(0, FACES_MAX).map((peer) => face(peer.participantId, describe(peer)));
    const more = others.length - faces.length;
    if (more > 0) faces.push(h('li', { class: 'more' }, `+${more}`));
    list.replaceChildren(own, ...faces);
  };
  /** What somebody does, in words. */
  const describe = ({ participantId, activity: { entityId, action, detail } }) => {
    const name = nameOf(participantId);
    const title = ablo.tasks.get(entityId)?.title;
    if (title === undefined) return `${name} is here`;
    return `${name}: ${detail ?? action} “${title}”`;
  };
  ablo.presence.onChange(show);
  show();
  return list;
}

/** Tells others which task this page is turned to. What was said before is taken back. */
export class Attention {
  #ablo;
  #said = '';

  constructor(ablo) {
    this.#ablo = ablo;
  }

  /** @param action `'viewing'`, `'editing'`, or another word; without a task nothing is looked at */
  turn(id, action = 'viewing') {
    const said = id === undefined ? '' : `${action} ${id}`;
    if (said === this.#said) return;
    this.#said = said;
    if (id === undefined) this.#ablo.presence.idle();
    else this.#ablo.presence.update({ entityType: 'Task', entityId: id, action });
  }
}
