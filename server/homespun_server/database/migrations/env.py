"""Run by Alembic, with the connection that `opening.open_database` gives it."""

from alembic import context

from homespun_server.database.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
