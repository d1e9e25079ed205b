"""Searches and other reads: the question, the one statement that answers it, what becomes of its rows."""
