"""Validation of records: the checks, and the report of what they found."""
