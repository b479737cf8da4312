"""Checks of records before training, with a report."""
