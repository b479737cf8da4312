"""A server of processes that has imported everything and forks: each process starts at once."""

import os
from multiprocessing.context import BaseContext
from pathlib import Path

import torch.multiprocessing as mp

_REPOSITORY = Path(__file__).parents[1]


def forking_context() -> BaseContext:
    """The context of the server, which starts with the first process, once for all tests."""
    folders = (str(_REPOSITORY), str(_REPOSITORY / "src"), os.environ.get("PYTHONPATH", ""))
    paths = os.pathsep.join(filter(None, folders)).split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))  # where the server looks

    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["examples.trainer.__main__", "pytest", "hypothesis"])
    return context
