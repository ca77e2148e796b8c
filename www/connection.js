// The line at the top: connection, unsent writes, and the switch that pretends that the network is gone.

import { h, number } from './dom.js';
import { describe } from './states.js';
import { ConnectionStory } from './story.js';

export function connectionBar(ablo, { failed }) {
  const dot = h('i', { class: 'dot', 'aria-hidden': 'true' });
  const label = h('span', { class: 'state' });
  const pending = h('span', { class: 'pending', hidden: true });
  const story = new ConnectionStory(ablo, { failed });
  const pill = h('button', { class: 'pill', type: 'button', 'aria-haspopup': 'dialog', title: 'What the connection does, and why' }, dot, label, pending);
  story.opensFrom(pill);
  // What is in a button is not announced when it changes.
  const spoken = h('span', { class: 'hidden', role: 'status' });

  const offline = h('input', { type: 'checkbox', role: 'switch', id: 'offline' });
  offline.addEventListener('change', () => story.setOffline(offline.checked));
  story.onOffline = (isOffline) => (offline.checked = isOffline);
  const offlineSwitch = h('label', { class: 'switch', title: 'Behave as if the network were gone' }, offline, h('i', {}), 'Go offline');

  const show = () => {
    const { connection, pendingWrites } = ablo.status;
    const { tone, name } = describe(connection);
    pill.dataset.tone = tone;
    if (label.textContent !== name) label.textContent = spoken.textContent = name;
    pending.hidden = pendingWrites === 0;
    pending.textContent = `${number(pendingWrites)} unsaved`;
  };
  ablo.onStatus(show);
  show();
  return [pill, story.element, spoken, offlineSwitch];
}
