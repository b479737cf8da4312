"""The ranking engine: exact ranks of all matches, block by block. Private."""
