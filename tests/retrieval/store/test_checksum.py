"""The checksums of an index are CRC-32, whoever computes them."""

import zlib

import numpy as np
import pytest

from clipreid_kit.retrieval.store.checksum import crc32


@pytest.mark.parametrize("size", [0, 1, 15, 16, 4096, 5001, 1 << 17])
def test_it_is_the_crc_32_of_python(size):
    data = np.random.default_rng(size).bytes(size)
    assert crc32(data) == zlib.crc32(data)
    assert crc32(data, crc32(b"before")) == zlib.crc32(data, zlib.crc32(b"before"))
