"""Decode, resize, augment and normalise images."""
