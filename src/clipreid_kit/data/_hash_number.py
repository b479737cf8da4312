"""Integers that depend on a text alone, for seeds and numbers of cameras."""

import hashlib


def hash_number(text: str) -> int:
    """Return 63 bits that depend on the text alone.

    Ten times as fast as a ``numpy.random.SeedSequence``, and the same in every process.
    """
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
