"""Find the images of a gallery that show the same identity, without labels."""
