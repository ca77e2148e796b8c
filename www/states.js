// What the connection does and why, in words that people use.

/** A state: the colour of its dot, a short name, and what it means. */
const STATES = {
  idle: ['wait', 'Starting', 'The client has not begun yet.'],
  authenticating: ['wait', 'Signing in', 'Asking for a key, and whose it is.'],
  connecting: ['wait', 'Connecting', 'The server was found, and a socket is being opened.'],
  connected: ['good', 'Live', 'Changes come and go as they are made.'],
  probing: ['wait', 'Looking', 'Asking whether the server is there.'],
  waiting: ['off', 'Waiting', 'It did not work. Work goes on here, and it is tried again by itself.'],
  offline: ['off', 'Offline', 'There is no network. Work goes on here and is sent later.'],
  blocked: ['bad', 'No access', 'The server does not accept our key. Nothing is lost, and it is tried again now and then.'],
  signed_out: ['bad', 'Signed out', 'The login is over. Reload the page to sign in again.'],
  disposed: ['bad', 'Ended', 'The client was shut down.'],
};
const UNKNOWN = ['wait', 'Reconnecting', 'On the way back.'];

/** States in which the client does nothing until its next attempt. */
const RESTING = ['waiting', 'blocked'];

const REASONS = {
  apikey_expired: 'The key ran out; the client asks for a new one.',
  apikey_invalid: 'The server does not know this key.',
  apikey_revoked: 'The key was withdrawn.',
  auth_no_credentials: 'There is no key for this user.',
  captive_portal: "Something else answers in the server's place; perhaps the login page of this network.",
  commit_no_result: 'The server cannot be reached.',
  identity_network_error: 'No key could be obtained.',
  instance_at_capacity: 'The server has too many connections just now.',
  protocol_violation: 'The server speaks another protocol.',
  rate_limit_exceeded: 'We asked too often.',
  service_unavailable: 'The server is busy.',
  session_expired: 'The login has ended.',
  user_suspended: 'This user was suspended.',
  ws_not_ready: 'The connection was closed.',
};

/** What to show of `ablo.status.connection`. */
export function describe({ state, reason, nextAttemptAt }) {
  const [tone, name, meaning] = STATES[state] ?? UNKNOWN;
  const why = reason === undefined ? '' : (REASONS[reason] ?? 'The server or the client gave this as the reason.');
  return { tone, name, meaning, why, nextAttemptAt: RESTING.includes(state) ? nextAttemptAt : undefined };
}
