/**
 * The source connector: dials out to the service from a network that cannot be reached from outside, and serves the
 * service's requests over that one socket (protocol, section 15).
 *
 * `createSourceConnector` keeps dialling; `Connection` is one socket, from its opening to its end. When to dial again
 * is decided in `source-schedule.ts`.
 */

import {
  ABLO_DEFAULT_BASE_URL,
  AbloAuthenticationError,
  AbloConnectionError,
  AbloError,
  AbloValidationError,
  WS_BEARER_SUBPROTOCOL_PREFIX,
} from './index.js';
import {
  type ConnectorFrame,
  ConnectorProtocolError,
  decodeFrame,
  encodeFrame,
  type RequestFrame,
  SOURCE_CONNECTOR_PROTOCOL_VERSION,
  SOURCE_CONNECTOR_WS_PATH,
  WS_SOURCE_SUBPROTOCOL,
} from './source-frames.js';
import { afterConnection, DEFAULT_RECONNECT_SCHEDULE, NO_ATTEMPTS, pauseBefore } from './source-schedule.js';

/** How long a socket may take to open and become ready, in milliseconds. */
const READY_WAIT_MS = 15_000;
/** How long an aborted connector waits for its socket to close, in milliseconds. */
const CLOSE_WAIT_MS = 2000;
/** Close code for another version where the platform's sockets refuse to send 1002, as the standard has it. */
const CLOSE_VERSION = 4002;
const VERSION_MISMATCH = 'protocol_version_mismatch';
const DEFAULT_JITTER = 0.1;

/** What a connector is doing. */
export type ConnectorStatus =
  /** A socket is being opened, or waits for the service's `ready`. */
  | 'connecting'
  /** Requests are served. */
  | 'ready'
  /** There is no socket: it waits before the next attempt, or has been aborted. */
  | 'disconnected';

/** What is used of a `WebSocket`, that of browsers, of Node 22 and later, or of the package `ws`. */
export interface SourceSocket {
  binaryType: string;
  send(text: string): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: 'open', listener: () => void): void;
  addEventListener(type: 'error', listener: (event: { readonly message?: string }) => void): void;
  addEventListener(type: 'message', listener: (event: { readonly data: unknown }) => void): void;
  addEventListener(
    type: 'close',
    listener: (event: { readonly code?: number; readonly reason?: string }) => void,
  ): void;
}

/** Options of {@link createSourceConnector}. */
export interface SourceConnectorOptions {
  /** The project's secret key, `sk_…`. It also signs the requests that come. */
  readonly apiKey: string;
  /** Answers a request of the service: what would answer it at a public endpoint, for example a `dataSource`. */
  readonly handler: (request: Request) => Promise<Response> | Response;
  /** The service. Default: `https://api.abloatai.com`. */
  readonly baseURL?: string | undefined;
  /** Opens a socket. Default: `new WebSocket(url, protocols)`, where there is a global `WebSocket`. */
  readonly webSocket?: ((url: string, protocols: string[]) => SourceSocket) | undefined;
  /**
   * Pauses before attempts to connect, in milliseconds: the first after a connection that worked, the others with every
   * failure in a row; the last repeats. Default: 0, 1000, 2000, 5000, 10000, 30000.
   */
  readonly reconnectSchedule?: readonly number[] | undefined;
  /** By which share a pause may be shorter or longer, from 0 to 1. Default: 0.1. */
  readonly jitter?: number | undefined;
  /** A label for the service's logs, such as `my-app@1.0.0`. */
  readonly client?: string | undefined;
  /** The time in milliseconds, for measuring how long connections last. Default: `Date.now`. */
  readonly now?: (() => number) | undefined;
  /** Told whenever the status changes. */
  readonly onStatus?: ((status: ConnectorStatus) => void) | undefined;
  /**
   * Told of what goes wrong while the connector goes on: sockets that fail, frames that make no sense, errors that the
   * service reports. The key is in none of it. Default: `console.warn`.
   */
  readonly onError?: ((error: AbloError) => void) | undefined;
}

/** A connector. It does nothing before `run`. */
export interface SourceConnector {
  /**
   * Keeps connected and serves requests until `signal` aborts. Then it closes the socket with 1000 `connector_aborted`,
   * aborts the `signal` of every request under way, and resolves. It never rejects.
   */
  run(signal: AbortSignal): Promise<void>;
}

