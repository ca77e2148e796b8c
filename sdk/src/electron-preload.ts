/**
 * Entry `ablo-wasm/electron/preload`, the preload script: passes the wake-up on to the page.
 *
 * A preload script in the sandbox is one CommonJS file that can `require` little but `electron`. With context isolation
 * it runs in a world of its own, where `window` is another object for the same window: the DOM is shared, and an event
 * that is dispatched here is heard by the page. Electron's guide to message ports hands a port to the page this way
 * (https://www.electronjs.org/docs/latest/tutorial/message-ports); tests/e2e/electron.test.mjs does it in such a world.
 *
 * Nothing else crosses: the page gets no function, the event has no content, and the page can say nothing back.
 */

import { WAKE } from './wake.js';

declare const require: (name: 'electron') => { ipcRenderer: { on(channel: string, listener: () => void): unknown } };

require('electron').ipcRenderer.on(WAKE, () => {
  window.dispatchEvent(new Event(WAKE));
});
