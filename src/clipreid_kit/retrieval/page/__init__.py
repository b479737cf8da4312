"""The search page: a local web page over one index, or over two side by side.

It needs the extra ``serve``: ``pip install 'clipreid_kit[serve]'``.
"""

from clipreid_kit.retrieval.page.page_limits import PageLimits
from clipreid_kit.retrieval.page.search_app import search_app

__all__ = ["PageLimits", "search_app"]
