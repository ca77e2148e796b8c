/** Frames between a source connector and the service (protocol, section 15): their shapes, writing, reading. */

import { AbloError } from './index.js';

/** Version of the frames, sent in `register`. */
export const SOURCE_CONNECTOR_PROTOCOL_VERSION = 1;
/** Path of the connector's socket, below the base URL. */
export const SOURCE_CONNECTOR_WS_PATH = '/v1/source/listen';
/** Subprotocol of the connector's socket. */
export const WS_SOURCE_SUBPROTOCOL = 'ablo.source.v1';

/** Connector to service, first: who dials in. */
export interface RegisterFrame {
  readonly type: 'register';
  readonly protocolVersion: number;
  /** A label for the service's logs. */
  readonly client?: string | undefined;
}

/** Service to connector: requests may come now. */
export interface ReadyFrame {
  readonly type: 'ready';
  readonly protocolVersion: number;
  readonly sourceId?: string | undefined;
  readonly organizationId?: string | undefined;
  readonly environment?: 'production' | 'sandbox' | undefined;
}

/** Service to connector: what would have been posted to a public endpoint, byte for byte. */
export interface RequestFrame {
  readonly type: 'request';
  readonly id: string;
  readonly method: 'POST';
  /** An absolute URL, of use for building a `Request` only: nothing has to be there. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Connector to service: the answer to the request with this id. */
export interface ResponseFrame {
  readonly type: 'response';
  readonly id: string;
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body: string;
}

/** Either way: a request failed, or without an id, something is wrong with the connection. */
export interface ErrorFrame {
  readonly type: 'error';
  readonly id?: string | undefined;
  readonly code: string;
  readonly message: string;
}

/** Any frame. */
export type ConnectorFrame = RegisterFrame | ReadyFrame | RequestFrame | ResponseFrame | ErrorFrame;

/**
 * A frame, or the other side's version, is not of this protocol. The code is `protocol_violation` or
 * `protocol_version_mismatch`. Like every error of this package it is an `AbloError`.
 */
export class ConnectorProtocolError extends AbloError {
  static {
    Object.defineProperty(this.prototype, 'name', { value: 'ConnectorProtocolError', configurable: true });
  }
}

/** A frame as text. */
export function encodeFrame(frame: ConnectorFrame): string {
  return JSON.stringify(frame);
}

/**
 * Reads a frame: text, or the same in UTF-8. Members that the protocol does not know are left out.
 *
 * @throws {ConnectorProtocolError} `protocol_violation`: it is no JSON object, its type is unknown, or the member that
 * the message names is missing or of the wrong type.
 */
export function decodeFrame(data: string | ArrayBuffer | ArrayBufferView): ConnectorFrame {
  let raw: unknown;
  try {
    raw = JSON.parse(typeof data === 'string' ? data : new TextDecoder('utf-8', { fatal: true }).decode(data));
  } catch {
    throw violation('a frame is not JSON');
  }
  if (!isRecord(raw)) throw violation('a frame is not a JSON object');
  const { type } = raw;
  const isKnown = typeof type === 'string' && Object.hasOwn(SHAPES, type);
  if (!isKnown) {
    const known = Object.keys(SHAPES).join(', ');
    throw violation(`the type of a frame is ${JSON.stringify(type)}, but must be one of ${known}`);
  }
  const shape = SHAPES[type as ConnectorFrame['type']];
  const frame: Record<string, unknown> = { type };
  for (const [name, [expected, test]] of Object.entries(shape)) {
    const value = raw[name];
    if (value === undefined && expected.endsWith('?')) continue;
    if (!test(value)) throw violation(`${name} in a frame of type ${type} must be ${expected.replace('?', ' or absent')}`);
    frame[name] = value;
  }
  return frame as unknown as ConnectorFrame;
}

type Member = readonly [expected: string, test: (value: unknown) => boolean];

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isString = (value: unknown): value is string => typeof value === 'string';
const isName = (value: unknown): boolean => isString(value) && value !== '';
const isHeaders = (value: unknown): boolean => isRecord(value) && Object.values(value).every(isString);

// An expectation that ends in `?` is of a member that may be absent.
const VERSION: Member = ['an integer', Number.isInteger];
const NAME: Member = ['a non-empty string', isName];
const TEXT: Member = ['a string', isString];
const MAYBE_TEXT: Member = ['a string?', isString];
const SHAPES: Record<ConnectorFrame['type'], Readonly<Record<string, Member>>> = {
  register: { protocolVersion: VERSION, client: MAYBE_TEXT },
  ready: {
    protocolVersion: VERSION,
    sourceId: MAYBE_TEXT,
    organizationId: MAYBE_TEXT,
    environment: ['production, sandbox?', (value) => value === 'production' || value === 'sandbox'],
  },
  request: {
    id: NAME,
    method: ['POST', (value) => value === 'POST'],
    url: ['an absolute URL', (value) => isString(value) && URL.canParse(value)],
    headers: ['an object of strings', isHeaders],
    body: TEXT,
  },
  response: {
    id: NAME,
    status: ['an integer', Number.isInteger],
    headers: ['an object of strings?', isHeaders],
    body: TEXT,
  },
  error: { id: ['a non-empty string?', isName], code: NAME, message: TEXT },
};

function violation(message: string): ConnectorProtocolError {
  return new ConnectorProtocolError(message, { code: 'protocol_violation' });
}
