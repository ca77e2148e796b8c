/**
 * Entry `ablo-wasm`: the client, its errors, and the schema DSL.
 *
 * Reading order: `client.ts` (what an application gets), `operations.ts` (one model), `session.ts` (the line to the
 * core), `rows.ts` (rows and caches), `boundary.ts` (what crosses). Beside it `stateless.ts`: the client without a socket.
 */

import { Ablo as AbloFactory, type Ablo as AbloOf, type AbloClient } from './client.js';
import type { AbloEvents, MutationFailure, TransactionInfo } from './events.js';
import type { Credential, CredentialResolver } from './credential.js';
import type { AbloHttpClient, AbloHttpOptions } from './http-types.js';
import type { AbloOptions, AbloPersistence } from './options.js';
import type { Outbox, OutboxEntry, OutboxStage } from './outbox.js';
import type { InferCreate as New, InferModel as Row, InferModelNames as Names } from './schema/infer.js';
import type { Schema as SchemaOf } from './schema/define.js';
import type { Status, SyncStatus } from './status.js';
import type { StorageClient, StorageFigures, StorageReport } from './storage.js';
import type {
  CommitAction,
  CommitClient,
  CommitCreateOptions,
  CommitOperationInput,
  CommitReceipt,
  MutationOptions as WriteMutationOptions,
} from './types.js';

/** Makes a client. See {@link AbloFactory}. */
export const Ablo = AbloFactory;
/** A client of schema `S`. */
export type Ablo<S = SchemaOf> = AbloOf<S>;
/** Types under the name of the factory. */
export declare namespace Ablo {
  type Options<S = SchemaOf> = AbloOptions<S>;
  /** The stateless client, and its options. */
  type Http<S = SchemaOf> = AbloHttpClient<S>;
  type HttpOptions<S = SchemaOf> = AbloHttpOptions<S>;
  type Schema<S = SchemaOf> = S;
  namespace Schema {
    type InferModel<S, K extends Names<S>> = Row<S, K>;
    type InferCreate<S, K extends Names<S>> = New<S, K>;
    type InferModelNames<S> = Names<S>;
  }
  namespace Commit {
    type Wait = 'queued' | 'confirmed';
    type OperationAction = CommitAction;
    type OperationInput = CommitOperationInput;
    type CreateOptions = CommitCreateOptions;
    type Receipt = CommitReceipt;
    type Client = CommitClient;
  }
  namespace Model {
    type MutationOptions = WriteMutationOptions;
  }
}
export default Ablo;

export type {
  AbloClient,
  AbloEvents,
  AbloHttpClient,
  AbloHttpOptions,
  AbloOptions,
  AbloPersistence,
  CommitAction,
  CommitClient,
  CommitCreateOptions,
  CommitOperationInput,
  CommitReceipt,
  Credential,
  CredentialResolver,
  MutationFailure,
  Outbox,
  OutboxEntry,
  OutboxStage,
  Status,
  StorageClient,
  StorageFigures,
  StorageReport,
  SyncStatus,
  TransactionInfo,
};
export type {
  Activity,
  Claim,
  ClaimClient,
  ClaimHandle,
  ClaimLookupParams,
  ClaimLost,
  ClaimOptions,
  ClaimParams,
  Duration,
  EntityRef,
  JoinedParticipant,
  ModelClaim,
  ModelClaims,
  ModelTarget,
  Peer,
  PresenceStream,
  PresenceTarget,
  ScopedClaims,
  ScopedPresence,
  Snapshot,
  TargetRange,
} from './coordination-types.js';
export type { AbloEncryption } from './encryption.js';
export type { CollaborationEvent } from './events.js';
export type { InternalAbloOptions } from './options.js';
export {
  ABLO_DEFAULT_BASE_URL,
  ABLO_DEFAULT_BASE_URL as ABLO_HOSTED_HTTP_BASE_URL,
  ABLO_HOSTED_API_DOMAIN,
  normalizeAbloHostedBaseUrl,
} from './options.js';
export type {
  LocalCountOptions,
  LocalReadOptions,
  ModelCreateParams,
  ModelDeleteParams,
  ModelListScope,
  ModelOperations,
  ModelRetrieveParams,
  ModelUpdateParams,
  MutationOptions,
  OnStale,
  ReadDependency,
  ServerReadOptions,
  StaleNotification,
  WhereClause,
  WhereOperator,
  WriteOptions,
} from './types.js';
export {
  AbloAuthenticationError,
  AbloClaimedError,
  AbloConnectionError,
  AbloError,
  AbloIdempotencyError,
  AbloPermissionError,
  AbloRateLimitError,
  AbloServerError,
  AbloStaleContextError,
  AbloValidationError,
  CapabilityError,
  SyncSessionError,
  toAbloError,
  type AbloErrorOptions,
  type ClaimContext,
  type RequiredCapability,
} from './errors.js';
// Types only: the code is in the entry `ablo-wasm/source`.
export type { ConnectorStatus, SourceConnector, SourceConnectorOptions } from './source-connector.js';
export { assertWriteOptions } from './writes.js';
export type { WasmSource } from './boundary.js';
export * from './schema/index.js';

/** Subprotocol of the sync socket. */
export const WS_SYNC_SUBPROTOCOL = 'ablo.sync.v1';
/** Before the token, as a second subprotocol. */
export const WS_BEARER_SUBPROTOCOL_PREFIX = 'ablo.bearer.';
