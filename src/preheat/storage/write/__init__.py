"""What stores and deletes chunks."""
