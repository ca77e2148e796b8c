/**
 * The boundary between this SDK and the Rust core: types only, no code.
 *
 * State, timing and decisions are on the other side. Everything composite crosses as JSON text, rows as positions
 * ("slots") in a model's table. A model is named by its position among the keys of the schema.
 *
 * What the core promises, and this side relies on:
 * - `changed` comes before any `views` and `perform` of the same turn, so that what those lead to never
 *   reads a stale row. It comes for every model in which anything changed, with an empty array when none of its changed
 *   rows was ever seen here.
 * - A slot named to this side (by `find`, `numbers`, the result of a read) keeps its row until `changed` says
 *   that it is gone.
 * - Host methods are called while nothing in the core is borrowed: they may call back into it.
 * - In memory mode nothing is asked of the storage.
 */

/** Where the module comes from when not from the file beside the JavaScript. */
export type WasmSource = URL | string | BufferSource | WebAssembly.Module;

/** What the SDK does for the core. Given to its constructor. No method throws. */
export interface Host {
  /** Seen rows that changed since last told: `slot * 2`, plus 1 if the row is gone. */
  changed(model: number, slots: Uint32Array): void;
  /** The windows of these views changed. At most once per microtask. */
  views(ids: Uint32Array): void;
  /** A record for the next {@link Perform.WriteStore}. */
  put(store: number, key: string, value: Uint8Array): void;
  /** Does what {@link Perform}, the `kind`, says. */
  perform(
    kind: number,
    id: number,
    number: number,
    first: string | undefined,
    second: string | undefined,
    third: string | undefined,
  ): void;
}

/** What `Host.perform` is for, with the arguments that each reads. Most have a task as `id`, and are answered with it. */
export const enum Perform {
  /** Ends the promise of a ticket, the `id`, perhaps before the call that carries the ticket returns. Error, value: JSON. */
  Settle,
  /**
   * Something an application can listen to with `ablo.on`: name, payload. The payload is the JSON of an error, or of an
   * object whose member `error`, if it has one, is an error.
   */
  Event,
  /** The status snapshot changed. */
  Status,
  /** Wants {@link Ask.Turn} at the end of this microtask. */
  Turn,
  /** Wants {@link Ask.Timeout} in `number` milliseconds, and not when it was wanted before. 0: not any more. */
  Timer,
  /** Asks the application's API key function. */
  Credential,
  /** A request with the application's fetch: method, cache mode and address; bearer; JSON. `number`: milliseconds. */
  Request,
  /** Address; protocols. The socket has the task's number. */
  OpenSocket,
  /** Text. */
  Send,
  /** Code; reason. Nothing is heard of the socket any more. */
  CloseSocket,
  /** Database; name. */
  OpenStore,
  /** Database * 2 + store; first key, first key that does not belong to it. */
  ReadStore,
  /** For the next write. Store; first key, first key that stays. */
  Remove,
  /** Database * 2 + 1 for strict durability. */
  WriteStore,
  /** Database. */
  DeleteStore,
  /** Both. */
  CloseStores,
  /** Asks for the lock of this name, 1 to steal it; without a name, gives it back. */
  Lock,
  /** Joins the channel of this name; without a name, leaves. */
  Channel,
  /** Tells the other tabs. */
  Post,
}

/** Which database: 0 tells who used the application here last, 1 has the rows and the writes of one identity. */
export type DatabaseIndex = 0 | 1;

/** Which object store of a database: 0 is the journal, 1 the cache. */
export type StoreIndex = 0 | 1;

/** Bytes that nobody shares. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** A record to keep: its key and its value. Records to forget: the first key, and the first key that stays. */
export type StoreChange = readonly [store: StoreIndex, key: string, value: Bytes | string];

/** Key, value, key, value, … in the order of keys. Empty for requests that read nothing. */
export type StoreRecords = readonly (string | Bytes)[];

/**
 * What a request to the storage rejects with. Nothing of it was done. Kinds:
 * 0 there is no storage here, 1 another tab holds the database open, 2 newer code has written it, 3 the connection is
 * gone, 4 no space, 5 the transaction was aborted, 6 the key opens no record, 7 anything else.
 */
export interface StoreFailure {
  readonly kind: number;
  readonly message: string;
}

/**
 * The storage of the browser and what its tabs share. Names are hashed before the browser sees them. Keys are in the order
 * of their UTF-16 units. In ranges, `from` is less than `to`.
 *
 * Requests to one database begin in order, an open or a delete ends before the next begins. Those on one object store are
 * answered in order. Those that return promises reject with a {@link StoreFailure}; no method throws.
 */
