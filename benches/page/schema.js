// Rows as applications have them: with what the server adds, nine fields and about 240 bytes.

export default ({ defineSchema, field, model }) =>
  defineSchema({
    tasks: model(
      {
        title: field.string(),
        status: field.enum(['todo', 'doing', 'done']),
        rank: field.number(),
        projectId: field.id(),
      },
      {},
      { typename: 'Task' },
    ),
  });
