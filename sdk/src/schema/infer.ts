/** Types that follow from a schema. */

import type { Schema, SchemaRecord } from './define.js';
import type { Field, Shape } from './field.js';
import type { ModelDef } from './model.js';

/** What every row has besides its declared fields. */
export interface BaseModelFields {
  readonly id: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly organizationId?: string;
  readonly createdBy?: string;
  readonly archivedAt?: Date | null;
}

type Flat<T> = { [K in keyof T]: T[K] };
type Outs<S extends Shape> = { [K in keyof S]: S[K] extends Field<infer Out, never> ? Out : S[K]['_out'] };
type Ins<S extends Shape> = { [K in keyof S]: S[K]['_in'] };
/** Members that may be undefined become members that may be left out. */
type Loose<T> = Flat<
  { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
    [K in keyof T as undefined extends T[K] ? K : never]?: T[K];
  }
>;
/** Without `computed`, TypeScript infers a record of any names: such rows have none. */
type Results<C> = string extends keyof C
  ? {}
  : { readonly [K in keyof C]: C[K] extends (row: never) => infer R ? R : never };

type Models<S> = S extends Schema<infer M> ? M : never;
type DefOf<S, K extends string> = K extends keyof Models<S> ? Models<S>[K] : never;
type ShapeOf<D> = D extends { readonly shape: infer S extends Shape } ? S : never;
type ComputedOf<D> = D extends ModelDef<Shape, never, infer C> ? C : D extends { readonly computed?: infer C } ? C : {};

/** The keys of a schema's models. */
export type InferModelNames<S> = keyof Models<S> & string;

/**
 * A row of a model: a frozen plain object.
 *
 * @example
 * import type { InferModel } from 'ablo-wasm';
 *
 * type Task = InferModel<typeof schema, 'tasks'>;
 * const isUrgent = (task: Task): boolean => !task.done && task.rank > 5;
 * ablo.tasks.getAll({ filter: isUrgent }).length; // → 0
 */
export type InferModel<S, K extends InferModelNames<S>> = RowOf<DefOf<S, K>>;

/**
 * What `create` takes for a model: required fields, optional and defaulted ones, and base fields if need be.
 *
 * @example
 * import type { InferCreate } from 'ablo-wasm';
 *
 * const draft: InferCreate<typeof schema, 'tasks'> = { title: 'Call back' };
 * await ablo.tasks.create({ data: draft });
 */
export type InferCreate<S, K extends InferModelNames<S>> = Loose<Ins<ShapeOf<DefOf<S, K>>>> & {
  readonly id?: string;
  readonly createdAt?: Date;
  readonly updatedAt?: Date;
  readonly organizationId?: string;
  readonly createdBy?: string;
};

/**
 * What `update` takes for a model. `null` clears an optional field.
 *
 * @example
 * import type { InferUpdate } from 'ablo-wasm';
 *
 * const unassign: InferUpdate<typeof schema, 'tasks'> = { projectId: null };
 * await ablo.tasks.update({ id: task.id, data: unassign });
 */
export type InferUpdate<S, K extends InferModelNames<S>> = UpdateOf<ShapeOf<DefOf<S, K>>>;

/** A row, from its model's definition. */
export type RowOf<D> = Readonly<Loose<Outs<ShapeOf<D>>>> &
  BaseModelFields &
  Readonly<Results<NonNullable<ComputedOf<D>>>>;
/** What `update` takes, from a shape. */
export type UpdateOf<S extends Shape> = {
  readonly [K in keyof S]?: S[K]['_in'] | (undefined extends S[K]['_out'] ? null : never);
};

/**
 * Augment this interface to tell the package about your schema once:
 *
 * @example
 * declare module 'ablo-wasm' {
 *   interface Register {
 *     Schema: typeof schema;
 *   }
 * }
 */
export interface Register {}

/** The registered schema, or a schema of any models. */
export type ResolveSchema = Register extends { Schema: infer S } ? S : Schema<SchemaRecord>;

/**
 * A row: `Model<typeof schema, 'tasks'>`, or `Model<'tasks'>` of the registered schema.
 *
 * @example
 * import type { Model } from 'ablo-wasm';
 *
 * const label = (task: Model<typeof schema, 'tasks'>): string => (task.done ? `${task.title} ✓` : task.title);
 * label(task); // → 'Call back'
 */
export type Model<A, K extends string = never> = A extends string
  ? A extends InferModelNames<ResolveSchema>
    ? InferModel<ResolveSchema, A>
    : never
  : K extends InferModelNames<A>
    ? InferModel<A, K>
    : never;
