"""Readers of folders, tables and annotation files, and writers of the latter two."""