export interface Storage {
  /** Opens a database, in place of the one open under this index. */
  open(database: DatabaseIndex, name: string): Promise<StoreRecords>;
  /** Records whose keys are at least `from` and less than `to`. A value that cannot be decrypted is empty. */
  read(database: DatabaseIndex, store: StoreIndex, from: string, to: string): Promise<StoreRecords>;
  /** Changes records in one transaction. Resolves when it is complete. `strict`: the disk has it. */
  write(database: DatabaseIndex, changes: readonly StoreChange[], strict: boolean): Promise<StoreRecords>;
  /** Closes and deletes the database that was opened last. */
  delete(database: DatabaseIndex): Promise<StoreRecords>;
  /** Closes both databases, after the requests made before. */
  close(): void;
  /** Asks for the lock of this name in place of another; without a name, gives it back. Answered by `StorageEvents.lock`. */
  lock(name: string | undefined, steal: boolean): void;
  /** Joins the channel of this name in place of another; without a name, leaves. Its texts go to `StorageEvents.posted`. */
  channel(name: string | undefined): void;
  /** Tells the other tabs. */
  post(text: string): void;
}

/** What {@link Storage} reports without being asked. */
export interface StorageEvents {
  /** The connection to a database is gone: another tab upgrades or deletes it, or the browser lost it. */
  storeClosed(database: DatabaseIndex): void;
  /** The lock was granted, or was taken away. Not called when it is given back. */
  lock(held: boolean): void;
  /** Another tab told this. */
  posted(text: string): void;
}

/** What `Core.ask` is for, with the arguments that each reads. */
export const enum Ask {
  /** Settles when the client is ready. */
  Start,
  /** Model; id, fields, options. */
  Create,
  /** Model; id, fields, options. */
  Update,
  /** Model; id, nothing, options. */
  Delete,
  /** Server reads: model; options. The value is a JSON array of slots. */
  Read,
  /** Options. The value is the JSON of a receipt. */
  Commit,
  /** Settles when every write is confirmed, or fails after so many milliseconds; negative: never. */
  Flush,
  /** Typename, id. */
  Confirmation,
  /** Token. */
  SetToken,
  /** Whether `Host.credential` can be asked, when that changes after construction: 1 or 0. */
  SetCredentialSource,
  /** Reconnects now. */
  Nudge,
  /** For demonstrations and tests, as if the network were gone: 1 or 0. */
  SetOffline,
  /** Writes a refused write again: id, fields over its own (JSON) or nothing. Settles when it is journaled. */
  Retry,
  /** Forgets a refused write: id. */
  Discard,
  /** What has become of the commit of this key: the JSON of a receipt, or nothing. */
  Receipt,
  /**
   * Claims a row of a model, or joins groups: payload of the frame (protocol.md 7.5, 7.7), options (`maxQueueDepth`,
   * `waitTimeoutMs`, `create`), both JSON. Settles when it is granted, and the row read if it had to be.
   */
  Claim,
  /** Gives a claim back: id. */
  Release,
  /** The page goes away. */
  Leave,
  /** What the participant does: JSON of an activity. */
  Activity,
  /** Tells other clients: type on the wire, payload (JSON). */
  Broadcast,
  /** Deletes what is stored of this identity, and ends. Settles when it is gone. */
  Purge,
  /** Ends; settles when what was waiting is sent or given up. */
  Dispose,
  /** A view. */
  CloseView,
  /** The end of the turn. */
  Turn,
  /** The timer. */
  Timeout,
  /** {@link StorageEvents}: the database. */
  StoreClosed,
  /** {@link StorageEvents}: 1 or 0. */
  Lock,
  /** {@link StorageEvents}: the text. */
  Posted,
  /** From here on `number` is the task. */
  SocketOpened,
  /** The text, unless it was given as bytes. */
  SocketMessage,
  /** `ticket`: the code. */
  SocketClosed,
  /** `ticket`: the status; `x-request-id`, `X-Auth-Failure`, `Retry-After`. The body was given. */
  Response,
  /** Why there is no response. */
  RequestFailed,
  /** The token; nothing when nobody is signed in. */
  Credential,
  /** Why there is none. */
  CredentialFailed,
  /** What was read was given. */
  Stored,
  /** `ticket`: the {@link StoreFailure.kind}; why. */
  StoreFailed,
  /** Of the page, as the three below. */
  Online,
  Offline,
  Visible,
  Wake,
}