/** The subprotocols that a connector offers: the protocol's, and the one that carries the key. */
export function sourceConnectorSubprotocols(apiKey: string): string[] {
  return [WS_SOURCE_SUBPROTOCOL, WS_BEARER_SUBPROTOCOL_PREFIX + apiKey];
}

/**
 * Makes a connector. For servers: it takes a secret key.
 *
 * @throws {AbloAuthenticationError} `apikey_missing`: there is no `apiKey`.
 * @throws {AbloValidationError} `invalid_options`: `param` names the option that cannot be used.
 *
 * @example
 * import { createSourceConnector, dataSource } from 'ablo-wasm/source';
 *
 * const apiKey = 'sk_test_backend';
 * const rows = new Map([['t1', { id: 't1', title: 'Call back' }]]);
 * const handler = dataSource({ apiKey, models: { tasks: { load: ({ id }) => rows.get(id) } } });
 * const connector = createSourceConnector({ baseURL: 'https://sync.example.com', apiKey, handler });
 *
 * const stop = new AbortController();
 * const running = connector.run(stop.signal);
 * stop.abort();
 * await running;
 */
export function createSourceConnector(options: SourceConnectorOptions): SourceConnector {
  const settings = check(options);
  return { run: (signal) => run(settings, signal) };
}

interface Settings extends SourceConnectorOptions {
  readonly url: string;
  readonly webSocket: (url: string, protocols: string[]) => SourceSocket;
  readonly schedule: readonly number[];
  readonly jitter: number;
  readonly now: () => number;
  readonly status: (status: ConnectorStatus) => void;
  readonly report: (error: AbloError) => void;
}

async function run(settings: Settings, signal: AbortSignal): Promise<void> {
  let attempts = NO_ATTEMPTS;
  while (!signal.aborted) {
    const pause = pauseBefore(attempts, settings.schedule, settings.jitter, Math.random());
    // Of no pause at all only the first attempt makes use: a socket that fails at once must not stop everything else.
    if (pause > 0 || attempts !== NO_ATTEMPTS) await sleep(pause, signal);
    if (signal.aborted) break;
    settings.status('connecting');
    const readyMs = await new Connection(settings, signal).ended;
    settings.status('disconnected');
    attempts = afterConnection(attempts, readyMs);
  }
}

