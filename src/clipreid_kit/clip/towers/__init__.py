"""Image and text towers of any open_clip model: built, loaded, resized and run."""
