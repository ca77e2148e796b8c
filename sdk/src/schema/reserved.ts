/** Names that the client uses itself. `defineSchema` refuses a model of such a name. */

/** Members that come with a later version. Using one throws an error that says so. */
export const LATER_NAMES = ['model', 'sessions'] as const;

/** Insides of the 0.15 client. Using one throws too: nothing here has their shape. */
export const INTERNAL_NAMES = ['_store', '_pool', '_ws'] as const;

/** All of them. `then` is among them because a client with a member of that name could not be awaited. */
export const RESERVED_NAMES: readonly string[] = [
  ...['ready', 'dispose', 'purge', 'schema', 'organizationId', 'commits', 'presence', 'claims', 'snapshot', 'broadcast', 'outbox', 'storage', 'then'],
  ...['status', 'onStatus', 'syncStatus', 'on', 'subscribe', 'onSessionError', 'onMutationFailure'],
  ...['waitForFlush', 'waitForConfirmation', 'nudgeReconnect', 'setOffline'],
  ...['setAuthToken', 'getAuthToken', 'setCredentialRefresher'],
  ...LATER_NAMES,
  ...INTERNAL_NAMES,
];
