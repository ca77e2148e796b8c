/** Options of `Ablo()`: checked, and turned into the core's configuration. */

import type { CoreConfig, WasmSource } from './boundary.js';
import { type CredentialResolver, fromEndpoint } from './credential.js';
import type { AbloEncryption } from './encryption.js';
import { AbloAuthenticationError, type AbloError, AbloValidationError, invalid } from './errors.js';
import type { Schema } from './schema/define.js';
import { identityGroups } from './schema/role.js';
import { checkObject, notOneOf, unfit } from './values.js';

/** Where rows and unsent writes are kept. */
export type AbloPersistence = 'memory' | 'indexeddb';

/** Options of `Ablo()`. */
export interface AbloOptions<S = Schema> {
  /** The result of `defineSchema`. */
  readonly schema: S;
  /** A key, or a function that obtains one. Default: environment variable `ABLO_API_KEY`, where there is one. */
  readonly apiKey?: string | CredentialResolver | null | undefined;
  /**
   * The address of an endpoint of yours that mints tokens, instead of an `apiKey` function. It is asked with POST and the
   * page's cookies, and answers a token as text or JSON, or `{ token, expiresAt }`; with 401 or `null` nobody is signed
   * in any more. Anything else means "try again later".
   */
  readonly authEndpoint?: string | null | undefined;
  /** A ready-made bearer token. */
  readonly authToken?: string | null | undefined;
  /** The server. Default: `https://api.abloatai.com`. A missing scheme means https. */
  readonly baseURL?: string | null | undefined;
  /**
   * Default: `'memory'`. With `'indexeddb'` rows and unsent writes survive a reload and a crash, and the tabs of one login
   * share them. Builds without storage on the device warn and work in memory; so does the client where the browser has
   * no usable IndexedDB. `status.durability` says which it is.
   *
   * @example
   * const ablo = Ablo({ schema, baseURL: 'https://sync.example.com', apiKey: 'ek_test_ada', persistence: 'indexeddb' });
   * await ablo.ready();
   * ablo.status.durability; // → 'indexeddb'
   * await ablo.purge();
   */
  readonly persistence?: AbloPersistence | undefined;
  /** Encrypts what `persistence: 'indexeddb'` stores. Default: nothing is encrypted. */
  readonly encryption?: AbloEncryption | undefined;
  /** Default: `'websocket'`. `'http'` makes the stateless client, which has options of its own. */
  readonly transport?: 'websocket' | undefined;
  /** Replaces `globalThis.fetch` for every request. */
  readonly fetch?: typeof globalThis.fetch | undefined;
  /** Permits a secret key (`sk_…`) where everybody can read it. Default: false. */
  readonly dangerouslyAllowBrowser?: boolean | undefined;
  /**
   * The WebAssembly module or its address, for places where the file beside the JavaScript cannot be fetched. The first
   * client that loads it decides for the page.
   */
  readonly wasm?: WasmSource | undefined;
}

/** Options that `Ablo()` also accepts from callers that cast. */
export interface InternalAbloOptions<S = Schema> extends AbloOptions<S> {
  readonly kind?: 'user' | 'agent' | 'system';
  readonly user?: { readonly id: string; readonly teamIds?: readonly string[] };
  readonly agentId?: string;
  readonly capabilityToken?: string;
  readonly organizationId?: string;
  readonly syncGroups?: readonly string[];
  readonly bootstrapMode?: 'full' | 'none';
  readonly autoStart?: boolean;
  readonly logger?: { warn(message: string, ...rest: unknown[]): void };
}

export const ABLO_HOSTED_API_DOMAIN = 'api.abloatai.com';
export const ABLO_DEFAULT_BASE_URL = `https://${ABLO_HOSTED_API_DOMAIN}`;
const RETIRED_HOSTS = [
  'mesh.ablo.finance',
  'mesh-staging.ablo.finance',
  'api.ablo.finance',
  'sync-staging.ablo.finance',
];

const PUBLIC = [
  ...['schema', 'apiKey', 'databaseUrl', 'persistence', 'encryption', 'transport', 'authToken', 'baseURL', 'fetch'],
  'authEndpoint',
  ...['defaultHeaders', 'defaultQuery', 'dangerouslyAllowBrowser', 'wasm'],
];
const INTERNAL = [
  ...[
    'kind',
    'user',
    'agentId',
    'capabilityToken',
    'organizationId',
    'syncGroups',
    'bootstrapMode',
    'autoStart',
    'logger',
  ],
  ...['offline', 'inMemory'],
];
/** Accepted for the sake of 0.15 and without effect: saying so once is enough. */
const IGNORED = [
  ...['defaultHeaders', 'defaultQuery', 'maxPoolSize', 'observability', 'analytics', 'configOverrides'],
];
/** Would change what the client does, so ignoring them would be wrong. */
const REFUSED: Readonly<Record<string, string>> = {
  bootstrapBaseUrl: 'all requests go to baseURL',
  sessionErrorDetector: 'the server says when a session is over',
  onlineStatus: 'the client finds out for itself',
  mutationExecutor: 'give a fetch and run against a test server',
  mutationDispatcher: 'give a fetch and run against a test server',
};

