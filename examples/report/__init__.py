"""What runs left behind, for people: one page about each run, tables and pictures of many."""
