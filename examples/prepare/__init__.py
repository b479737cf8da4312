"""Prepare the prompts of a fashion data set in four steps: generate, analyse, filter, structure."""