/** One socket. `ended` resolves to how long it was ready, in milliseconds, or to undefined when it never was. */
class Connection {
  readonly ended: Promise<number | undefined>;
  readonly #settings: Settings;
  readonly #signal: AbortSignal;
  /** Aborts with the connection: nobody waits for an answer any more. */
  readonly #requests = new AbortController();
  #socket: SourceSocket | undefined;
  #readySince: number | undefined;
  #end!: (readyMs: number | undefined) => void;
  #hasEnded = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(settings: Settings, signal: AbortSignal) {
    this.#settings = settings;
    this.#signal = signal;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#open();
  }

  #open(): void {
    const { url, apiKey, webSocket, client } = this.#settings;
    let socket: SourceSocket;
    try {
      socket = this.#socket = webSocket(url, sourceConnectorSubprotocols(apiKey));
      socket.binaryType = 'arraybuffer';
    } catch (error) {
      // Not as `cause`: such errors quote the subprotocols, and one of them is the key.
      this.#fail(`the socket cannot be opened: ${messageOf(error)}`);
      this.#finish();
      return;
    }
    this.#signal.addEventListener('abort', this.#abort);
    this.#timer = setTimeout(() => {
      this.#fail(`the service did not become ready within ${READY_WAIT_MS / 1000} s`);
      this.#close(1000, 'not_ready');
      this.#finish();
    }, READY_WAIT_MS);
    socket.addEventListener('open', () => {
      const protocolVersion = SOURCE_CONNECTOR_PROTOCOL_VERSION;
      this.#send({ type: 'register', protocolVersion, ...(client === undefined ? {} : { client }) });
    });
    socket.addEventListener('message', ({ data }) => this.#receive(data));
    socket.addEventListener('error', ({ message }) => {
      // The close event follows in the same turn; not so in Node 20, for a socket that never opened.
      setTimeout(() => this.#closed(message ?? ''));
    });
    socket.addEventListener('close', ({ code, reason }) => this.#closed([code, reason].filter(Boolean).join(' ')));
  }

  #closed(why: string): void {
    if (!this.#hasEnded && !this.#signal.aborted) {
      const { url } = this.#settings;
      this.#fail(
        this.#readySince === undefined
          ? `no connection with ${url} (${why}): is the address right, and the key a secret one that is in force?`
          : `the connection was lost (${why}); connecting again`,
      );
    }
    this.#finish();
  }

  readonly #abort = (): void => {
    this.#requests.abort();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#finish(), CLOSE_WAIT_MS);
    this.#close(1000, 'connector_aborted');
  };

  #receive(data: unknown): void {
    if (this.#hasEnded || this.#signal.aborted) return;
    let frame: ConnectorFrame;
    try {
      frame = decodeFrame(data as string | ArrayBuffer);
    } catch (error) {
      // Reported and passed over: the connection stays up (15.2).
      this.#settings.report(error as ConnectorProtocolError);
      return;
    }
    switch (frame.type) {
      case 'ready':
        this.#ready(frame.protocolVersion);
        break;
      case 'request':
        void this.#serve(frame);
        break;
      case 'error': {
        const about = frame.id === undefined ? '' : ` (request ${frame.id})`;
        this.#settings.report(new AbloError(this.#redact(frame.message + about), { code: this.#redact(frame.code) }));
        break;
      }
      default:
        this.#settings.report(violation(`a service sends no ${frame.type} frames`));
    }
  }

  #ready(version: number): void {
    if (version !== SOURCE_CONNECTOR_PROTOCOL_VERSION) {
      const versions = `version ${version} of the source protocol, this package ${SOURCE_CONNECTOR_PROTOCOL_VERSION}`;
      const why = `the service speaks ${versions}: install the version of ablo-wasm that fits the service`;
      this.#settings.report(new ConnectorProtocolError(why, { code: VERSION_MISMATCH }));
      this.#close(1002, VERSION_MISMATCH);
      this.#finish(true);
      return;
    }
    if (this.#readySince !== undefined) return;
    clearTimeout(this.#timer);
    this.#readySince = this.#settings.now();
    this.#settings.status('ready');
  }

  async #serve({ id, method, url, headers, body }: RequestFrame): Promise<void> {
    const { signal } = this.#requests;
    let answer: { status: number; body: string };
    try {
      const request = new Request(url, { method, headers, body, signal });
      const response = await this.#settings.handler(request);
      answer = { status: response.status, body: await response.text() };
    } catch (error) {
      const failure = { error: 'source_connector_handler_error', message: this.#redact(messageOf(error)) };
      answer = { status: 500, body: JSON.stringify(failure) };
    }
    // Of another connection the service would not know the request.
    if (!signal.aborted) this.#send({ type: 'response', id, ...answer });
  }

  #send(frame: ConnectorFrame): void {
    try {
      this.#socket?.send(encodeFrame(frame));
    } catch (error) {
      this.#fail(`a ${frame.type} frame could not be sent: ${messageOf(error)}`);
    }
  }

  #close(code: number, reason: string): void {
    try {
      this.#socket?.close(code, reason);
    } catch {
      // Sockets of the standard send 1000 and the codes of applications only; those of the package `ws` send 1002 too.
      try {
        this.#socket?.close(CLOSE_VERSION, reason);
      } catch {
        // It is closed already.
      }
    }
  }

  /** The end, once. `isFailure`: it does not count as a connection that was ready. */
  #finish(isFailure = false): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearTimeout(this.#timer);
    this.#signal.removeEventListener('abort', this.#abort);
    this.#requests.abort();
    const since = isFailure ? undefined : this.#readySince;
    this.#end(since === undefined ? undefined : this.#settings.now() - since);
  }

  #fail(message: string): void {
    this.#settings.report(
      new AbloConnectionError(this.#redact(message), { code: 'source_network_error', retryable: true }),
    );
  }

  /** Text that others have written, without the key. */
  #redact(text: string): string {
    return text.replaceAll(this.#settings.apiKey, '[key]');
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const violation = (message: string): ConnectorProtocolError =>
  new ConnectorProtocolError(message, { code: 'protocol_violation' });

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
}

