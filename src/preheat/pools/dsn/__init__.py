"""What a DSN says, in libpq's meaning: parameters of a URI, `PG*` variables, and the files that libpq reads."""
