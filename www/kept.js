// What somebody wrote and could not save: shown, and there to be copied.

import { h } from './dom.js';
import { FIELD_LABELS, textOf, wordsOf } from './fields.js';

/**
 * @param data fields and values
 * @param why what happened to them, if that is not clear already
 * @param say announces that they were copied
 */
export function keptText(data, why, say) {
  const lines = Object.entries(data).flatMap(([field, value]) => [h('dt', {}, FIELD_LABELS[field] ?? field), h('dd', {}, wordsOf(field, value))]);
  const list = h('dl', {}, ...lines);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(textOf(data));
      button.textContent = 'Copied';
      say('Copied');
    } catch {
      // Not allowed here: it can be copied by hand.
      getSelection().selectAllChildren(list);
      button.textContent = 'Selected: copy it';
    }
  };
  const button = h('button', { class: 'quiet', type: 'button', onclick: copy }, 'Copy my text');
  return h('section', { class: 'kept', 'aria-label': 'What you had written' }, h('h3', {}, 'What you had written'), why ? h('p', { role: 'alert' }, why) : null, list, button);
}
