"""Mutation testing: every small fault put into a module must make a test fail."""
