"""CRC-32 of the parts of an index's files: ISA-L's where it is installed, 4 times as fast."""

try:
    from isal.isal_zlib import crc32
except ImportError:  # there is no wheel for every platform; the numbers are the same
    from zlib import crc32

__all__ = ["crc32"]
