/** Schema JSON (the form that servers take), and its hash. */

import type { Schema } from './define.js';
import type { ModelDef } from './model.js';
import type { Relation } from './relation.js';

/** Schema JSON, version 3. */
export interface SchemaJSON {
  readonly v: 3;
  readonly models: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly identityRoles: Schema['identityRoles'];
}

/**
 * The schema as JSON: all that is not a function or a type.
 *
 * @example Object.keys(toSchemaJSON(schema).models); // → ['projects', 'tasks']
 */
export function toSchemaJSON(schema: Schema): SchemaJSON {
  const models = Object.entries(schema.models).map(([key, model]) => [key, modelJSON(model)]);
  return { v: 3, models: Object.fromEntries(models), identityRoles: schema.identityRoles };
}

/**
 * {@link toSchemaJSON} as text: what `ablo-server --schema` reads.
 *
 * @example const file = new File([serializeSchema(schema)], 'schema.json', { type: 'application/json' });
 */
export function serializeSchema(schema: Schema): string {
  return JSON.stringify(toSchemaJSON(schema));
}

function modelJSON({ shape: _shape, computed: _computed, relations, ...rest }: ModelDef): Record<string, unknown> {
  const entries = Object.entries(relations).map(([name, relation]) => [name, relationJSON(relation)]);
  return { ...rest, relations: Object.fromEntries(entries) };
}

function relationJSON({ _orderBy: orderBy, options, ...rest }: Relation): Record<string, unknown> {
  return {
    ...rest,
    ...(options === undefined || Object.keys(options).length === 0 ? {} : { options }),
    ...(orderBy === undefined ? {} : { orderBy }),
  };
}

/**
 * A short name for a version of the schema: 8 hexadecimal digits, equal exactly when the schema JSON is (up to
 * collisions).
 *
 * @example const cacheName = `drafts-${schemaHash(schema)}`;
 */
export function schemaHash(schema: Schema): string {
  const text = canonical(toSchemaJSON(schema));
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, '0');
}

/** @internal JSON with sorted keys, without white space and undefined members. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  members.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonical(member)}`).join(',')}}`;
}