/** Options after checking. */
export interface Settings {
  readonly schema: Schema;
  readonly baseUrl: string;
  readonly apiKey: string | null;
  readonly credential: CredentialResolver | null;
  readonly authToken: string | null;
  readonly organizationId: string | null;
  readonly fetch: typeof globalThis.fetch;
  readonly wasm: WasmSource | undefined;
  readonly encryption: AbloEncryption | undefined;
  readonly autoStart: boolean;
  /** Found wrong, but to be told by `ready()` and `syncStatus`, as the existing client does. */
  readonly deferred: AbloError | undefined;
  /** Configuration that does not change after construction. */
  readonly core: Omit<CoreConfig, 'schema' | 'baseUrl' | 'apiKey' | 'apiKeyFunction' | 'authToken'>;
  warn(message: string): void;
}

type Loose = Readonly<Record<string, unknown>>;

/** Checks options. What is plainly a mistake in the program throws; the rest is in {@link Settings.deferred}. */
export function readOptions(given: unknown): Settings {
  checkObject(given, 'Ablo()');
  const options: Loose = given;
  const logger = options['logger'] as { warn(message: string): void } | undefined;
  const warn = (message: string): void => (logger ? logger.warn(message) : console.warn(`ablo: ${message}`));
  checkNames(options, warn);
  checkBrowser(options);
  const schema = checkSchema(options['schema']);
  const identity = readIdentity(options, schema);
  // Looked up on each call: pages replace globalThis.fetch. It must be called as a method of the global object.
  const fetch = (options['fetch'] as typeof globalThis.fetch | undefined) ?? ((input, init) => globalThis.fetch(input, init));
  const endpoint = options['authEndpoint'] as string | null | undefined;
  const own = options['apiKey'] ?? (endpoint ? fromEndpoint(endpoint, fetch) : undefined);
  const apiKey = own ?? (options['authToken'] == null ? environmentKey() : null);
  const wrong = (name: string, expected: string): never => {
    throw unfit(name, expected, options[name]);
  };
  if (apiKey != null && typeof apiKey !== 'string' && typeof apiKey !== 'function')
    wrong('apiKey', 'a string, a function or null');
  for (const name of ['authEndpoint', 'authToken', 'baseURL', 'capabilityToken', 'organizationId', 'agentId']) {
    if (options[name] != null && typeof options[name] !== 'string') wrong(name, 'a string');
  }
  if (options['fetch'] != null && typeof options['fetch'] !== 'function') wrong('fetch', 'a function');
  const baseURL = (options['baseURL'] ?? ABLO_DEFAULT_BASE_URL) as string;
  const missing =
    baseURL.trim() === '' &&
    new AbloValidationError('baseURL is empty', { code: 'base_url_missing', param: 'baseURL' });
  return {
    schema,
    baseUrl: normalizeAbloHostedBaseUrl(baseURL),
    apiKey: typeof apiKey === 'string' ? apiKey : null,
    credential: typeof apiKey === 'function' ? (apiKey as CredentialResolver) : null,
    authToken: identity.token,
    organizationId: (options['organizationId'] as string | undefined) ?? null,
    fetch,
    wasm: options['wasm'] as WasmSource | undefined,
    encryption: readEncryption(options['encryption']),
    autoStart: options['autoStart'] === true,
    deferred: missing || identity.problem(apiKey != null || identity.token !== null),
    core: { ...identity.config, persistence: readPersistence(options, warn), timezone: timezone() },
    warn,
  };
}

function checkNames(options: Loose, warn: (message: string) => void): void {
  const { transport } = options as { transport?: unknown };
  const isHttp = transport === 'http';
  for (const name of Object.keys(options)) {
    if (options[name] === undefined) continue;
    if (IGNORED.includes(name) && !(isHttp && name.startsWith('default'))) warn(`option "${name}" of the client 0.15 has no effect here`);
    else if (Object.hasOwn(REFUSED, name)) {
      throw invalid('invalid_options', `option "${name}" is not available in ablo-wasm: ${REFUSED[name]}`, name);
    } else if (!PUBLIC.includes(name) && !INTERNAL.includes(name)) {
      throw notOneOf('option', name, PUBLIC, name);
    }
  }
  if (transport !== undefined && transport !== 'websocket' && !isHttp) {
    throw unfit('transport', '"websocket" or "http"', transport);
  }
}

function checkBrowser(options: Loose): void {
  const { apiKey, databaseUrl, dangerouslyAllowBrowser } = options;
  const browser = typeof window !== 'undefined';
  if (browser && databaseUrl != null) {
    throw new AbloAuthenticationError('databaseUrl must not reach a browser: it holds a password', {
      code: 'browser_database_url_blocked',
      param: 'databaseUrl',
    });
  }
  if (databaseUrl != null) {
    throw invalid(
      'invalid_options',
      'databaseUrl is not available in ablo-wasm: register the database on a server',
      'databaseUrl',
    );
  }
  if (browser && typeof apiKey === 'string' && apiKey.startsWith('sk_') && dangerouslyAllowBrowser !== true) {
    throw new AbloAuthenticationError(
      'a secret key (sk_) must not reach a browser: give apiKey a function that fetches a session key, or set dangerouslyAllowBrowser',
      { code: 'browser_apikey_blocked', param: 'apiKey' },
    );
  }
}

