/** `Ablo()`: makes a client. Nothing is loaded, stored or sent before its first use. */

import { toAbloError } from './errors.js';
import { type AbloEvents, COLLABORATION, listen, type MutationFailure } from './events.js';
import { createCommits } from './commits.js';
import type { AbloHttpClient, AbloHttpOptions } from './http-types.js';
import { Coordination } from './coordination.js';
import type { ClaimClient, PresenceStream, Snapshot } from './coordination-types.js';
import { INSIDE, type Inside } from './inside.js';
import { defineLater } from './later.js';
import { createOperations } from './operations.js';
import { createOutbox, createStages, type Outbox } from './outbox.js';
import type { CredentialResolver } from './credential.js';
import { type AbloOptions, readOptions, type Settings } from './options.js';
import { checkListener } from './report.js';
import type { Schema } from './schema/define.js';
import type { InferModel, InferModelNames } from './schema/infer.js';
import { toSchemaJSON } from './schema/json.js';
import { Ask, Text } from './boundary.js';
import { ask, Session } from './session.js';
import { takeSnapshot } from './snapshot.js';
import { createStorage, type StorageClient } from './storage.js';
import { createStateless, KIT } from './stateless.js';
import { type Status, StatusReader, type SyncStatus } from './status.js';
import type { CommitClient, ModelsOf } from './types.js';
import { notOneOf, unfit } from './values.js';

/** What every client has besides its models. */
export interface AbloClient<S> {
  /** The schema, as given. */
  readonly schema: S;
  /**
   * Starts the client; resolves when rows are loaded. One shared promise; after a failure the next call tries again.
   *
   * @example
   * await ablo.ready();
   * ablo.tasks.getAll().length; // → 2
   */
  ready(): Promise<void>;
  /**
   * Sends nothing more, closes everything. Never rejects. Calls after it reject with `client_disposed`.
   *
   * @example
   * await ablo.waitForFlush();
   * await ablo.dispose();
   */
  dispose(): Promise<void>;
  /**
   * As {@link AbloClient.dispose}, at the end of a block.
   *
   * @example
   * await using ablo = Ablo({ schema, baseURL: 'https://sync.example.com', apiKey: 'ek_test_ada' });
   * await ablo.ready();
   * await ablo.tasks.create({ data: { title: 'Call back' }, wait: 'confirmed' });
   */
  [Symbol.asyncDispose](): Promise<void>;
  /**
   * Disconnects, deletes all that this identity has stored in this browser, unsent writes too, and ends the client.
   * Resolves when it is gone.
   *
   * @example
   * async function signOut() {
   *   await ablo.purge();
   *   location.assign('/login');
   * }
   */
  purge(): Promise<void>;
  /**
   * Connection, storage and writes in one frozen snapshot: a new object only when something in it changed.
   *
   * @example
   * ablo.status.connection.state; // → 'connected'
   * ablo.status.pendingWrites; // → 0
   */
  readonly status: Status;
  /**
   * Calls back after `status` changed, not at once. Returns the way to stop.
   *
   * @example
   * const stop = ablo.onStatus(({ connection, pendingWrites }) => {
   *   show(connection.state, `${pendingWrites} changes not saved yet`);
   * });
   */
  onStatus(listener: (status: Status) => void): () => void;
  /**
   * State of synchronisation: a new object only when something in it changed.
   *
   * @example
   * const { state, offlineSince } = ablo.syncStatus;
   * if (state === 'offline') show('offline since', offlineSince?.toLocaleTimeString());
   */
  readonly syncStatus: SyncStatus;
  /**
   * Listens to something that happens.
   *
   * @example ablo.on('write:rejected', ({ error, transaction }) => show(error.message, transaction.modelId));
   * @throws AbloValidationError `invalid_options` for an unknown event
   */
  on<E extends keyof AbloEvents>(event: E, listener: (payload: AbloEvents[E]) => void): () => void;
  /**
   * Calls back once for everything that changed in a turn, with the keys of the models in which something changed. For
   * bindings to user-interface libraries; to follow rows use `onChange` of a model.
   *
   * @example
   * const stop = ablo.subscribe(({ models }) => {
   *   if (models.includes('tasks')) render(ablo.tasks.getAll());
   * });
   */
  subscribe(listener: (change: { readonly models: readonly string[] }) => void): () => void;
  /**
   * Calls back when the login is over.
   *
   * @example ablo.onSessionError(() => location.assign('/login'));
   */
  onSessionError(listener: (error: Error) => void): () => void;
  /**
   * Calls back when the server refused a write, after it was undone here.
   *
   * @example ablo.onMutationFailure(({ error, transaction }) => show(`${transaction.modelName}: ${error.message}`));
   */
  onMutationFailure(listener: (failure: MutationFailure) => void): () => void;
  /**
   * Resolves when the server has confirmed every write.
   *
   * @param timeoutMs rejects with `flush_timeout` after that many milliseconds. Default: waits for ever
   * @example
   * await ablo.tasks.update({ id: task.id, data: { done: true } });
   * await ablo.waitForFlush(30_000);
   * ablo.status.pendingWrites; // → 0
   */
  waitForFlush(timeoutMs?: number): Promise<void>;
  /**
   * Settles with the newest unconfirmed write of a row; at once if there is none. Takes the typename.
   *
   * @example
   * await ablo.tasks.update({ id: task.id, data: { done: true } });
   * await ablo.waitForConfirmation('Task', task.id);
   */
  waitForConfirmation(typename: string, id: string): Promise<void>;
  /** Writes on their way and writes refused. In builds with storage on the device. */
  readonly outbox: Outbox;
  /** How the storage of this browser is doing. */
  readonly storage: StorageClient;
  /** Batches of writes. */
  readonly commits: CommitClient;
  /** Who else is there and what they are doing. */
  readonly presence: PresenceStream;
  /** Claims of any model. */
  readonly claims: ClaimClient;
  /**
   * Rows as they are, and word of the first change to one of them: for decisions that take a while. Takes ids by model.
   *
   * @throws AbloValidationError `snapshot_reserved_key`, `unknown_model`
   * @example
   * const { tasks, stamp, signal } = ablo.snapshot({ tasks: ['t1'] });
   * tasks?.['t1']?.title; // → 'Call back'
   * signal.aborted; // → false
   */
  snapshot<K extends InferModelNames<S>>(
    entities: { readonly [M in K]?: string | readonly string[] },
  ): Snapshot<{ readonly [M in K]: Readonly<Record<string, InferModel<S, M>>> }>;
  /**
   * Tells other clients that are in the same groups, without keeping it: a pointer that moves, a selection.
   *
   * @example ablo.broadcast('slide:cursor', { deckId: 'd1', slideId: 's1', x: 0.5, y: 0.2 });
   * @throws AbloValidationError `invalid_options` for an unknown event
   */
  broadcast(event: 'sheet:selection' | 'slide:selection' | 'slide:cursor', payload: object): void;
  /**
   * Replaces the token, and connects again with it.
   *
   * @example
   * const response = await fetch('/api/session', { method: 'POST' });
   * ablo.setAuthToken(await response.text());
   */
  setAuthToken(token: string): void;
  /**
   * The token in use, else the configured one, else null.
   *
   * @example await ablo.getAuthToken(); // → 'ek_test_ada'
   */
  getAuthToken(): Promise<string | null>;
  /**
   * Installs, replaces or removes the function that obtains tokens.
   *
   * @example ablo.setCredentialRefresher(async () => (await fetch('/api/session', { method: 'POST' })).text());
   */
  setCredentialRefresher(resolver: CredentialResolver | null): void;
  /** Looks for the server now. */
  nudgeReconnect(): void;
  /**
   * For demonstrations and tests: behaves as if the network were gone.
   *
   * @example
   * ablo.setOffline(true);
   * const draft = await ablo.tasks.create({ data: { title: 'Written on a train' } });
   * ablo.setOffline(false);
   * await ablo.waitForConfirmation('Task', draft.id);
   */
  setOffline(offline: boolean): void;
  /** Null until known. */
  readonly organizationId: string | null;
}

