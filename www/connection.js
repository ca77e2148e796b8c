// The line at the top: connection, unsent writes, and the switch that pretends that the network is gone.

import { h, icon, number } from './dom.js';

const STATES = {
  idle: ['wait', 'Starting'],
  connected: ['good', 'Live'],
  connecting: ['wait', 'Connecting'],
  offline: ['off', 'Offline'],
  waiting_for_network: ['off', 'Offline'],
  session_expired: ['bad', 'Signed out'],
  auth_blocked: ['bad', 'No access'],
};
const OTHER = ['wait', 'Reconnecting'];

export function connectionBar(ablo, agent) {
  const dot = h('i', { class: 'dot', 'aria-hidden': 'true' });
  const label = h('span', { class: 'state' });
  const pending = h('span', { class: 'pending', hidden: true });
  const pill = h('div', { class: 'pill', role: 'status' }, dot, label, pending);

  const offline = h('input', { type: 'checkbox', role: 'switch', id: 'offline' });
  offline.addEventListener('change', () => ablo.setOffline(offline.checked));
  const offlineSwitch = h('label', { class: 'switch', title: 'Behave as if the network were gone' }, offline, h('i', {}), 'Go offline');

  const agentLabel = h('span', {}, 'Busy agent');
  const agentButton = h(
    'button',
    { class: 'agent', type: 'button', 'aria-pressed': 'false', title: 'A second client changes tasks on the server', onclick: () => agent.toggle() },
    icon('spark'),
    agentLabel,
  );

  const show = () => {
    const { connection, pendingWrites } = ablo.status;
    const [tone, text] = STATES[connection.state] ?? OTHER;
    pill.dataset.tone = tone;
    pill.title = connection.reason ?? '';
    label.textContent = text;
    pending.hidden = pendingWrites === 0;
    pending.textContent = `${number(pendingWrites)} unsaved`;
  };
  const showAgent = () => {
    agentButton.setAttribute('aria-pressed', String(agent.isRunning));
    agentLabel.textContent = agent.isRunning ? `Agent · ${number(agent.changes)} changes` : 'Busy agent';
  };
  ablo.onStatus(show);
  show();
  return { elements: [pill, offlineSwitch, agentButton], showAgent };
}
