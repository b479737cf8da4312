"""Where the rows of an index are kept and searched: a folder, or Milvus."""
