"""The store: one database with one writer, the keys, and the audit trail."""
