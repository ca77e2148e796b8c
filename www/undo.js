// Undo and redo: two buttons and the keys that everybody knows. What somebody else has changed since is left alone, and
// said.

import { undoScope } from 'ablo-wasm/undo';
import { h, icon } from './dom.js';
import { nameOf } from './people.js';
import { show } from './toast.js';

const isMac = /Mac|iPhone|iPad/.test(navigator.platform);

/** @param say announces something to those who cannot see it */
export function undoBar(ablo, { failed, say }) {
  const scope = undoScope(ablo, 'board', { recordFromStream: true });
  const act = async (verb, done) => {
    try {
      const result = await scope[verb]();
      if (result?.applied > 0) say(done);
    } catch (error) {
      failed(error);
    }
  };
  const undo = () => act('undo', 'Undone');
  const redo = () => act('redo', 'Done again');
  const keys = isMac ? ['⌘Z', '⇧⌘Z'] : ['Ctrl+Z', 'Ctrl+Shift+Z'];
  const button = (name, label, key, onclick) =>
    h('button', { class: `plain ${name}`, type: 'button', title: `${label} (${key})`, 'aria-label': label, onclick }, icon(name));
  const back = button('undo', 'Undo', keys[0], undo);
  const again = button('redo', 'Redo', keys[1], redo);
  const draw = () => {
    back.disabled = !scope.canUndo();
    again.disabled = !scope.canRedo();
  };
  scope.onChange(draw);
  draw();
  scope.onConflict(({ modelKey, id, writtenBy }) => {
    const row = ablo[modelKey].get(id);
    const what = row === undefined ? 'it is gone' : `“${row.title ?? row.name}” is left as ${writtenBy ? nameOf(writtenBy.id) : 'somebody else'} has made it`;
    show('hint', `Not undone in full: ${what}.`);
  });
  document.addEventListener('keydown', (event) => {
    if (event.key.toLowerCase() !== 'z' || !(event.ctrlKey || event.metaKey) || event.altKey) return;
    // In a text, and in a dialog, the keys mean something else.
    if (event.target.closest?.('input, textarea, select, dialog')) return;
    event.preventDefault();
    if (event.shiftKey) redo();
    else undo();
  });
  return h('div', { class: 'history-buttons', role: 'group', 'aria-label': 'History' }, back, again);
}
