/** Roles: which sync groups follow from the fields of an identity or of a row. */

import { invalid } from '../errors.js';
import { show } from '../values.js';

/** The groups `<kind>:<value>`, one for each value of the field. */
export interface Role {
  readonly kind: string;
  readonly source: { readonly field: string; readonly multi: boolean };
}

/** What kinds of groups may be called. */
export const KIND = /^[a-z][a-z0-9_]*$/;

function role({ kind, source, multi = false }: { kind: string; source: string; multi?: boolean }): Role {
  if (typeof kind !== 'string' || !KIND.test(kind)) {
    throw invalid('schema_scope_kind_invalid', `a role's kind must match ${KIND.source}, got ${show(kind)}`, 'kind');
  }
  return Object.freeze({ kind, source: Object.freeze({ field: source, multi }) });
}

/**
 * Groups of a participant, from a field of its identity.
 *
 * @example const teams = identityRole({ kind: 'team', source: 'teamIds', multi: true });
 */
export const identityRole = role;

/**
 * Groups of a row, from one of its fields.
 *
 * @example
 * const tasks = model(
 *   { title: field.string(), teamId: field.id() },
 *   {},
 *   { groups: { roles: entityRole({ kind: 'team', source: 'teamId' }) } },
 * );
 */
export const entityRole = role;

/** @internal The groups of an identity: `kind:id`, without repeats. */
export function identityGroups(identity: Readonly<Record<string, unknown>>, roles: readonly Role[]): string[] {
  const groups = roles.flatMap(({ kind, source: { field, multi } }) => {
    const value = identity[field];
    const values = multi ? (Array.isArray(value) ? (value as unknown[]) : []) : [value];
    return values.filter((id) => typeof id === 'string' && id !== '').map((id) => `${kind}:${id as string}`);
  });
  return [...new Set(groups)];
}
