"""Files in folders and zip archives."""
