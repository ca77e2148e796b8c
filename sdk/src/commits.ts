/** `ablo.commits`. */

import { invalid, toAbloError } from './errors.js';
import { notYet } from './later.js';
import type { Session } from './session.js';
import type { CommitClient, CommitCreateOptions, CommitOperationInput, CommitReceipt } from './types.js';
import { checkId, checkJson, checkKeys, isPlainObject, newId, show } from './values.js';
import { optionsText } from './writes.js';

const ACTIONS = ['create', 'update', 'delete', 'archive', 'unarchive'];
const OWN = ['operation', 'operations', 'claim'];
const OPERATION_KEYS = ['action', 'model', 'id', 'target', 'data', 'transactionId', 'readAt', 'onStale'];
const CONTEXT = 'commits.create';

/** Makes the `commits` member of a client. */
export function createCommits(session: Session): CommitClient {
  return Object.freeze({
    async create(options: CommitCreateOptions): Promise<CommitReceipt> {
      try {
        const text = commitText(options);
        return await session.send((core, ticket) => core.commit(ticket, text), readReceipt);
      } catch (error) {
        throw toAbloError(error);
      }
    },
  });
}

function readReceipt(value: string | undefined): CommitReceipt {
  return Object.freeze(JSON.parse(value ?? '{}') as CommitReceipt);
}

function commitText(options: CommitCreateOptions): string {
  if (!isPlainObject(options)) throw invalid('write_options_invalid', `${CONTEXT} takes an object, got ${show(options)}`);
  const { operation, operations, claim } = options as CommitCreateOptions;
  if (operation != null && operations != null) {
    throw invalid('commit_operations_ambiguous', `${CONTEXT} takes operation or operations, not both`, 'operations');
  }
  const list: unknown = operations ?? (operation == null ? [] : [operation]);
  if (!Array.isArray(list) || list.length === 0) {
    throw invalid('commit_operation_required', `${CONTEXT} needs an operation`, 'operations');
  }
  if (claim != null) throw notYet('claim');
  const rest = optionsText(options, OWN, CONTEXT);
  const body = (list as CommitOperationInput[]).map(operationBody);
  return JSON.stringify({ wait: 'confirmed', ...(rest === undefined ? {} : JSON.parse(rest)), operations: body });
}

function operationBody(operation: CommitOperationInput, at: number): Record<string, unknown> {
  const place = `operations.${at}`;
  if (!isPlainObject(operation)) throw invalid('commit_operation_required', `${place} must be an object, got ${show(operation)}`, place);
  checkKeys(operation, OPERATION_KEYS, 'write_options_invalid', `member of ${place}`);
  const { action, target, data, transactionId, readAt, onStale } = operation;
  if (!ACTIONS.includes(action)) {
    throw invalid('commit_operation_unsupported', `${place}.action must be one of ${ACTIONS.join(', ')}, got ${show(action)}`, `${place}.action`);
  }
  const model = operation.model ?? target?.model;
  if (typeof model !== 'string' || model === '') {
    throw invalid('commit_operation_model_required', `${place} needs a model`, `${place}.model`);
  }
  const given = operation.id ?? target?.id;
  const id = checkId(given ?? (action === 'create' ? newId() : given), `${place}.id`);
  if (data !== undefined && !isPlainObject(data)) {
    throw invalid('invalid_body', `${place}.data must be a plain object, got ${show(data)}`, `${place}.data`);
  }
  checkJson(data, `${place}.data`);
  optionsText({ readAt, onStale }, [], `${CONTEXT}: ${place}`);
  return { action, model, id, data, transactionId, readAt: readAt ?? undefined, onStale: onStale ?? undefined };
}
