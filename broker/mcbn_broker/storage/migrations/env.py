"""Runs the migrations on the connection that `migrate` hands over. Alembic executes this file."""

from alembic import context

from mcbn_broker.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
