import assert from 'node:assert/strict';
import { test } from 'node:test';

import { sdk } from './support.mjs';

const { defineSchema, field, identityRole, model, mutable, readOnly, relation, schemaHash, toSchemaJSON } = sdk;

const helpdesk = () =>
  defineSchema(
    {
      projects: model(
        { name: field.string() },
        { tickets: relation.hasMany('tickets', 'projectId', { orderBy: 'rank' }) },
        { typename: 'Project', groups: { root: 'project' } },
      ),
      tickets: model(
        {
          title: field.string(),
          rank: field.number(),
          state: field.enum(['open', 'done']).default('open'),
          projectId: field.id(),
          notes: field.string().optional(),
        },
        { project: relation.belongsTo('projects', 'projectId', { parent: true }) },
        { typename: 'Ticket', load: 'lazy' },
      ),
    },
    {
      casing: 'snake_case',
      identityRoles: [
        identityRole({ kind: 'org', source: 'organizationId' }),
        identityRole({ kind: 'team', source: 'teamIds', multi: true }),
      ],
    },
  );

test('schema JSON and hash are those of the existing client', () => {
  assert.equal(sdk.canonical(toSchemaJSON(defineSchema({}))), '{"identityRoles":[],"models":{},"v":3}');
  assert.equal(schemaHash(defineSchema({})), '2825b171');
  assert.equal(
    sdk.canonical(toSchemaJSON(helpdesk())),
    '{"identityRoles":[{"kind":"org","source":{"field":"organizationId","multi":false}},{"kind":"team","source":{"field":"teamIds","multi":true}}],"models":{"projects":{"fields":{"name":{"isIndexed":false,"isOptional":false,"type":"string"}},"load":"instant","mutable":true,"plane":"tenant","relations":{"tickets":{"foreignKey":"projectId","foreignKeyColumn":"project_id","orderBy":"rank","target":"tickets","type":"hasMany"}},"scope":"project","tableName":"projects","tenancy":{"column":"organization_id","kind":"column"},"typename":"Project"},"tickets":{"fields":{"notes":{"isIndexed":false,"isOptional":true,"type":"string"},"projectId":{"isIndexed":true,"isOptional":false,"type":"string"},"rank":{"isIndexed":false,"isOptional":false,"type":"number"},"state":{"enumValues":["open","done"],"isIndexed":false,"isOptional":false,"type":"enum"},"title":{"isIndexed":false,"isOptional":false,"type":"string"}},"load":"lazy","mutable":true,"plane":"tenant","relations":{"project":{"foreignKey":"projectId","foreignKeyColumn":"project_id","options":{"parent":true},"target":"projects","type":"belongsTo"}},"tableName":"tickets","tenancy":{"column":"organization_id","kind":"column"},"typename":"Ticket"}},"v":3}',
  );
  assert.equal(schemaHash(helpdesk()), '23cc391b');
});

test('builders are immutable', () => {
  const plain = field.string();
  const meta = { ...plain.meta };
  plain.optional().nullable().indexed().from('x').default('y');
  assert.deepEqual(plain.meta, meta);
  assert.equal(plain.initial, undefined);
  assert.ok(Object.isFrozen(plain) && Object.isFrozen(plain.meta));
  assert.deepEqual(field.id().optional().from('deck').meta, {
    type: 'string',
    isOptional: true,
    isIndexed: true,
    column: 'deck',
  });
  const schema = helpdesk();
  assert.ok(Object.isFrozen(schema) && Object.isFrozen(schema.models) && Object.isFrozen(schema.models.tickets));
});

