/**
 * Field builders: what a model's shape is made of.
 *
 * A builder is immutable: each method returns a new one. The type parameters carry the TypeScript type of the field in
 * a row (`Out`) and in `create` (`In`).
 */

import { AbloValidationError, invalid } from '../errors.js';
import { show } from '../values.js';

/** What is known of a field at run time, and what schema JSON says about it. */
export interface FieldMeta {
  readonly type: 'string' | 'number' | 'boolean' | 'date' | 'enum' | 'json';
  /** Whether a row may lack it or hold null in it. */
  readonly isOptional: boolean;
  /** Whether the server keeps an index on it. */
  readonly isIndexed: boolean;
  /** Its column, where that is not the name in snake case. */
  readonly column?: string;
  /** The values of an enum. */
  readonly enumValues?: readonly string[];
}

/** A field of a model. Made by {@link field}. */
export class Field<Out = unknown, In = Out> {
  /** Only a type: the field in a row. */
  declare readonly _out: Out;
  /** Only a type: the field in `create`. */
  declare readonly _in: In;

  constructor(
    readonly meta: FieldMeta,
    /** The default of `create`: a value, or a function that makes one. */
    readonly initial?: unknown,
  ) {
    Object.freeze(meta);
    Object.freeze(this);
  }

  /**
   * A row may lack the field, and `create` may leave it out. `update` clears it with `null`.
   *
   * @example const task = model({ title: field.string(), dueAt: field.date().optional() });
   */
  optional(): Field<Out | undefined, In | undefined> {
    return new Field<Out | undefined, In | undefined>({ ...this.meta, isOptional: true }, this.initial);
  }

  /** The field may hold `null`. */
  nullable(): Field<Out | null, In | null> {
    return new Field<Out | null, In | null>({ ...this.meta, isOptional: true }, this.initial);
  }

  /**
   * What `create` puts in when the field is left out: a value, or a function called for each row.
   *
   * @example
   * const task = model({
   *   done: field.boolean().default(false),
   *   dueAt: field.date().default(() => new Date(Date.now() + 86_400_000)),
   * });
   */
  default(
    value: Exclude<In, undefined> | (() => Exclude<In, undefined>),
  ): Field<Exclude<Out, undefined>, In | undefined> {
    return new Field<Exclude<Out, undefined>, In | undefined>(this.meta, value);
  }

  /** Asks the server for an index. */
  indexed(): Field<Out, In> {
    return new Field<Out, In>({ ...this.meta, isIndexed: true }, this.initial);
  }

  /**
   * Names the column.
   *
   * @example const task = model({ projectId: field.id().from('project_ref') });
   * @throws AbloValidationError `schema_definition_invalid` unless it is a letter or `_`, then up to 62 letters, digits
   * or `_`
   */
  from(column: string): Field<Out, In> {
    if (typeof column !== 'string' || !/^[a-zA-Z_][a-zA-Z0-9_]{0,62}$/.test(column)) {
      throw invalid('schema_definition_invalid', `invalid column name ${show(column)}`, 'column');
    }
    return new Field<Out, In>({ ...this.meta, column }, this.initial);
  }
}

/** A model's fields by name. */
export type Shape = Readonly<Record<string, Field>>;

function build<Out, In = Out>(type: FieldMeta['type'], more: Partial<FieldMeta> = {}): Field<Out, In> {
  return new Field<Out, In>({ type, isOptional: false, isIndexed: false, ...more });
}

/**
 * The field builders.
 *
 * @example
 * const task = model({
 *   title: field.string(),
 *   state: field.enum(['open', 'done']).default('open'),
 *   dueAt: field.date().optional(),
 *   projectId: field.id(),
 * });
 */
export const field = {
  /** A string. */
  string: (): Field<string> => build('string'),
  /** A finite number. */
  number: (): Field<number> => build('number'),
  /** True or false. */
  boolean: (): Field<boolean> => build('boolean'),
  /** A moment. Rows hold ISO 8601 text; writes take that or a `Date`. */
  date: (): Field<string, string | Date> => build('date'),
  /** One of the given strings. */
  enum: <const V extends readonly [string, ...string[]]>(values: V): Field<V[number]> => {
    if (!Array.isArray(values) || values.length === 0 || !values.every((value) => typeof value === 'string')) {
      throw invalid('schema_definition_invalid', 'field.enum takes a non-empty array of strings');
    }
    return build('enum', { enumValues: Object.freeze([...values]) });
  },
  /** Anything that JSON can carry. Name its type: `field.json<Address>()`. */
  json: <T = unknown>(...unsupported: []): Field<T> => {
    if (unsupported.length > 0) {
      throw invalid(
        'schema_definition_invalid',
        'field.json takes no schema in ablo-wasm, name its type: field.json<T>()',
      );
    }
    return build('json');
  },
  /** The id of another row: an indexed string. */
  id: (): Field<string> => build('string', { isIndexed: true }),
};

/** @internal Checks that a shape holds builders only. */
export function checkShape(shape: unknown): asserts shape is Shape {
  if (typeof shape !== 'object' || shape === null) {
    throw invalid('schema_definition_invalid', `a model's shape must be an object of fields, got ${show(shape)}`);
  }
  for (const [name, value] of Object.entries(shape)) {
    if (value instanceof Field) continue;
    const zod = typeof value === 'object' && value !== null && ('_zod' in value || '_def' in value);
    throw new AbloValidationError(
      zod
        ? `field "${name}" is a zod type, which ablo-wasm does not support yet: use the field builders`
        : `field "${name}" must be made with a field builder such as field.string(), got ${show(value)}`,
      { code: 'schema_definition_invalid', param: name },
    );
  }
}
