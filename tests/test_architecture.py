"""The layers hold, no package has an import cycle, and importing stays light."""

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "clipreid_kit"


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_import_contracts_hold():
    result = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))],
        cwd=SOURCE.parents[1],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout


def test_importing_the_library_is_light_and_leaves_random_states_alone():
    heavy = ["open_clip", "torchvision", "timm", "faiss", "matplotlib", "PIL"]
    result = run_python(
        "import random, sys, torch;"
        "torch.manual_seed(3); before = torch.get_rng_state(), random.getstate();"
        f"import clipreid_kit; print([m for m in {heavy} if m in sys.modules]);"
        "import clipreid_kit.clip, clipreid_kit.data, clipreid_kit.viz;"
        "print(torch.equal(before[0], torch.get_rng_state()), before[1] == random.getstate())"
    )
    assert result.stdout.splitlines() == ["[]", "True True"], result.stderr
