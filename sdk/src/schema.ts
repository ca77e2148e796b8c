/**
 * Entry `ablo-wasm/schema`: the schema DSL, so that servers and build scripts can share a schema file with the
 * application. The code is that of the main entry, which loads nothing when it is imported.
 */

export {
  defineSchema,
  entityRole,
  field,
  Field,
  identityRole,
  model,
  mutable,
  readOnly,
  relation,
  schemaHash,
  serializeSchema,
  toSchemaJSON,
} from './index.js';
export type {
  BaseModelFields,
  BelongsToOptions,
  FieldMeta,
  Grants,
  InferCreate,
  InferModel,
  InferModelNames,
  InferUpdate,
  Model,
  ModelDef,
  ModelOptions,
  Policy,
  Register,
  Relation,
  Relations,
  ResolveSchema,
  Role,
  Schema,
  SchemaJSON,
  SchemaOptions,
  SchemaRecord,
  Shape,
  Tenancy,
} from './index.js';
