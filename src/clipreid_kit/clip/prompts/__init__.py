"""Prompts for the text tower: templates, learned tokens, pseudo-tokens, captions."""
