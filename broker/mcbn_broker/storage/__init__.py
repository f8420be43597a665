"""The store: SQLite through SQLAlchemy, one serialised transaction after the other."""
