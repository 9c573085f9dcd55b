"""Run by Alembic, with the connection that `database.open_database` gives it."""

from alembic import context

from homespun_server.feedback.database import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
