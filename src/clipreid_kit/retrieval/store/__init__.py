"""Folders of embeddings and records: checked files, whole after a kill at any instant."""
