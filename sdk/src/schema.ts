/**
 * Entry `ablo-wasm/schema`: the schema DSL. Free of everything that runs in a browser only, so that servers and build
 * scripts can share a schema file with the application.
 */

export { defineSchema, type Schema, type SchemaOptions, type SchemaRecord } from './schema/define.js';
export { field, Field, type FieldMeta, type Shape } from './schema/field.js';
export type {
  BaseModelFields,
  InferCreate,
  InferModel,
  InferModelNames,
  InferUpdate,
  Model,
  Register,
  ResolveSchema,
} from './schema/infer.js';
export { schemaHash, serializeSchema, toSchemaJSON, type SchemaJSON } from './schema/json.js';
export {
  model,
  mutable,
  readOnly,
  type Grants,
  type ModelDef,
  type ModelOptions,
  type Policy,
  type Tenancy,
} from './schema/model.js';
export { relation, type BelongsToOptions, type Relation, type Relations } from './schema/relation.js';
export { entityRole, identityRole, type Role } from './schema/role.js';
