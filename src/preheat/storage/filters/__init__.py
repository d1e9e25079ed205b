"""Filters on metadata: a tree that is made of what a caller writes, and its SQL."""
