"""The vectors of another model for a collection."""