/** A client: {@link AbloClient} and one {@link ModelsOf | property per model}. */
export type Ablo<S = Schema> = AbloClient<S> & ModelsOf<S>;

if (!Symbol.asyncDispose) {
  Object.defineProperty(Symbol, 'asyncDispose', { value: Symbol.for('Symbol.asyncDispose') });
}

/**
 * Makes a client: the live one, or with `transport: 'http'` the stateless one.
 *
 * @throws AbloValidationError `invalid_options` for options that are none of ours; AbloAuthenticationError
 * `browser_apikey_blocked`, `browser_database_url_blocked`
 * @example
 * const ablo = Ablo({
 *   schema,
 *   baseURL: 'https://sync.example.com',
 *   apiKey: async () => (await fetch('/api/session', { method: 'POST' })).text(),
 * });
 * await ablo.ready();
 * ablo.tasks.onChange((tasks) => render(tasks), { where: { done: false } });
 * await ablo.tasks.create({ data: { title: 'Call back' } });
 */
export function Ablo<S extends Schema>(options: AbloHttpOptions<S>): AbloHttpClient<S>;
export function Ablo<S extends Schema>(options: AbloOptions<S>): Ablo<S>;
export function Ablo<S extends Schema>(options: AbloHttpOptions<S> | AbloOptions<S>): unknown {
  const settings = readOptions(options);
  if (options.transport === 'http') return createStateless(options, settings);
  const client = createClient(settings);
  if (settings.autoStart) client.ready().catch(() => undefined);
  return client;
}

