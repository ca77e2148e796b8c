/** Models: a shape, relations, and how rows are loaded and routed. */

import { invalid } from '../errors.js';
import { checkKeys, show } from '../values.js';
import { checkShape, type FieldMeta, type Shape } from './field.js';
import type { Relations } from './relation.js';
import type { Role } from './role.js';

/** Fields that every row has. Models do not declare them, and writes do not set them. */
export const BASE_FIELDS: readonly string[] = [
  'id',
  'createdAt',
  'updatedAt',
  'organizationId',
  'createdBy',
  'archivedAt',
];

/** Which rows of a table belong to which organization. */
export type Policy =
  | { readonly by: 'column'; readonly column?: string }
  | {
      readonly by: 'parent';
      readonly fk: string;
      readonly parent: string;
      readonly parentKey?: string;
      readonly parentTenantColumn?: string;
    }
  | { readonly by: 'none' };

/** {@link Policy} as schema JSON has it. */
export type Tenancy =
  | { readonly kind: 'column'; readonly column: string }
  | {
      readonly kind: 'parent';
      readonly via: {
        readonly localKey: string;
        readonly parentTable: string;
        readonly parentKey?: string;
        readonly parentOrgColumn?: string;
      };
    }
  | { readonly kind: 'none' };

/** Names two `belongsTo` relations that make a model a membership list. */
export interface Grants {
  /** Who gains access. */
  readonly subject: string;
  /** To what. */
  readonly scope: string;
}

/** Options of {@link model}. */
export interface ModelOptions<Row = never, Computed = Readonly<Record<string, (row: Row) => unknown>>> {
  /** Name on the wire. Default: the model's key. */
  readonly typename?: string;
  /** The server's table. Default: the model's key. */
  readonly tableName?: string;
  /** `'instant'` (default) rows come with the start, `'lazy'` and `'manual'` ones on demand. */
  readonly load?: 'instant' | 'lazy' | 'manual';
  /** Most rows that come with the start. */
  readonly bootstrapLimit?: number;
  /** Which rows those are. */
  readonly bootstrapOrderBy?: string;
  readonly persist?: { readonly store?: string };
  /** Default: column `organization_id`. */
  readonly policy?: Policy;
  readonly plane?: 'tenant' | 'control';
  readonly groups?: {
    /** Rows form sync groups of their own, of this kind (`true`: the typename in lower case). */
    readonly root?: string | true;
    readonly grants?: Grants;
    readonly roles?: Role | readonly Role[];
  };
  /** Default: true. */
  readonly mutable?: boolean;
  readonly lazyObservable?: boolean;
  /** Getters on rows. They are not part of the data. */
  readonly computed?: Computed;
  readonly autoFill?: readonly { readonly field: string; readonly from: 'organizationId' | 'userId' }[];
  /** Rows that lack one of these are skipped. */
  readonly requiredFields?: readonly string[];
}

/** What `schema.models.<key>` holds. */
export interface ModelDef<S extends Shape = Shape, R extends Relations = Relations, C = unknown> {
  readonly shape: S;
  readonly fields: Readonly<Record<string, FieldMeta>>;
  readonly relations: R;
  readonly load: 'instant' | 'lazy' | 'manual';
  /** Set by `defineSchema` when the model does not say. */
  readonly typename: string;
  readonly tableName: string;
  readonly tenancy: Tenancy;
  readonly plane: 'tenant' | 'control';
  readonly mutable: boolean;
  readonly scope?: string;
  readonly grants?: Grants;
  readonly entityRoles?: readonly Role[];
  readonly bootstrapLimit?: number;
  readonly bootstrapOrderBy?: string;
  readonly persist?: { readonly store?: string };
  readonly lazyObservable?: boolean;
  readonly computed?: C;
  readonly autoFill?: ModelOptions['autoFill'];
  readonly requiredFields?: readonly string[];
}

const OPTIONS = [
  ...['typename', 'tableName', 'load', 'bootstrapLimit', 'bootstrapOrderBy', 'persist', 'policy', 'plane', 'groups'],
  ...['mutable', 'lazyObservable', 'computed', 'autoFill', 'requiredFields'],
];
const LOADS = ['instant', 'lazy', 'manual'];

