"""Importing stays light. Layers and import cycles are what `make lint` checks."""

import subprocess
import sys

import pytest


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_importing_the_library_is_light_and_names_of_clip_are_imported_on_first_use():
    heavy = ["open_clip", "torchvision", "timm", "transformers", "pandas", "scipy", "sklearn"]
    heavy += ["faiss", "matplotlib"]
    result = run_python(
        "import sys, clipreid_kit, clipreid_kit.losses; assert 'PIL' not in sys.modules;"
        "import clipreid_kit.clip as clip, clipreid_kit.data;"
        f"print([m for m in {heavy} if m in sys.modules]);"
        "clip.ImportReport; assert 'open_clip' not in sys.modules;"
        "assert set(clip.__all__) <= set(dir(clip));"
        "assert sorted(n for names in clip._HOMES.values() for n in names) == sorted(clip.__all__);"
        "clip.no_such_name"
    )
    assert result.stdout.strip() == "[]", result.stderr
    assert "has no attribute 'no_such_name'" in result.stderr


@pytest.mark.slow
def test_importing_reads_and_sets_no_random_state():
    result = run_python(
        "import random, torch;"
        "torch.manual_seed(3); before = torch.get_rng_state(), random.getstate();"
        "from clipreid_kit.clip import *; from clipreid_kit.data import *; import clipreid_kit.viz;"
        "print(torch.equal(before[0], torch.get_rng_state()), before[1] == random.getstate())"
    )
    assert result.stdout.splitlines() == ["True True"], result.stderr
