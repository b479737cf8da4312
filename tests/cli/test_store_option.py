"""The token of a Milvus server comes from a file, never from the arguments."""

import pytest

from clipreid_kit.cli._store import read_token

SERVER = "milvus:http://localhost:19530#photos"


def test_the_one_line_of_a_file(tmp_path):
    file = tmp_path / "token"
    file.write_text("root:Milvus\n")
    assert read_token(file, ["gallery.index", SERVER]) == "root:Milvus"
    assert read_token(None, [SERVER]) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "on its one line"), (b"a\nb\n", "one line"), (None, "No such file")],
)
def test_a_file_without_a_token(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(ValueError, match=f"^--milvus-token-file .*token: .*{reason}"):
        read_token(tmp_path / "token", [SERVER])


@pytest.mark.parametrize("store", ["gallery.index", "milvus:gallery.db"])
def test_where_a_token_has_no_effect(tmp_path, store):
    with pytest.raises(ValueError, match="has no effect"):
        read_token(tmp_path / "token", [store])
