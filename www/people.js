// Who works on the board. A real application would have a model for them.

import { h, icon } from './dom.js';

export const PEOPLE = {
  ada: { name: 'Ada Lovelace', initials: 'AL', hue: 265 },
  grace: { name: 'Grace Hopper', initials: 'GH', hue: 160 },
  alan: { name: 'Alan Turing', initials: 'AT', hue: 25 },
  katherine: { name: 'Katherine Johnson', initials: 'KJ', hue: 340 },
};

/** What to call a participant. Agents are none of the people that a task can be given to. */
export function nameOf(id) {
  return PEOPLE[id]?.name ?? (id === 'agent' ? 'The agent' : id);
}

/** A round picture of a person; a spark for an agent, an empty ring for nobody. */
export function avatar(id) {
  const person = PEOPLE[id];
  if (person === undefined && id) return h('span', { class: 'avatar robot', 'aria-hidden': 'true' }, icon('spark'));
  if (person === undefined) return h('span', { class: 'avatar nobody', 'aria-hidden': 'true' });
  return h('span', { class: 'avatar', style: `--hue: ${person.hue}`, 'aria-hidden': 'true' }, person.initials);
}