/** The data of a row as its shape says, for the functions of `computed`. */
type ShapeRow<S extends Shape> = { readonly [K in keyof S]: S[K]['_out'] } & { readonly id: string };

/**
 * Declares a model.
 *
 * @param shape fields by name; the base fields (`id`, `createdAt`, …) are added to every model
 * @example
 * const tasks = model(
 *   { title: field.string(), projectId: field.id() },
 *   { project: relation.belongsTo('projects', 'projectId', { parent: true }) },
 *   { typename: 'Task' },
 * );
 * @throws AbloValidationError `schema_definition_invalid` for a shape or option that is none
 */
export function model<
  const S extends Shape,
  const R extends Relations = {},
  const C extends Readonly<Record<string, (row: ShapeRow<S>) => unknown>> = {},
>(shape: S, relations?: R, options: ModelOptions<ShapeRow<S>, C> = {}): ModelDef<S, R, C> {
  checkShape(shape);
  checkKeys(options, OPTIONS, 'schema_definition_invalid', 'model option');
  const { policy, groups, load = 'instant', plane = 'tenant', mutable = true, ...rest } = options;
  if (!LOADS.includes(load)) {
    throw invalid('schema_definition_invalid', `load must be one of ${LOADS.join(', ')}, got ${show(load)}`, 'load');
  }
  const roles = groups?.roles === undefined ? undefined : [groups.roles].flat();
  return Object.freeze({
    // defineSchema names models that have no name of their own.
    typename: '',
    tableName: '',
    ...rest,
    shape: Object.freeze({ ...shape }),
    fields: Object.freeze(Object.fromEntries(Object.entries(shape).map(([name, field]) => [name, field.meta]))),
    relations: Object.freeze({ ...relations }) as R,
    load,
    tenancy: tenancyOf(policy),
    plane,
    mutable,
    ...(groups?.root === undefined ? {} : { scope: groups.root as string }),
    ...(groups?.grants === undefined ? {} : { grants: groups.grants }),
    ...(roles === undefined ? {} : { entityRoles: roles as readonly Role[] }),
  });
}

function tenancyOf(policy: Policy = { by: 'column' }): Tenancy {
  if (policy.by === 'none') return { kind: 'none' };
  if (policy.by === 'column') return { kind: 'column', column: policy.column ?? 'organization_id' };
  const { fk, parent, parentKey, parentTenantColumn } = policy;
  return {
    kind: 'parent',
    via: {
      localKey: fk,
      parentTable: parent,
      ...(parentKey === undefined ? {} : { parentKey }),
      ...(parentTenantColumn === undefined ? {} : { parentOrgColumn: parentTenantColumn }),
    },
  };
}

type ShorthandOptions<S extends Shape, R extends Relations, C> = Omit<
  ModelOptions<ShapeRow<S>, C>,
  'load' | 'mutable' | 'plane' | 'autoFill' | 'requiredFields'
> & { readonly relations?: R };

function shorthand(mutable: boolean, load: 'instant' | 'lazy' | 'manual') {
  return <
    const S extends Shape,
    const R extends Relations = {},
    const C extends Readonly<Record<string, (row: ShapeRow<S>) => unknown>> = {},
  >(
    shape: S,
    { relations, ...options }: ShorthandOptions<S, R, C> = {},
  ): ModelDef<S, R, C> => model(shape, relations, { lazyObservable: load !== 'instant', ...options, mutable, load });
}

/**
 * Shorthands of {@link model} for models that clients write.
 *
 * @example const comments = mutable.lazy({ text: field.string(), taskId: field.id() }, { typename: 'Comment' });
 */
export const mutable = {
  instant: shorthand(true, 'instant'),
  lazy: shorthand(true, 'lazy'),
  manual: shorthand(true, 'manual'),
};

/**
 * Shorthands of {@link model} for models that only the server writes.
 *
 * @example const countries = readOnly.instant({ name: field.string() }, { typename: 'Country' });
 */
export const readOnly = {
  instant: shorthand(false, 'instant'),
  lazy: shorthand(false, 'lazy'),
  internal: shorthand(false, 'manual'),
};
