"""The index that a command works on."""

from typing import Annotated

import typer

StoreArgument = Annotated[
    str,
    typer.Argument(
        help="Folder of the index; milvus:FILE.db or milvus:http://HOST:PORT for Milvus."
    ),
]
