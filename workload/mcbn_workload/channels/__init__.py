"""Channels between the two roles: a sans-IO engine for each kind, and what carries its bytes."""
