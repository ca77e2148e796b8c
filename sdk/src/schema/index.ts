/** The schema DSL. Free of everything that runs in a browser only. */

export { defineSchema, type Schema, type SchemaOptions, type SchemaRecord } from './define.js';
export { field, Field, type FieldMeta, type Shape } from './field.js';
export type {
  BaseModelFields,
  InferCreate,
  InferModel,
  InferModelNames,
  InferUpdate,
  Model,
  Register,
  ResolveSchema,
} from './infer.js';
export { schemaHash, serializeSchema, toSchemaJSON, type SchemaJSON } from './json.js';
export {
  model,
  mutable,
  readOnly,
  type Grants,
  type ModelDef,
  type ModelOptions,
  type Policy,
  type Tenancy,
} from './model.js';
export { relation, type BelongsToOptions, type Relation, type Relations } from './relation.js';
export { entityRole, identityRole, type Role } from './role.js';
