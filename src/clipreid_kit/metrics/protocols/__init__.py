"""Evaluation protocols under the names of their papers."""
