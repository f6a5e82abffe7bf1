"""Alembic's entry: migrates the connection that ``gateway.store.engine.upgrade`` passes, inside its transaction."""

from alembic import context

from gateway.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
