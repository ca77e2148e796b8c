/** Puts models together into a schema, and refuses one that cannot work. */

import { invalid } from '../errors.js';
import { checkKeys, isPlainObject, show } from '../values.js';
import { BASE_FIELDS, type ModelDef } from './model.js';
import type { Relation, Relations } from './relation.js';
import { RESERVED_NAMES } from './reserved.js';
import { KIND, type Role } from './role.js';

/** Models by key. */
export type SchemaRecord = Readonly<Record<string, ModelDef>>;

/** What `defineSchema` makes: give it to `Ablo({ schema })`. */
export interface Schema<M extends SchemaRecord = SchemaRecord> {
  readonly models: M;
  readonly identityRoles: readonly Role[];
}

/** Options of {@link defineSchema}. */
export interface SchemaOptions {
  /** Column names of foreign keys that do not name their column. Default: the field's own name. */
  readonly casing?: 'snake_case' | 'camelCase' | ((field: string) => string);
  /** Which groups a participant belongs to. */
  readonly identityRoles?: readonly Role[];
}

/**
 * Puts models together. Keys become properties of the client: `ablo.tasks`.
 *
 * @throws AbloValidationError with one of the `schema_…` codes and the place in `param`
 * @example
 * export const schema = defineSchema(
 *   { tasks: model({ title: field.string(), done: field.boolean().default(false) }) },
 *   { identityRoles: [identityRole({ kind: 'org', source: 'organizationId' })] },
 * );
 */
export function defineSchema<const M extends SchemaRecord>(models: M, options: SchemaOptions = {}): Schema<M> {
  if (!isPlainObject(models))
    throw invalid('schema_definition_invalid', `models must be a plain object, got ${show(models)}`);
  checkKeys(options, ['casing', 'identityRoles'], 'schema_definition_invalid', 'schema option');
  const named: Record<string, ModelDef> = {};
  for (const [key, model] of Object.entries<ModelDef>(models)) {
    checkModel(key, model, models);
    named[key] = Object.freeze({ ...model, ...names(key, model), relations: withColumns(key, model, models, options) });
  }
  return Object.freeze({
    models: Object.freeze(named) as M,
    identityRoles: Object.freeze([...(options.identityRoles ?? [])]),
  });
}

function names(key: string, model: ModelDef): Partial<ModelDef> {
  const typename = model.typename || key;
  return {
    typename,
    tableName: model.tableName || key,
    ...((model.scope as unknown) === true ? { scope: typename.toLowerCase() } : {}),
    ...(model.persist === undefined ? {} : { persist: { store: model.persist.store ?? typename } }),
  };
}

function checkModel(key: string, model: ModelDef, models: SchemaRecord): void {
  if (!key || RESERVED_NAMES.includes(key) || key in Object.prototype) {
    throw invalid(
      'schema_definition_invalid',
      `a model cannot be called "${key}": the client has a member of that name`,
      key,
    );
  }
  if (!isPlainObject(model) || !isPlainObject((model as Partial<ModelDef>).shape)) {
    throw invalid('schema_definition_invalid', `models.${key} must be made with model(), got ${show(model)}`, key);
  }
  for (const field of Object.keys(model.shape)) checkFieldName(key, field);
  const { scope, grants } = model;
  if (scope !== undefined && (scope as unknown) !== true && !(typeof scope === 'string' && KIND.test(scope))) {
    throw invalid(
      'schema_scope_kind_invalid',
      `groups.root of ${key} must match ${KIND.source}, got ${show(scope)}`,
      `${key}.scope`,
    );
  }
  if (grants !== undefined) checkGrants(key, model, models);
}

function checkFieldName(key: string, field: string): void {
  const param = `${key}.${field}`;
  if (BASE_FIELDS.includes(field) && field !== 'archivedAt') {
    throw invalid('schema_reserved_field', `${param}: every model has "${field}", do not declare it`, param);
  }
  if (/^[A-Z]/.test(field)) throw invalid('schema_field_not_camelcase', `${param} must begin with a small letter`);
  if (/[A-Z]{2}/.test(field)) throw invalid('schema_field_consecutive_caps', `${param} has two capitals in a row`);
}

function checkGrants(key: string, model: ModelDef, models: SchemaRecord): void {
  const grants: unknown = model.grants;
  if (!isPlainObject(grants) || typeof grants['subject'] !== 'string' || typeof grants['scope'] !== 'string') {
    throw invalid('schema_grants_shape_invalid', `groups.grants of ${key} must be { subject, scope }`, `${key}.grants`);
  }
  for (const end of ['subject', 'scope']) {
    const name = grants[end] as string;
    const param = `${key}.grants.${end}`;
    const relation = Object.hasOwn(model.relations, name) ? model.relations[name] : undefined;
    if (relation === undefined)
      throw invalid('schema_grants_relation_missing', `${param}: no relation "${name}"`, param);
    if (relation.type !== 'belongsTo') {
      throw invalid('schema_grants_relation_kind', `${param}: relation "${name}" must be a belongsTo`, param);
    }
    if (end === 'scope' && models[relation.target]?.scope === undefined) {
      throw invalid(
        'schema_grants_target_not_scope_root',
        `${param}: model "${relation.target}" has no groups.root`,
        `${relation.target}.scope`,
      );
    }
  }
}

function withColumns(key: string, model: ModelDef, models: SchemaRecord, { casing }: SchemaOptions): Relations {
  const column = (owner: ModelDef, field: string): string => {
    const own = owner.fields[field]?.column;
    if (own !== undefined) return own;
    if (typeof casing === 'function') return casing(field);
    return casing === 'snake_case' ? field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`) : field;
  };
  const done = Object.entries(model.relations).map(([name, relation]): [string, Relation] => {
    const target = Object.hasOwn(models, relation.target) ? models[relation.target] : undefined;
    if (target === undefined) {
      const param = `${key}.${name}`;
      throw invalid('schema_definition_invalid', `${param}: there is no model "${relation.target}"`, param);
    }
    const owner = relation.type === 'belongsTo' ? model : target;
    return [name, Object.freeze({ ...relation, foreignKeyColumn: column(owner, relation.foreignKey) })];
  });
  return Object.freeze(Object.fromEntries(done));
}
