"""Images: loading, resizing, augmentation and normalisation."""
