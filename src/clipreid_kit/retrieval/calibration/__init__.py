"""From the similarity of two images to the probability that they show the same identity."""
