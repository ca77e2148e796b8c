// A button that starts and stops an agent, and says what it does.

import { h, icon, oncePerFrame } from './dom.js';

/** @param make makes the agent, given what to call when its label may have changed */
export function agentButton(name, title, make) {
  const label = h('span', {});
  const spoken = h('span', { class: 'hidden', role: 'status' });
  const button = h(
    'button',
    { class: `agent ${name}`, type: 'button', 'aria-pressed': 'false', title, onclick: () => agent.toggle() },
    icon('spark'),
    label,
  );
  const draw = () => {
    const wasRunning = button.getAttribute('aria-pressed') === 'true';
    button.setAttribute('aria-pressed', String(agent.isRunning));
    label.textContent = agent.label;
    if (wasRunning !== agent.isRunning) spoken.textContent = agent.isRunning ? 'Started' : 'Stopped';
  };
  const agent = make(oncePerFrame(draw));
  draw();
  return { agent, elements: [button, spoken] };
}