test('names, columns, tenancy and shorthands', () => {
  const schema = defineSchema({
    decks: mutable.lazy({ title: field.string() }, { groups: { root: true }, typename: 'SlideDeck', persist: {} }),
    slides: readOnly.internal(
      { deckId: field.id().from('deck_ref') },
      {
        relations: { deck: relation.belongsTo('decks', 'deckId') },
        policy: { by: 'parent', fk: 'deckId', parent: 'decks' },
      },
    ),
    logs: model(
      { text: field.string() },
      {},
      { policy: { by: 'none' }, groups: { roles: sdk.entityRole({ kind: 'user', source: 'userId' }) } },
    ),
  });
  const { decks, slides, logs } = schema.models;
  assert.deepEqual(
    [decks.scope, decks.tableName, decks.persist.store, decks.load, decks.lazyObservable],
    ['slidedeck', 'decks', 'SlideDeck', 'lazy', true],
  );
  assert.deepEqual([slides.typename, slides.mutable, slides.load], ['slides', false, 'manual']);
  assert.equal(slides.relations.deck.foreignKeyColumn, 'deck_ref');
  assert.deepEqual(slides.tenancy, { kind: 'parent', via: { localKey: 'deckId', parentTable: 'decks' } });
  assert.deepEqual(logs.tenancy, { kind: 'none' });
  assert.deepEqual(logs.entityRoles, [{ kind: 'user', source: { field: 'userId', multi: false } }]);
});

test('schemas that cannot work are refused', () => {
  const shape = { title: field.string() };
  const define = (models) => () => defineSchema(models);
  const member = { user: relation.belongsTo('users', 'userId'), teams: relation.hasMany('teams', 'memberId') };
  const grants = (value) => ({
    users: model(shape),
    teams: model({ memberId: field.id() }),
    members: model({ userId: field.id() }, member, { groups: { grants: value } }),
  });
  for (const [make, code, param] of [
    [define({ tasks: model({ id: field.string() }) }), 'schema_reserved_field', 'tasks.id'],
    [define({ tasks: model({ createdBy: field.string() }) }), 'schema_reserved_field', 'tasks.createdBy'],
    [define({ tasks: model({ Title: field.string() }) }), 'schema_field_not_camelcase'],
    [define({ tasks: model({ pageURL: field.string() }) }), 'schema_field_consecutive_caps'],
    [define({ tasks: model(shape, {}, { groups: { root: 'Task' } }) }), 'schema_scope_kind_invalid', 'tasks.scope'],
    [define(grants({ subject: 'user' })), 'schema_grants_shape_invalid', 'members.grants'],
    [define(grants({ subject: 'x', scope: 'user' })), 'schema_grants_relation_missing', 'members.grants.subject'],
    [define(grants({ subject: 'user', scope: 'teams' })), 'schema_grants_relation_kind', 'members.grants.scope'],
    [define(grants({ subject: 'user', scope: 'user' })), 'schema_grants_target_not_scope_root', 'users.scope'],
    [define({ tasks: model(shape, { x: relation.hasMany('nope', 'y') }) }), 'schema_definition_invalid', 'tasks.x'],
    [define({ tasks: shape }), 'schema_definition_invalid', 'tasks'],
    [() => model({ title: 'string' }), 'schema_definition_invalid', 'title'],
    [() => model({ title: { _zod: {} } }), 'schema_definition_invalid', 'title'],
    [() => model(undefined), 'schema_definition_invalid'],
    [() => model(shape, {}, { lod: 'lazy' }), 'schema_definition_invalid', 'lod'],
    [() => model(shape, {}, { load: 'eager' }), 'schema_definition_invalid', 'load'],
    [() => field.string().from('1x'), 'schema_definition_invalid', 'column'],
    [() => field.enum([]), 'schema_definition_invalid'],
    [() => field.json({}), 'schema_definition_invalid'],
    [() => identityRole({ kind: 'Org', source: 'x' }), 'schema_scope_kind_invalid', 'kind'],
  ]) {
    assert.throws(make, (error) => {
      assert.ok(error instanceof sdk.AbloValidationError, String(error));
      assert.deepEqual([error.code, error.param], [code, param]);
      return true;
    });
  }
});

test('models cannot be called like members of the client', () => {
  const ablo = sdk.Ablo({ schema: defineSchema({}), authToken: 'x' });
  const members = [...Object.keys(ablo), ...Object.getOwnPropertyNames(ablo), 'then', 'constructor', 'toString', ''];
  for (const name of members) {
    const models = Object.fromEntries([[name, model({ title: field.string() })]]);
    assert.throws(() => defineSchema(models), { code: 'schema_definition_invalid', param: name }, name);
  }
});
