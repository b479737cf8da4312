"""Seeded mutations of the bytes of a valid file."""

import random
import re

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_PAIR = re.compile(rb'"[^"\n]{1,40}"\s*:\s*("[^"\n]*"|-?\d+(?:\.\d+)?|true|false|null)')
_LINE = re.compile(rb"[^\n]+\n")

_EXTREMES = [
    b"0",
    b"-1",
    b"-0",
    b"1e309",
    b"-1e309",
    b"NaN",
    b"Infinity",
    b".inf",
    b"0x10",
    b"010",
    b"1_0",
    b"65536",
    b"2147483648",
    b"9223372036854775808",
    b"1" * 400,
    b"1" * 5000,
    b"0.1",
    b"true",
    b"null",
    b'"7"',
    b"[]",
    b"{}",
]

_INSERTIONS = [
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b'"',
    b"'",
    b"\n",
    b"\r",
    b",",
    b":",
    b"{",
    b"[" * 3000,
    b'{"a":' * 1500,
    b"&a [*a, *a]",
    b"<<: *a",
    b"!!python/object:os.system",
    b"../",
    b"%00",
    b"\xe2\x80\xa8",
    b"\xed\xa0\x80",
    b"\\ud800",
    b" ",
]

_BYTES_OF_NUMBERS = [
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"\x80\0\0\0",
    b"\xff" * 8,
]


def mutate(content, others, rng):
    """Apply one to three mutations.

    Args:
        content: A valid file.
        others: Further valid files, for splices.
        rng: The only source of chance.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(_MUTATIONS)(content, others, rng)
    return content


def generator_of(seed, door, index):
    """The source of chance of one input, which depends on nothing else."""
    return random.Random(f"{seed}/{door}/{index}")


def _flip_bits(content, others, rng):
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 32))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(content, others, rng):
    return content[: rng.randrange(len(content) + 1)]


def _remove_chunk(content, others, rng):
    start, stop = _chunk(content, rng)
    return content[:start] + content[stop:]


def _duplicate_chunk(content, others, rng):
    start, stop = _chunk(content, rng)
    return content[:stop] + content[start:stop] * rng.choice((1, 1, 2, 20)) + content[stop:]


def _splice(content, others, rng):
    other = rng.choice(others)
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]


def _extreme_number(content, others, rng):
    found = list(_NUMBER.finditer(content))
    if not found:
        return _extreme_bytes(content, others, rng)

    match = rng.choice(found)
    return content[: match.start()] + rng.choice(_EXTREMES) + content[match.end() :]


def _extreme_bytes(content, others, rng):
    value = rng.choice(_BYTES_OF_NUMBERS)
    start = rng.randrange(len(content) + 1)
    return content[:start] + value + content[start + len(value) :]


def _repeat_key(content, others, rng):
    pairs = list(_PAIR.finditer(content))
    if not pairs:
        return _repeat_line(content, others, rng)

    pair = rng.choice(pairs)
    value = rng.choice((b"1", b'"x"', pair[1]))
    repeated = pair[0][: pair.start(1) - pair.start()] + value
    return content[: pair.end()] + b", " + repeated + content[pair.end() :]


def _repeat_line(content, others, rng):
    lines = list(_LINE.finditer(content))
    if not lines:
        return _duplicate_chunk(content, others, rng)

    line = rng.choice(lines)
    return content[: line.end()] + line[0] + content[line.end() :]


def _insert(content, others, rng):
    start = rng.randrange(len(content) + 1)
    return content[:start] + rng.choice(_INSERTIONS) + content[start:]


def _chunk(content, rng):
    start = rng.randrange(len(content) + 1)
    length = rng.choice((1, 2, 4, 8, 16, 64, 256))
    return start, min(start + length, len(content))


_MUTATIONS = (
    _flip_bits,
    _truncate,
    _remove_chunk,
    _duplicate_chunk,
    _splice,
    _extreme_number,
    _extreme_bytes,
    _repeat_key,
    _repeat_line,
    _insert,
)
