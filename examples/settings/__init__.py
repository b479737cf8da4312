"""What a run can be told: typed keys, recipe files, and which keys go together."""
