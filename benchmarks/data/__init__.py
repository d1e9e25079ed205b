"""The vectors, texts and tables that are searched."""
