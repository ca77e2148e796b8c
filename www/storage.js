// How safe what is on this device is: where it is kept, how much room there is, and what is wrong with it.

import { h, nowAndThen } from './dom.js';
import { explain } from './toast.js';

/** Asking the browser is not free, and the figures are rough. */
const ASK_EVERY_MS = 10_000;

export function storageLine(ablo) {
  const place = h('span', {});
  const note = h('span', {});
  const title = 'The browser may delete this when space runs out. Ask it not to.';
  const keep = h('button', { class: 'link', type: 'button', title, hidden: true }, 'Protect');
  const dot = h('i', { class: 'dot', 'aria-hidden': 'true' });
  const element = h('div', { class: 'storage', role: 'status' }, h('p', {}, dot, place), h('p', {}, note, keep));

  const show = () => {
    const { durability, storage } = ablo.status;
    const { usage, quota, persisted, problem } = storage;
    const stored = durability === 'indexeddb';
    element.dataset.tone = problem ? 'bad' : stored ? 'good' : 'wait';
    place.textContent = stored ? 'Saved on this device' : 'Kept in this tab only';
    keep.hidden = !stored || persisted || quota === undefined || problem !== undefined;
    if (problem) note.textContent = explain(problem);
    else if (!stored) note.textContent = 'Unsent changes are lost with the tab.';
    else if (quota !== undefined) {
      note.textContent = `${bytes(usage ?? 0)} of ${bytes(quota)}${persisted ? ' · protected' : ''}`;
    }
    note.title = problem?.code ?? '';
  };
  const ask = nowAndThen(ASK_EVERY_MS, () => ablo.storage.estimate().then(show, show));
  keep.addEventListener('click', async () => {
    const granted = await ablo.storage.persist().catch(() => false);
    show();
    if (!granted) note.textContent = 'The browser did not agree.';
  });
  ablo.onStatus(({ pendingWrites }) => {
    show();
    // What is stored has changed when the last write is through.
    if (pendingWrites === 0) ask();
  });
  show();
  ask();
  return element;
}

function bytes(count) {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  const at = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3));
  const value = count / 1000 ** at;
  return `${value < 10 && at > 0 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}
