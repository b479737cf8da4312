"""Readers of folders, tables and annotation files into records."""
