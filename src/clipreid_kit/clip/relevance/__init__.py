"""Relevance of patches and of words for a match."""