function checkSchema(schema: unknown): Schema {
  const { models, identityRoles } = (schema ?? {}) as Partial<Schema>;
  if (typeof models === 'object' && Array.isArray(identityRoles)) return schema as Schema;
  const what =
    schema == null
      ? 'is required: the client without a schema is not part of ablo-wasm'
      : 'must come from defineSchema';
  throw invalid('invalid_options', `schema ${what}`, 'schema');
}

interface Identity {
  token: string | null;
  config: Partial<CoreConfig>;
  problem(hasCredential: boolean): AbloError | undefined;
}

function readIdentity(options: Loose, schema: Schema): Identity {
  const {
    kind = 'user',
    agentId,
    capabilityToken,
    authToken,
    organizationId,
    bootstrapMode,
  } = options as Record<string, string | undefined>;
  const user = options['user'] as InternalAbloOptions['user'];
  if (!['user', 'agent', 'system'].includes(kind))
    throw unfit('kind', 'user, agent or system', kind);
  if (bootstrapMode !== undefined && bootstrapMode !== 'full' && bootstrapMode !== 'none') {
    throw unfit('bootstrapMode', 'full or none', bootstrapMode);
  }
  if (user?.id != null && typeof user.id !== 'string')
    throw unfit('user.id', 'a string', user.id);
  const agent = kind === 'agent';
  const participantId = agent ? agentId : user?.id;
  const known = user && identityGroups({ ...user, userId: user.id, organizationId }, schema.identityRoles);
  const syncGroups = [...(known ?? []), ...((options['syncGroups'] as string[] | undefined) ?? [])];
  const config = { kind, participantId, organizationId, bootstrapMode: bootstrapMode ?? (agent ? 'none' : undefined) };
  return {
    token: (agent ? (capabilityToken ?? authToken) : (authToken ?? capabilityToken)) ?? null,
    config: { ...dropEmpty(config), ...(syncGroups.length === 0 ? {} : { syncGroups }) } as Partial<CoreConfig>,
    problem(hasCredential) {
      if (hasCredential) return undefined;
      const lacking = agent
        ? !agentId
          ? 'agentId'
          : 'capabilityToken'
        : user !== undefined && !user.id
          ? 'user.id'
          : undefined;
      return lacking && invalid('invalid_options', `${lacking} is required without another credential`, lacking);
    },
  };
}

function dropEmpty(values: Loose): Loose {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined && value !== ''));
}

function readPersistence(options: Loose, warn: (message: string) => void): AbloPersistence {
  const { persistence, offline, inMemory } = options;
  if (persistence !== undefined && persistence !== 'memory' && persistence !== 'indexeddb') {
    throw unfit('persistence', '"memory" or "indexeddb"', persistence);
  }
  if (offline !== undefined || inMemory !== undefined)
    warn('options "offline" and "inMemory" are deprecated: use persistence');
  return persistence ?? (offline === true && inMemory !== true ? 'indexeddb' : 'memory');
}

function readEncryption(given: unknown): AbloEncryption | undefined {
  if (given === undefined) return undefined;
  const { key } = (given ?? {}) as Partial<AbloEncryption>;
  const { algorithm, usages } = (key ?? {}) as Partial<CryptoKey>;
  const usable = algorithm?.name === 'AES-GCM' && usages?.includes('encrypt') && usages.includes('decrypt');
  if (key === 'device' || usable) return { key: key as AbloEncryption['key'] };
  throw invalid(
    'invalid_options',
    'encryption must be { key }, where key is "device" or a CryptoKey that encrypts and decrypts with AES-GCM',
    'encryption',
  );
}

function environmentKey(): string | null {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return process?.env?.['ABLO_API_KEY'] ?? null;
}

function timezone(): string {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone ?? 'UTC';
}

/**
 * Normalises a base URL: adds a missing scheme, turns socket schemes into HTTP ones, replaces retired host names,
 * removes trailing slashes.
 *
 * @example normalizeAbloHostedBaseUrl('wss://sync.example.com/'); // → 'https://sync.example.com'
 */
export function normalizeAbloHostedBaseUrl(url: string): string {
  const trimmed = url.trim();
  if (trimmed === '') return '';
  const absolute = /^[a-z][a-z0-9+.-]*:\/\//i.test(trimmed) ? trimmed : `https://${trimmed}`;
  const http = absolute.replace(/^ws(s?):/i, 'http$1:').replace(/\/+$/, '');
  const host = /^https?:\/\/([^/?#]+)/i.exec(http)?.[1];
  return host !== undefined && RETIRED_HOSTS.includes(host.toLowerCase())
    ? ABLO_DEFAULT_BASE_URL + http.slice(http.indexOf(host) + host.length)
    : http;
}
