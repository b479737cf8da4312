"""Image and text towers of any open_clip model: build, load, resize and run them."""
