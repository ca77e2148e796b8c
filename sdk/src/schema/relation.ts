/** Relations between models. */

/** Options of {@link relation.belongsTo}. */
export interface BelongsToOptions {
  /** Keep a local index on the foreign key. */
  readonly index?: boolean;
  /** The server embeds the related row. */
  readonly enrich?: boolean;
  /** Ignored when creates are put parents first. */
  readonly defer?: boolean;
  /** The row belongs to its parent's sync groups. */
  readonly parent?: boolean;
  /** The database enforces it. */
  readonly fk?: boolean;
}

/** A relation of a model, named by its key in the model's relations. */
export interface Relation<
  Type extends 'belongsTo' | 'hasMany' | 'hasOne' = 'belongsTo' | 'hasMany' | 'hasOne',
  Target extends string = string,
> {
  readonly type: Type;
  /** Key of the other model. */
  readonly target: Target;
  /** Field that holds the id: of this model for `belongsTo`, of the other one otherwise. */
  readonly foreignKey: string;
  /** Its column. `defineSchema` fills it in. */
  readonly foreignKeyColumn?: string;
  readonly options?: BelongsToOptions;
  readonly _orderBy?: string;
}

/** A model's relations by name. */
export type Relations = Readonly<Record<string, Relation>>;

/**
 * The relation builders.
 *
 * @example
 * const tasks = model({ projectId: field.id() }, { project: relation.belongsTo('projects', 'projectId') });
 */
export const relation = {
  /** Field `foreignKey` of this model holds the id of a row of `target`. */
  belongsTo: <const T extends string>(target: T, foreignKey: string, options: BelongsToOptions = {}) =>
    make('belongsTo', target, foreignKey, { options: Object.freeze({ ...options }) }),
  /** Field `foreignKey` of many rows of `target` holds this row's id. */
  hasMany: <const T extends string>(target: T, foreignKey: string, options: { readonly orderBy?: string } = {}) =>
    make('hasMany', target, foreignKey, options.orderBy === undefined ? {} : { _orderBy: options.orderBy }),
  /** Field `foreignKey` of one row of `target` holds this row's id. */
  hasOne: <const T extends string>(target: T, foreignKey: string) => make('hasOne', target, foreignKey, {}),
};

function make<K extends Relation['type'], T extends string>(
  type: K,
  target: T,
  foreignKey: string,
  more: Partial<Relation>,
): Relation<K, T> {
  return Object.freeze({ ...more, type, target, foreignKey });
}
