"""The search page: a local web page over one index, or over two side by side.

It needs the extra ``serve``: ``pip install 'clipreid_kit[serve]'``.
"""

from clipreid_kit.retrieval.page.application import search_app
from clipreid_kit.retrieval.page.page_limits import PageLimits

__all__ = ["PageLimits", "search_app"]
