"""Publish towers and methods with a model card, and load them from a folder or the Hub."""

from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, runtime_checkable

from torch import nn

from clipreid_kit._checks import fail
from clipreid_kit._files import write_whole
from clipreid_kit.clip.checkpoints.method_weights import (
    HEADS_FILE,
    construction_of,
    find_towers,
    read_checkpoint,
    trained_image_size,
    write_heads,
)
from clipreid_kit.clip.checkpoints.model_card import ModelCard
from clipreid_kit.clip.checkpoints.save_load import (
    CARD_FILE,
    WEIGHTS_FILE,
    load_towers,
    save_towers,
)
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.towers.load_weights import LoadReport, load_weights

README_FILE = "README.md"

_FILES = (README_FILE, CARD_FILE, WEIGHTS_FILE, HEADS_FILE)


@runtime_checkable
class HubClient(Protocol):
    """The calls of ``huggingface_hub.HfApi`` that are used here."""

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> object:
        """Create a repository."""

    def upload_folder(
        self, *, repo_id: str, folder_path: str, commit_message: str, revision: str | None
    ) -> object:
        """Upload the files of a folder in one commit; its text is the address of the commit."""

    def snapshot_download(
        self,
        repo_id: str,
        *,
        revision: str | None,
        allow_patterns: list[str],
        local_files_only: bool,
    ) -> str:
        """Download files of a repository to the cache, and return their folder."""


def save_pretrained(
    module: nn.Module,
    folder: str | PathLike[str],
    *,
    card: ModelCard,
    merge_adapters: bool = False,
) -> None:
    """Save towers or a method, with a model card, as they are published.

    Use it to hand a model to others. The folder holds the towers as :func:`save_towers` writes
    them, ``heads.safetensors`` with all tensors of a method outside its towers, and ``README.md``.

    Args:
        module: :class:`ClipTowers`, or a method that holds them under the name ``towers``.
        folder: Folder to save to; created if necessary.
        card: What users have to know of the weights.
        merge_adapters: Whether to save LoRA adapters merged into the weights.

    Raises:
        ValueError: If the module holds no towers, or ``folder`` is a file.

    Example:
        >>> import tempfile
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32))
        >>> card = ModelCard("Random", "mit", data="none", protocol="none", figures={})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_pretrained(towers, folder, card=card)
        ...     from_pretrained(folder).image_size
        (64, 32)
    """
    towers = _require_towers("save_pretrained", module)
    text = card.render(module)

    extra = {
        **construction_of(module, towers),
        "licence": card.licence,
        "image_spec": dict(card.image_spec),
    }
    save_towers(towers, folder, extra=extra, merge_adapters=merge_adapters)
    if towers is not module:
        write_heads(Path(folder), module, extra)
    write_whole(Path(folder) / README_FILE, text.encode())


def from_pretrained(
    source: str | PathLike[str],
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    client: HubClient | None = None,
) -> ClipTowers:
    """Load the towers of a folder of :func:`save_pretrained`, or of a repository of the Hub.

    Args:
        source: The folder, or the name of a repository, ``owner/name``. A folder that exists wins.
        revision: Branch, tag or commit of the repository. ``None`` for the main branch.
        local_files_only: Whether to read the cache alone, without the network.
        client: Client of the Hub. ``None`` for ``huggingface_hub.HfApi()``, which finds your
            token.

    Returns:
        The towers on the CPU, in the dtype that they were saved in and in training mode.

    Raises:
        ValueError: If there is no such folder or repository, the download fails, or the files are
            damaged.
    """
    return load_towers(_find_folder("from_pretrained", source, revision, local_files_only, client))


def load_pretrained(
    method: nn.Module,
    source: str | PathLike[str],
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    client: HubClient | None = None,
) -> LoadReport:
    """Load a published method, its towers and all that is beside them, into one that you built.

    Args:
        method: A method like the one that was saved, with as many identities; changed only if
            every tensor fits. For other identities, call :func:`warm_start` with the folder.
        source: As for :func:`from_pretrained`.
        revision: As for :func:`from_pretrained`.
        local_files_only: As for :func:`from_pretrained`.
        client: As for :func:`from_pretrained`.

    Returns:
        Report of the loaded tensors.

    Raises:
        ValueError: As for :func:`from_pretrained`, or if a tensor does not fit.
    """
    owner = "load_pretrained"
    towers = _require_towers(owner, method)
    folder = _find_folder(owner, source, revision, local_files_only, client)

    tensors = read_checkpoint(folder, method, towers)
    if not tensors:
        raise fail(owner, f"a folder with {WEIGHTS_FILE}", f"{folder}")
    return load_weights(method, tensors, source_image_size=trained_image_size(folder))


def push_to_hub(
    module: nn.Module,
    repo_id: str,
    *,
    card: ModelCard,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Add weights and model card",
    merge_adapters: bool = False,
    client: HubClient | None = None,
) -> str:
    """Upload towers or a method, with a model card, to a repository of the Hub, in one commit.

    Args:
        module: As for :func:`save_pretrained`.
        repo_id: Name of the repository, ``owner/name``; created if necessary.
        card: What users have to know of the weights.
        private: Whether a new repository is private. ``None`` for the owner's default.
        revision: Branch to commit to. ``None`` for the main branch.
        commit_message: Message of the commit.
        merge_adapters: Whether to upload LoRA adapters merged into the weights.
        client: Client of the Hub. ``None`` for ``huggingface_hub.HfApi()``, which finds your
            token.

    Returns:
        The address of the commit.

    Raises:
        ValueError: If the module holds no towers, the name is not one of a repository, or the Hub
            refuses the upload.

    Example:
        >>> push_to_hub(towers, "me/shoes-vit-b16", card=card)  # doctest: +SKIP
    """
    owner = "push_to_hub"
    _require_towers(owner, module)
    if client is None:
        client = _default_client(owner)

    with TemporaryDirectory() as folder:
        save_pretrained(module, folder, card=card, merge_adapters=merge_adapters)
        try:
            client.create_repo(repo_id, private=private, exist_ok=True)
            commit = client.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message,
                revision=revision,
            )
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{owner}: {repo_id} could not be written ({_first_line(error)}). Check the name, "
                "the network and your token: `hf auth login`."
            ) from error
    return str(commit)


def _require_towers(owner: str, module: nn.Module) -> ClipTowers:
    towers = find_towers(module)
    if towers is None:
        raise fail(
            owner,
            "ClipTowers, or a method that holds them under the name towers",
            type(module).__name__,
        )
    return towers


def _find_folder(
    owner: str,
    source: str | PathLike[str],
    revision: str | None,
    local_files_only: bool,
    client: HubClient | None,
) -> Path:
    """Return the folder itself, or that to which a repository was downloaded."""
    if Path(source).is_dir():
        if revision is not None:
            raise ValueError(f"{owner}: {source} is a folder, which has no revision; leave it out.")
        return Path(source)

    name = str(source)
    if isinstance(source, PathLike) or name.count("/") > 1 or name.startswith((".", "~", "/")):
        raise fail(owner, "a folder that exists, or owner/name", f"{source}", "Check the path.")

    if client is None:
        client = _default_client(owner)
    try:
        folder = client.snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(_FILES),
            local_files_only=local_files_only,
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{owner}: {name} is neither a folder nor a repository that can be read here "
            f"({_first_line(error)}). Check the name and the network."
        ) from error
    return Path(folder)


def _default_client(owner: str) -> HubClient:
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise ValueError(
            f"{owner}: huggingface_hub is not installed. Run pip install clipreid_kit[hub]."
        ) from None

    client: HubClient = HfApi()
    return client


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
