"""Keys and other state that lives outside of the database and its backups."""
