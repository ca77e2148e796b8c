// What a server started with `--faults` can be made to do. `cargo xtask demo` starts one; nobody else should.

const PATH = '/faults';

const BUSY = { status: 503, headers: { 'retry-after': '10', 'x-auth-failure': 'instance_at_capacity' } };
const LOGIN_PAGE = { status: 200, headers: { 'content-type': 'text/html' }, body: '<html>login</html>' };

/** What to press, what it means, and what the server is told. Of a key it learns in the body, never in an address. */
const FAULTS = [
  ['Restart', 'The server restarts and closes the connection', () => ({ close: { code: 1012, reason: 'restart' } })],
  [
    'Too busy',
    'The server has too many connections, and says when to come back',
    () => ({
      rules: [{ path: '/api/auth/check', ...BUSY }, { path: '/api/sync/ws', status: BUSY.status }],
      close: { code: 1013, reason: 'busy' },
    }),
  ],
  [
    'Captive portal',
    'A hotel answers everything with its login page',
    () => ({ rules: [{ path: '/api', ...LOGIN_PAGE }], close: { code: 1011, reason: 'portal' } }),
  ],
  ['Half-open line', 'The connection looks open, and nothing comes any more', () => ({ halfOpen: true })],
  ['Key expires', 'The server wants a new key, and there is none', (token) => ({ expire: token })],
  ['Key revoked', 'Somebody withdrew the key', (token) => ({ revoke: token })],
  ['Login ends', 'Signed out: only a reload brings it back', (token) => ({ endLogin: token })],
  ['All well again', 'Everything works, all keys too', () => ({ reset: true })],
];

/** Names, explanations and functions of what this server can be made to do: nothing, unless it was started so. */
export async function findFaults(ablo) {
  const answer = await fetch(PATH).catch(() => undefined);
  if (!answer?.ok) return [];
  return FAULTS.map(([name, title, make]) => ({
    name,
    title,
    run: async () => {
      const body = JSON.stringify(make(await ablo.getAuthToken()));
      const response = await fetch(PATH, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
      if (!response.ok) throw new Error(`the server would not: ${response.status}`);
    },
  }));
}
