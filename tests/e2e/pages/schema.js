// The models of the end-to-end tests, for the page and for the server: each brings its own copy of the schema DSL.

export default ({ defineSchema, field, model, relation }) =>
  defineSchema({
    projects: model({ name: field.string() }, {}, { typename: 'Project' }),
    tasks: model(
      {
        title: field.string(),
        status: field.enum(['todo', 'doing', 'done']).default('todo'),
        rank: field.number().default(0),
        note: field.string().optional(),
        extra: field.json().optional(),
        projectId: field.id().optional(),
      },
      { project: relation.belongsTo('projects', 'projectId') },
      { typename: 'Task' },
    ),
  });
