"""One answer from the calibrated scores of several models, or of image and text."""
