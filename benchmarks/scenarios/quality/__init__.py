"""`just quality`: how often the right text is found, in a real reference and for questions written by hand."""
