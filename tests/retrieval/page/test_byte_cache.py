"""The oldest contents make room."""

from clipreid_kit.retrieval.page.byte_cache import ByteCache


def test_what_was_used_last_is_kept():
    cache = ByteCache[str](10)
    cache.put("a", b"aaaa")
    cache.put("b", b"bbbb")
    assert cache.get("a") == b"aaaa"
    cache.put("c", b"cccc")
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (b"aaaa", None, b"cccc")


def test_a_content_is_replaced_or_too_large():
    cache = ByteCache[str](10)
    cache.put("a", b"a" * 8)
    cache.put("a", b"b" * 9)
    cache.put("b", b"c")
    assert (cache.get("a"), cache.get("b")) == (b"b" * 9, b"c")
    cache.put("a", b"a" * 11)
    assert (cache.get("a"), cache.get("b")) == (None, b"c")