function createClient(settings: Settings): AbloClient<Schema> {
  const { schema, deferred } = settings;
  /** Set by `setAuthToken`; afterwards the core knows better. */
  let token: string | undefined;
  let resolver = settings.credential;
  let starting: Promise<void> | undefined;
  let disposing: Promise<void> | undefined;
  let purging: Promise<void> | undefined;
  if (deferred !== undefined) settings.warn(deferred.message);

  const session = new Session(schema.models, {
    config: () => ({
      schema: toSchemaJSON(schema),
      baseUrl: settings.baseUrl,
      ...settings.core,
      ...(settings.apiKey === null ? {} : { apiKey: settings.apiKey }),
      ...(resolver === null ? {} : { apiKeyFunction: true }),
      ...((token ?? settings.authToken) === null ? {} : { authToken: (token ?? settings.authToken)! }),
    }),
    credential: resolver,
    fetch: settings.fetch,
    wasm: settings.wasm,
    encryption: settings.encryption,
  });
  const reader = new StatusReader(session, settings.organizationId, Date.now(), deferred);
  const onStatus = (listener: (status: Status) => void): (() => void) => {
    checkListener(listener);
    let told = reader.status;
    return session.statusChanges.add(() => {
      const { status } = reader;
      if (told !== status) listener((told = status));
    });
  };
  const ready = (): Promise<void> => {
    if (deferred !== undefined) return Promise.reject(deferred);
    starting ??= session
      .send(ask(Ask.Start), nothing)
      .catch((error: unknown) => {
        starting = undefined;
        throw toAbloError(error);
      });
    return starting;
  };
  const dispose = (): Promise<void> => (disposing ??= session.dispose());
  const deleteStored = async (): Promise<void> => {
    session.watch?.purged();
    if (settings.core.persistence !== 'memory') await session.send(ask(Ask.Purge), nothing);
    await dispose();
  };
  const purge = (): Promise<void> => (purging ??= deleteStored());

  const coordination = new Coordination(session, schema.models, () => reader.status.participantId);
  const outbox = createOutbox(session);
  const tellStages = createStages(session, outbox);
  const members: Omit<AbloClient<Schema>, 'outbox' | 'storage'> = {
    schema,
    ready,
    dispose,
    [Symbol.asyncDispose]: dispose,
    purge,
    get status() {
      return reader.status;
    },
    get syncStatus() {
      return reader.sync;
    },
    get organizationId() {
      return reader.status.organizationId;
    },
    onStatus,
    on(event, listener) {
      if (event === 'write:stage') tellStages();
      return listen(session, event, listener);
    },
    subscribe: (listener) => session.changes.add(listener),
    onSessionError: (listener) => {
      checkListener(listener);
      return listen(session, 'session:ended', ({ error }) => listener(error));
    },
    onMutationFailure: (listener) => {
      checkListener(listener);
      return listen(session, 'write:rejected', ({ transaction, error, permanent = true }) =>
        listener({ transaction, error, permanent }),
      );
    },
    waitForFlush: (timeoutMs) => session.send(ask(Ask.Flush, timeoutMs ?? -1), nothing),
    waitForConfirmation: (typename, id) =>
      session.send(ask(Ask.Confirmation, 0, String(typename), String(id)), nothing),
    commits: createCommits(session, outbox),
    presence: coordination.presence,
    claims: coordination.claims,
    snapshot: (entities) => takeSnapshot(session, Object.keys(schema.models), reader.status.lastSyncId, entities) as never,
    broadcast(event, payload) {
      if (!COLLABORATION.includes(event)) throw notOneOf('event', event, COLLABORATION, 'event');
      coordination.broadcast(event.replace(':', '_'), { ...payload, timestamp: Date.now() });
    },
    setAuthToken(next) {
      if (typeof next !== 'string' || next === '') {
        throw unfit('token', 'a non-empty string', next);
      }
      token = next;
      session.tell(Ask.SetToken, 0, next);
    },
    getAuthToken: async () => session.core?.text(Text.Token) ?? token ?? settings.apiKey ?? settings.authToken,
    setCredentialRefresher(next) {
      resolver = next;
      session.setCredential(next);
    },
    nudgeReconnect: () => session.tell(Ask.Nudge, 0),
    setOffline: (offline) => session.whenLoaded(() => session.tell(Ask.SetOffline, Number(offline)), nothing),
  };
  const client = members as AbloClient<Schema>;
  Object.assign(client, { outbox, storage: createStorage(session, outbox, () => reader.status) });
  for (const [index, [key, model]] of Object.entries(schema.models).entries()) {
    Object.defineProperty(client, key, { value: createOperations(session, coordination, index, key, model), enumerable: true });
  }
  const inside: Inside = { session, KIT, baseUrl: settings.baseUrl, isEncrypted: !!settings.encryption };
  Object.defineProperty(client, INSIDE, { value: inside });
  defineLater(client);
  return client;
}

function nothing(): void {}
