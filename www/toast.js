// Messages at the bottom of the page, in words that people use, with the code for those who must look it up.

import { h, icon } from './dom.js';

const STAY_MS = 8000;
const SHOWN_MAX = 3;

const WORDS = {
  entity_not_found: 'Somebody deleted this task in the meantime.',
  mutate_update_entity_not_found: 'Somebody deleted this task in the meantime.',
  stale_context: 'Somebody changed this task in the meantime. Yours was undone; look at theirs first.',
  entity_claimed: 'Somebody else is working on this task right now.',
  capability_scope_denied: 'You are not allowed to do that.',
  session_expired: 'You were signed out. Reload the page to sign in again.',
  auth_no_credentials: 'There is no key for this user. Was the server started with dev-keys.json?',
  wasm_unavailable: 'The client could not be loaded. Is the package built?',
  idempotency_window_expired: 'Nobody can tell any more whether this was saved. Compare before you retry.',
  storage_quota_exceeded: 'The disk is full. New changes are kept in this tab only.',
  rate_limit_exceeded: 'That was too much at once. Try again in a moment.',
};

const region = h('div', { class: 'toasts', role: 'status', 'aria-live': 'polite' });
document.body.append(region);

/** What an error means, for a person. */
export function explain(error) {
  return WORDS[error.code] ?? sentence(error.message);
}

/** Shows an error to a person. */
export function showError(error, context, action) {
  show('error', [context, explain(error)].filter(Boolean).join(' '), error.code, action);
}

/** Shows a message, perhaps with something to press. */
export function show(kind, text, code, action) {
  const close = () => toast.remove();
  const toast = h(
    'div',
    { class: 'toast', 'data-kind': kind },
    h('p', {}, text, code ? h('code', {}, code) : null),
    action ? h('button', { class: 'link', type: 'button', onclick: () => (close(), action.run()) }, action.label) : null,
    h('button', { class: 'plain', type: 'button', 'aria-label': 'Dismiss', onclick: close }, icon('close')),
  );
  region.append(toast);
  while (region.children.length > SHOWN_MAX) region.firstChild.remove();
  setTimeout(close, STAY_MS);
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
