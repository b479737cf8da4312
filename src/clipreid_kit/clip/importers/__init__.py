"""Importers of the checkpoints of other projects, each with a report of every tensor."""
