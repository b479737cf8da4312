"""Import everything public where only the wheel and its core dependencies are installed."""

import importlib
import sys
from importlib import metadata, resources

HEAVY = ("open_clip", "torchvision", "timm", "faiss", "matplotlib", "PIL", "transformers")
EXTRAS = ("accelerate", "matplotlib", "pytest")  # yaml and tqdm come with open_clip


def main() -> None:
    import clipreid_kit

    loaded = sorted(name for name in HEAVY if name in sys.modules)
    assert not loaded, f"import clipreid_kit pulled in {loaded}"
    assert "site-packages" in clipreid_kit.__file__, clipreid_kit.__file__
    assert metadata.version("clipreid_kit") == clipreid_kit.__version__
    assert resources.files("clipreid_kit").joinpath("py.typed").is_file()
    for name in clipreid_kit.__all__:
        assert getattr(clipreid_kit, name) is not None
    for extra in EXTRAS:
        try:
            importlib.import_module(extra)
        except ImportError:
            continue
        raise AssertionError(f"{extra} is installed: this environment is not the core alone")

    from clipreid_kit.clip import ClipTowers
    from clipreid_kit.data import SyntheticReid

    towers = ClipTowers.from_open_clip("reid-tiny-resnet")
    tokens = towers.tokenize([SyntheticReid(20).caption(0, 0, 0)])
    assert towers.encode_text(tokens).shape == (1, towers.embed_dim)

    import clipreid_kit.viz

    try:
        clipreid_kit.viz.cmc_figure({"a": [0.5, 1.0]})
    except ImportError as error:
        if "pip install clipreid_kit[viz]" not in str(error):
            raise
    else:
        raise AssertionError("cmc_figure drew without matplotlib")
    print(f"clipreid_kit {clipreid_kit.__version__} imports with its core dependencies alone")


if __name__ == "__main__":
    main()
