"""One PostgreSQL: connections, named SQL, migrations, request keys, the audit chain, outbox and inbox."""