/** What `Core.numbers` reads. */
export const enum Numbers {
  /** Model; options. Slots of the rows that match, in order. */
  Query,
  /** Model; options. How many match. */
  Count,
  /** Model; options. The number of a new view. */
  OpenView,
  /**
   * View. What became of its window since this was last read, or since the view was opened. `[0]`: nothing.
   * `[1, …slots]`: this is all of it now. `[2, kind, at, slot, …]`: edits in order, where kind is 0 for remove, 1 for
   * insert and 2 for changed content. Only an insert names its slot. A row that an edit puts in and a later one takes out
   * need not be there any more.
   */
  View,
}

/** What `Core.text` reads. */
export const enum Text {
  /** JSON of {@link CoreStatus}. */
  Status,
  /** JSON of an array: writes that are not confirmed in their order, then refused ones. */
  Outbox,
  /** JSON of an object: the texts of records that cannot be read, by their keys. */
  Aside,
  /** JSON of {@link CoreCoordination}. */
  Coordination,
  /** The bearer in use. */
  Token,
}

/** One client of the core. Each method that throws, throws the JSON text of an error. */
export declare class Core {
  /** @param config JSON of {@link CoreConfig}. @param random 16 bytes. */
  constructor(config: string, random: Uint8Array, host: Host);
  /** Does what {@link Ask}, the `kind`, says. */
  ask(
    kind: number,
    ticket: number,
    number: number,
    first: string | undefined,
    second: string | undefined,
    third: string | undefined,
  ): void;
  /** Bytes for the fact that is told next: records, or one thing without a key. */
  give(key: string, bytes: Uint8Array): void;
  /** Slot + 1 of a visible row, or 0. */
  find(model: number, id: string): number;
  /** `[{…},null,…]`, in the order asked for. */
  rows(model: number, slots: Uint32Array): string;
  /** Reads what {@link Numbers}, the `kind`, says. */
  numbers(kind: number, number: number, options: string | undefined): Uint32Array;
  /** Reads what {@link Text}, the `kind`, says. */
  text(kind: number): string | undefined;
  /** wasm-bindgen's own: drops the object. */
  free?(): void;
}

/** What `Core.text` tells of claims and of others, as JSON: frames as they came (protocol.md 12.2, 8.12). */
export interface CoreCoordination {
  peers: readonly object[];
  lines: readonly object[];
  own: readonly CoreClaim[];
  /** Kind of this participant. */
  kind: 'user' | 'agent' | 'system';
}

/** One of this client's claims: `claim` is what it was announced with (7.5, 7.7). */
export interface CoreClaim {
  held: boolean;
  waited: boolean;
  readAt: number;
  claim: object;
}

/** After the callback has run, every core of the page is dead. */
export declare function onPanic(callback: (error: Error) => void): void;

/** What the constructor of {@link Core} is told, as JSON. */
export interface CoreConfig {
  /** Schema JSON. */
  schema: object;
  baseUrl: string;
  apiKey?: string;
  apiKeyFunction?: true;
  authToken?: string;
  kind?: string;
  participantId?: string;
  organizationId?: string;
  syncGroups?: readonly string[];
  bootstrapMode?: 'full' | 'none';
  persistence: 'memory' | 'indexeddb';
  timezone: string;
}

/** An error that crosses, as JSON. */
export interface CoreError {
  /** Name of the error class. */
  class: string;
  code: string;
  message: string;
  retryable: boolean;
  httpStatus?: number;
  requestId?: string;
  param?: string;
  retryAfterMs?: number;
  details?: Record<string, unknown>;
}

/** What `Core.status` says, as JSON. Moments are milliseconds since the epoch. */
export interface CoreStatus {
  connection: { state: string; reason?: string; since: number; nextAttemptAt?: number };
  durability: 'memory' | 'indexeddb';
  storage: { problem?: CoreError };
  pendingWrites: number;
  rejectedWrites: number;
  participantId: string | null;
  organizationId: string | null;
  lastSyncId: number;
  sync: {
    state: 'idle' | 'syncing' | 'error' | 'offline' | 'reconnecting';
    progress: number;
    pendingChanges: number;
    isSessionError: boolean;
    error?: CoreError;
    lastSyncAt?: number;
    offlineSince?: number;
  };
}
