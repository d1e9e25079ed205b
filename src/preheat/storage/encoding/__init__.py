"""Vectors, rows and JSON in the forms that PostgreSQL reads, as pure functions."""
