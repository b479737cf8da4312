"""Engines that keep and search the rows of an index: a folder, or Milvus."""
