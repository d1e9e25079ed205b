"""Answers that are kept beside a collection, and the locks that processes share."""
