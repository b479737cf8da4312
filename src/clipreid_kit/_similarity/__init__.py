"""Exact similarities of embeddings, and fast ones with proven bounds. Private."""