/** Calls a function of the application: what it throws is its own trouble, told where uncaught errors are. */
function guarded<A>(call: ((value: A) => void) | undefined): (value: A) => void {
  return (value) => {
    try {
      call?.(value);
    } catch (error) {
      console.error(error);
    }
  };
}

const KNOWN = [
  ...['apiKey', 'handler', 'baseURL', 'webSocket', 'reconnectSchedule', 'jitter'],
  ...['client', 'now', 'onStatus', 'onError'],
];
const NO_WEBSOCKET =
  'there is no global WebSocket here: use Node 22 or later, or pass webSocket: (url, protocols) => new ' +
  'WebSocket(url, protocols) with that of the package ws';

function check(options: SourceConnectorOptions): Settings {
  const wrong = (param: string, message: string): AbloValidationError =>
    new AbloValidationError(message, { code: 'invalid_options', param });
  for (const name of Object.keys(options)) {
    if (!KNOWN.includes(name)) throw wrong(name, `there is no option ${name}; the options are ${KNOWN.join(', ')}`);
  }
  const { apiKey, handler, baseURL = ABLO_DEFAULT_BASE_URL, client, now = Date.now } = options;
  const { jitter = DEFAULT_JITTER, reconnectSchedule: schedule = DEFAULT_RECONNECT_SCHEDULE } = options;
  if (typeof apiKey !== 'string' || apiKey === '')
    throw new AbloAuthenticationError('createSourceConnector needs an apiKey, the project’s secret key (sk_…)', {
      code: 'apikey_missing',
      param: 'apiKey',
    });
  // The key travels in a list of subprotocols, which has no other characters. It is not quoted: it is a secret.
  if (!/^[\w.~!#$%&'*+^`|-]+$/.test(apiKey))
    throw wrong('apiKey', 'apiKey may have letters, digits, - _ and . only: is there a space or a line break in it?');
  const { webSocket: open, onStatus, onError } = options;
  for (const [name, value] of Object.entries({ handler, now, webSocket: open, onStatus, onError })) {
    const isMissing = value === undefined && name !== 'handler';
    if (!isMissing && typeof value !== 'function') throw wrong(name, `${name} must be a function, got ${typeof value}`);
  }
  if (client !== undefined && typeof client !== 'string')
    throw wrong('client', `client must be a string, got ${typeof client}`);
  if (typeof jitter !== 'number' || !(jitter >= 0 && jitter <= 1))
    throw wrong('jitter', `jitter must be a number from 0 to 1, got ${String(jitter)}`);
  const isPause = (pause: unknown): boolean => typeof pause === 'number' && pause >= 0 && Number.isFinite(pause);
  if (!Array.isArray(schedule) || schedule.length === 0 || !schedule.every(isPause))
    throw wrong('reconnectSchedule', 'reconnectSchedule must be a list of pauses in milliseconds, with at least one');
  const webSocket = open ?? globalWebSocket();
  if (webSocket === undefined)
    throw wrong('webSocket', NO_WEBSOCKET);
  const warn = (error: AbloError): void => console.warn(`ablo source connector: ${error.message}`);
  const [status, report] = [guarded(onStatus), guarded(onError ?? warn)];
  const url = socketURL(baseURL, wrong);
  return { ...options, url, webSocket, schedule: [...schedule], jitter, now, status, report };
}

function globalWebSocket(): ((url: string, protocols: string[]) => SourceSocket) | undefined {
  if (typeof WebSocket === 'undefined') return undefined;
  return (url, protocols) => new WebSocket(url, protocols) as SourceSocket;
}

/** The address of the socket (protocol, section 2.1): no other normalisation than this. */
function socketURL(baseURL: string, wrong: (param: string, message: string) => AbloError): string {
  if (typeof baseURL !== 'string' || !/^(https?|wss?):\/\//.test(baseURL) || !URL.canParse(baseURL))
    throw wrong('baseURL', 'baseURL must begin with https:// or wss:// (http:// or ws:// in tests)');
  if (/^\w+:\/\/[^/]*@|[?#]/.test(baseURL))
    throw wrong('baseURL', 'baseURL must have no user, query or fragment: the key goes into apiKey');
  return baseURL.replace(/\/+$/, '').replace(/^http/, 'ws') + SOURCE_CONNECTOR_WS_PATH;
}
