/** The entries for sources and for batches, used as a server uses them. */

import type { ConnectorStatus as FromMain } from 'ablo-wasm';
import { AbloAuthenticationError, AbloError } from 'ablo-wasm';
import { createBatchScheduler } from 'ablo-wasm/batching';
import {
  ConnectorProtocolError,
  createSourceConnector,
  dataSource,
  decodeFrame,
  SourceSignatureError,
  verifyAbloSourceRequest,
  type ConnectorStatus,
  type SourceOptions,
  type SourceRow,
} from 'ablo-wasm/source';

import { equal } from './equal.js';

equal<FromMain, ConnectorStatus>(true);
equal<ConnectorStatus, 'connecting' | 'ready' | 'disconnected'>(true);

const options: SourceOptions = {
  apiKey: [{ key: 'sk_1', scopes: ['load', 'events'] }, 'sk_2'],
  models: {
    tasks: {
      load: async ({ id, scope }) => {
        equal<typeof scope.mode, 'production' | 'sandbox'>(true);
        return id === 't1' ? { id } : null;
      },
      list: ({ query }) => [{ id: 't1', limit: query.limit }],
      commit: async ({ operations, clientTxId }) => ({
        rows: operations.map((operation): SourceRow => ({ id: operation.id, clientTxId })),
      }),
    },
  },
  events: ({ cursor, limit }) => ({ events: [], nextCursor: `${cursor ?? ''}${limit}` }),
};
const handler = dataSource(options);
equal<typeof handler, (request: Request) => Promise<Response>>(true);

const connector = createSourceConnector({
  apiKey: 'sk_1',
  handler,
  webSocket: (url, protocols) => new WebSocket(url, protocols),
  reconnectSchedule: [0, 1000],
  onStatus: (status) => equal<typeof status, ConnectorStatus>(true),
  onError: (error) => equal<typeof error, AbloError>(true),
});
export const running: Promise<void> = connector.run(new AbortController().signal);

// @ts-expect-error a key is required
createSourceConnector({ handler });
// @ts-expect-error a handler answers with a Response
createSourceConnector({ apiKey: 'sk_1', handler: () => 'no response' });
// @ts-expect-error no such option
createSourceConnector({ apiKey: 'sk_1', handler, baseUrl: 'x' });
// @ts-expect-error no such request
dataSource({ apiKey: { key: 'sk_1', scopes: ['drop'] } });

export async function signatures(headers: Headers): Promise<string> {
  const result = await verifyAbloSourceRequest({ apiKey: 'sk_1', headers, body: '' });
  if (result.ok) return `${result.id} ${result.timestamp.toFixed()}`;
  equal<typeof result.error, SourceSignatureError>(true);
  const error: AbloAuthenticationError = result.error;
  return `${error.code}`;
}

export function frames(data: string): string | undefined {
  const frame = decodeFrame(data);
  if (frame.type === 'request') return frame.body;
  throw new ConnectorProtocolError('unexpected', { code: 'protocol_violation' });
}

const scheduler = createBatchScheduler(
  { dispatchBatch: async (items: string[]) => items.length, compare: (a, b) => a.localeCompare(b) },
  { maxBatchCost: 10, costOf: (item) => item.length },
);
export const result: Promise<number> = scheduler.enqueue('a');
// @ts-expect-error not an item
void scheduler.enqueue(1);
// @ts-expect-error no such option
createBatchScheduler({ dispatchBatch: async () => 1 }, { window: 5 });
