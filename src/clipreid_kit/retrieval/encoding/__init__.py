"""Encoders: from a saved model to embeddings of images and texts, in memory or in files."""
