/**
 * Entry `ablo-wasm/source`, for servers: an application's own database behind the service, reached by signed requests,
 * over a socket that the application opens (protocol, sections 15 and 16). Errors are those of the main entry, whose
 * file it imports; nothing of the core is loaded.
 */

export {
  type ConnectorStatus,
  createSourceConnector,
  type SourceConnector,
  sourceConnectorSubprotocols,
  type SourceConnectorOptions,
  type SourceSocket,
} from './source-connector.js';
export {
  dataSource,
  dataSource as abloSource,
  type SourceApiKey,
  type SourceCommitParams,
  type SourceCommitResult,
  type SourceDelta,
  type SourceEvent,
  type SourceEventsResult,
  type SourceListResult,
  type SourceModelHandlers,
  type SourceOperation,
  type SourceOperationType,
  type SourceOptions,
  type SourceQuery,
  type SourceRequestType,
  type SourceRow,
  type SourceScope,
} from './source-endpoint.js';
export {
  type ConnectorFrame,
  ConnectorProtocolError,
  decodeFrame,
  encodeFrame,
  type ErrorFrame,
  type ReadyFrame,
  type RegisterFrame,
  type RequestFrame,
  type ResponseFrame,
  SOURCE_CONNECTOR_PROTOCOL_VERSION,
  SOURCE_CONNECTOR_WS_PATH,
  WS_SOURCE_SUBPROTOCOL,
} from './source-frames.js';
export { DEFAULT_RECONNECT_SCHEDULE } from './source-schedule.js';
export {
  ABLO_SOURCE_HEADERS,
  signAbloSourceRequest,
  type SignSourceRequest,
  SourceSignatureError,
  type SourceSignatureCode,
  type SourceSignatureVerification,
  verifyAbloSourceRequest,
  type VerifySourceRequest,
} from './source-signature.js';
