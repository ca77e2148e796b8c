import assert from 'node:assert/strict';
import { test } from 'node:test';

import { sdk } from './support.mjs';

const raw = (name, code, more = {}) => ({ class: name, code, message: 'what happened', retryable: false, ...more });

test('every class keeps its name in a minified build', () => {
  for (const [name, base, type = name] of [
    ['AbloError', Error],
    ['AbloAuthenticationError', sdk.AbloError],
    ['SyncSessionError', sdk.AbloAuthenticationError, 'AbloAuthenticationError'],
    ['AbloPermissionError', sdk.AbloError],
    ['CapabilityError', sdk.AbloPermissionError, 'AbloPermissionError'],
    ['AbloRateLimitError', sdk.AbloError],
    ['AbloIdempotencyError', sdk.AbloError],
    ['AbloConnectionError', sdk.AbloError],
    ['AbloValidationError', sdk.AbloError],
    ['AbloServerError', sdk.AbloError],
    ['AbloStaleContextError', sdk.AbloError],
    ['AbloClaimedError', sdk.AbloError],
  ]) {
    const error = sdk.errorFromCore(raw(name, 'internal_error'));
    assert.ok(error instanceof sdk[name] && error instanceof base && error instanceof sdk.AbloError, name);
    assert.equal(error.constructor, sdk[name]);
    assert.equal(sdk[name].name, name);
    assert.equal(error.name, name);
    assert.equal(error.type, type);
    assert.match(error.stack, new RegExp(`^${name}: `));
  }
});

test('all members of an error cross', () => {
  const details = { hint: 'x' };
  const more = { retryable: true, httpStatus: 503, requestId: 'req_1', param: 'p', details };
  const error = sdk.errorFromCore(JSON.stringify(raw('AbloServerError', 'instance_at_capacity', more)));
  const { code, retryable, httpStatus, requestId, param, docUrl } = error;
  assert.deepEqual(
    { code, retryable, httpStatus, requestId, param, docUrl, details: error.details },
    { code: 'instance_at_capacity', docUrl: 'https://docs.abloatai.com/errors#instance_at_capacity', ...more },
  );
  assert.deepEqual(JSON.parse(JSON.stringify(error)), {
    type: 'AbloServerError',
    code: 'instance_at_capacity',
    param: 'p',
    message: 'what happened',
    doc_url: docUrl,
    request_id: 'req_1',
    hint: 'x',
  });
});

test('members of special classes', () => {
  assert.equal(sdk.errorFromCore(raw('AbloRateLimitError', 'x', { retryAfterMs: 1500 })).retryAfterSeconds, 1.5);
  const stale = sdk.errorFromCore(
    raw('AbloStaleContextError', 'stale_context', { details: { readAt: 3, conflicts: [{ id: 'a' }] } }),
  );
  assert.deepEqual([stale.readAt, stale.conflicts], [3, [{ id: 'a' }]]);
  const claimed = sdk.errorFromCore(
    raw('AbloClaimedError', 'entity_claimed', { details: { heldByClaim: { claimId: 'c' } } }),
  );
  assert.deepEqual(claimed.claims, [{ claimId: 'c' }]);
  const capability = sdk.errorFromCore(
    raw('CapabilityError', 'capability_invalid', { details: { requiredCapability: { scope: 's' } }, httpStatus: 403 }),
  );
  assert.equal(capability.message, 'capability_invalid: what happened');
  assert.deepEqual([capability.requiredCapability, capability.httpStatus], [{ scope: 's' }, 403]);
  const session = sdk.errorFromCore(raw('SyncSessionError', 'jwt_expired'));
  assert.deepEqual([session.code, session.statusCode, session.isSessionError], ['jwt_expired', 401, true]);
  assert.ok(sdk.SyncSessionError.isSessionError({ isSessionError: true }));
  assert.ok(!sdk.SyncSessionError.isSessionError(null));
  assert.equal(new sdk.SyncSessionError('over').code, 'session_expired');
});

test('classes newer than this package are plain errors', () => {
  const error = sdk.errorFromCore(raw('AbloQuantumError', 'entangled'));
  assert.equal(error.constructor, sdk.AbloError);
  assert.equal(error.code, 'entangled');
  assert.equal(error.type, 'AbloError');
});

test('anything thrown becomes an error of ours', () => {
  const own = new sdk.AbloValidationError('x');
  assert.equal(sdk.toAbloError(own), own);
  const other = Object.assign(new TypeError('y'), { code: 'E_Y' });
  const wrapped = sdk.toAbloError(other);
  assert.deepEqual([wrapped.message, wrapped.code, wrapped.cause], ['y', 'E_Y', other]);
  assert.ok(!Object.keys(wrapped).includes('cause'));
  assert.equal(sdk.toAbloError('text').message, 'text');
  assert.equal(sdk.toAbloError(undefined).message, 'undefined');
  assert.equal(sdk.toAbloError(JSON.stringify(raw('AbloServerError', 'x'))).constructor, sdk.AbloServerError);
  assert.equal(own.retryable, false);
});
