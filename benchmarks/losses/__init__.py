"""Contenders by family: each module has ``contenders(batch)``, ours first."""
