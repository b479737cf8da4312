"""Settings of a run: typed keys, recipe files, and which keys go together."""
