"""Run the migrations on the connection that `Store.migrate` holds, one transaction per step."""

from alembic import context

from cqar.server.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
