/** `ablo.commits`. */

import { toAbloError } from './errors.js';
import { Ask } from './boundary.js';
import type { Outbox, OutboxStage } from './outbox.js';
import type { Session } from './session.js';
import { ask } from './session.js';
import type { CommitClient, CommitCreateOptions, CommitReceipt } from './types.js';
import { checkId, checkJson, checkKeys, checkObject, isPlainObject } from './values.js';
import { notClaim, optionsText } from './writes.js';

const OWN = ['operation', 'operations', 'claim'];
const OPERATION_KEYS = ['action', 'model', 'id', 'target', 'data', 'transactionId', 'readAt', 'onStale'];
const CONTEXT = 'commits.create';

/** Makes the `commits` member of a client. */
export function createCommits(session: Session, outbox: Outbox): CommitClient {
  return Object.freeze({
    async get(id: string): Promise<CommitReceipt | undefined> {
      const text = await session.send(ask(Ask.Receipt, 0, checkId(id)), (value) => value);
      const stage = outbox.get(id)?.stage;
      return text === undefined ? undefined : readReceipt(text, stage);
    },
    async create(options: CommitCreateOptions): Promise<CommitReceipt> {
      try {
        const text = commitText(options);
        return await session.send(ask(Ask.Commit, 0, text), (value) => readReceipt(value));
      } catch (error) {
        throw toAbloError(error);
      }
    },
  });
}

function readReceipt(value = '{}', stage?: OutboxStage): CommitReceipt {
  return Object.freeze({ ...(JSON.parse(value) as CommitReceipt), ...(stage && { stage }) });
}

/** The core checks the operations; here only what JSON would hide from it. */
function commitText(options: CommitCreateOptions): string {
  checkObject(options, CONTEXT, 'write_options_invalid');
  const { operation, operations, claim } = options as CommitCreateOptions;
  if (claim != null && typeof claim.claimId !== 'string') throw notClaim(claim);
  const rest = optionsText(options, OWN, CONTEXT);
  for (const [place, item] of Object.entries({ operation, ...operations })) {
    if (isPlainObject(item)) checkKeys(item, OPERATION_KEYS, 'write_options_invalid', 'member of an operation');
    checkJson(item, place === 'operation' ? place : `operations.${place}`);
  }
  return JSON.stringify({ ...(rest === undefined ? {} : JSON.parse(rest)), claim: claim?.claimId, operation, operations });
}
