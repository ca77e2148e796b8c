/** What servers of tests begin with. */

/** A key of Acme: what `keys` of the server takes. */
export function key(token, participantKind, participantId, more) {
  return { token, participantKind, participantId, organizationId: 'acme', ...more };
}

/** Two tasks of a project. */
export const ROWS = {
  Project: [{ id: 'p1', name: 'Support' }],
  Task: [
    { id: 't1', title: 'Call back', done: false, rank: 0, projectId: 'p1' },
    { id: 't2', title: 'Send the invoice', done: false, rank: 1, projectId: 'p1' },
  ],
};
