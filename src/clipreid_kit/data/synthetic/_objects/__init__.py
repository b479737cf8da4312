"""Drawings of the objects: outlines, patterns and marks, without colours and cameras."""
