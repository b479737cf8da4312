"""A Milvus server that asks for a token.

``make test-servers`` runs this in a process of its own: the server has the port of that of the
other tests, and a client waits long before it tries a port again where a server has stopped.
"""

import numpy as np
import pytest
from milvus_servers import TOKEN, server_or_skip

from clipreid_kit.retrieval import GalleryIndex

ROWS = np.eye(3, 12, dtype=np.float32)


def test_a_server_that_asks_for_a_token(tmp_path, monkeypatch):
    monkeypatch.delenv("MILVUS_TOKEN", raising=False)
    asking = server_or_skip(tmp_path, asks_for_token=True)
    try:
        for token in (None, "root:wrong"):
            with pytest.raises(ValueError, match="refuses the token, or needs one") as caught:
                GalleryIndex.build(ROWS, store=asking.address, token=token)
            assert "\n" not in str(caught.value)

        GalleryIndex.build(ROWS, store=asking.address, token=TOKEN)
        monkeypatch.setenv("MILVUS_TOKEN", TOKEN)
        assert GalleryIndex.open(asking.address).keys().tolist() == [0, 1, 2]
    finally:
        asking.stop()
