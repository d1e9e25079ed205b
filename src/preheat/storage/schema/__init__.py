"""Tables, indexes and the list of collections: made at first use, described, migrated, diagnosed."""
