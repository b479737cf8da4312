"""Files in folders and in zip archives, which are read in place."""
