"""Which images of a gallery show the same identity, without labels."""
