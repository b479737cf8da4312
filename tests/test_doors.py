"""Files are opened in few places, which check them first, and nothing in a file is run."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "clipreid_kit"

# Functions that open a file, parse or run its content, and the files of the library that may call
# them. The names are those of the modules that define them, however a file imports them.
DOORS = {
    "open": set(),
    "io.open": set(),
    "codecs.open": set(),
    "os.open": {
        "_files.py",
        "_read_files.py",
        "cli/main.py",  # the null device
        "reports/run_lock.py",
    },
    "os.fdopen": {"_files.py", "_read_files.py"},
    "PIL.Image.open": {"data/images/load_image.py"},
    "PIL.ImageFile.Parser": set(),
    "cv2.imread": set(),
    "torchvision.io": set(),
    "numpy.load": {"_read_files.py"},
    "numpy.loadtxt": set(),
    "numpy.genfromtxt": set(),
    "numpy.fromfile": set(),
    "numpy.memmap": set(),
    "numpy.lib.format": {
        "retrieval/encoding/embedding_files.py",  # writes headers
        "clip/tuning/frozen_prefix.py",  # writes a new file
    },
    "scipy.io": set(),
    "h5py": set(),
    "pandas": set(),
    "torch.load": {"clip/towers/read_weights.py"},
    "torch.jit.load": {"clip/towers/read_weights.py"},
    "torch.hub": set(),
    "torch.package": set(),
    "torch.from_file": set(),
    "torch.export.load": set(),
    "safetensors.safe_open": {"clip/towers/read_weights.py"},
    "safetensors.torch.load_file": {"clip/towers/read_weights.py"},
    "safetensors.torch.load_model": set(),
    "onnx.load": {"clip/checkpoints/tracker_export.py"},  # of a file that it has written
    "onnxruntime.InferenceSession": {"clip/checkpoints/_onnx_graph.py"},  # the same
    "zipfile.ZipFile": {"_read_files.py", "clip/towers/read_weights.py"},
    "zipfile.Path": set(),
    "zipfile.PyZipFile": set(),
    "tarfile": set(),
    "gzip.GzipFile": {"_read_files.py"},
    "gzip.open": set(),
    "gzip.decompress": set(),
    "bz2": set(),
    "lzma": set(),
    "zlib.decompress": set(),
    "shutil.unpack_archive": set(),
    "mmap.mmap": {"_read_files.py", "retrieval/store/tensor_file.py"},
    "json.load": set(),
    "json.loads": {
        "_read_files.py",
        "retrieval/store/tensor_file.py",  # of bytes whose checksum was compared
        "retrieval/store/record_columns.py",
    },
    "json.JSONDecoder": set(),
    "yaml.load": set(),
    "yaml.load_all": set(),
    "yaml.safe_load": set(),
    "yaml.safe_load_all": set(),
    "yaml.full_load": set(),
    "yaml.unsafe_load": set(),
    "tomllib": set(),
    "configparser": set(),
    "sqlite3": set(),
    "xml": set(),
    "lxml": set(),
    "openpyxl.load_workbook": {"data/readers/_excel_table.py"},  # of what a door opened
    "pyarrow.parquet.ParquetFile": {"data/files/parquet_cells.py"},  # of what a door opened
    "pyarrow.parquet.read_table": set(),
    "pyarrow.feather": set(),
    "pyarrow.dataset": set(),
    "pyarrow.memory_map": set(),
    "pyarrow.OSFile": set(),
    "pickle.load": set(),
    "pickle.loads": set(),
    "pickle.Unpickler": set(),
    "marshal": set(),
    "shelve": set(),
    "dill": set(),
    "joblib": set(),
    "cloudpickle": set(),
    "eval": set(),
    "exec": set(),
    "compile": set(),
    "__import__": set(),
    "runpy": set(),
    "ctypes": set(),
    "importlib.util.spec_from_file_location": set(),
    "importlib.machinery": set(),
    "os.system": set(),
    "os.popen": set(),
    "subprocess": {"reports/run_folder.py"},  # git, for the revision of the code
    "urllib.request": set(),
    "requests": set(),
}

# Methods of paths, files and modules that open a file, and the names before them that are others:
# trees, archives and indexes of our own.
METHODS = {
    "open": {
        "os",
        "Image",
        "Encoder",
        "GalleryIndex",
        "PrefixCache",
        "webbrowser",
        "temporary",  # writes a new file
    },
    "read_text": {"_read_files", "file"},  # file: a configuration inside the package
    "read_bytes": {"_read_files"},
    "ParquetFile": {"parquet"},
    "read_table": set(),
    "loadmat": set(),
}
METHODS_ALLOWED = {
    "open": {
        "_files.py",
        "_read_files.py",
        "retrieval/store/tensor_file.py",  # writes a new file
        "retrieval/store/writer_lock.py",
    },
    "read_text": {"_threads.py"},  # the kernel's own
    "ParquetFile": {"data/readers/_parquet_table.py"},
}


def imported_names(tree):
    """Return what each imported name stands for, in full."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                names[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node, names):
    """Return the full name of an expression such as ``np.lib.load``; ``""`` if it is no name."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        start = dotted(node.value, names)
        return f"{start}.{node.attr}" if start else ""
    return ""


def door_of(name):
    """Return the door that a full name leads through, if any."""
    for door in DOORS:
        if name == door or name.startswith(f"{door}."):
            return door
    return None


def used_functions(tree):
    """Yield what is called, passed to a call, as in ``map(open, paths)``, or inherited from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from node.bases
        if not isinstance(node, ast.Call):
            continue
        yield node.func
        if getattr(node.func, "id", "") not in ("isinstance", "issubclass"):
            yield from node.args
            yield from (keyword.value for keyword in node.keywords)


def doors_used(tree):
    """Yield the door and the line of each place that leads through one."""
    names = imported_names(tree)
    # A function that a file defines is its own, whatever it is called.
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

    for node in used_functions(tree):
        name = dotted(node, names)
        door = None if name in own else door_of(name)
        if door is not None:
            yield door, node.lineno


def methods_used(tree):
    """Yield the method, what stands before it, and the line of each call of such a method."""
    names = imported_names(tree)
    for node in used_functions(tree):
        if not isinstance(node, ast.Attribute) or node.attr not in METHODS:
            continue
        if door_of(dotted(node, names)) is None:  # otherwise it is one of the above
            receiver = getattr(node.value, "attr", getattr(node.value, "id", ""))
            yield node.attr, receiver, node.lineno


def ways_around(text, file):
    """List the places of a source text that open a file, or run one, outside the doors."""
    tree = ast.parse(text)

    found = []
    for door, line in doors_used(tree):
        if file not in DOORS[door]:
            found.append(f"{file}:{line}: {door}")
    for method, receiver, line in methods_used(tree):
        if file not in METHODS_ALLOWED.get(method, ()) and receiver not in METHODS[method]:
            found.append(f"{file}:{line}: .{method}")
    return sorted(set(found))


def sources():
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_no_way_leads_around_the_doors():
    found = [way for file, text in sources() for way in ways_around(text, file)]
    assert found == []


@pytest.mark.slow
def test_every_exception_is_needed():
    needed = {(door, file) for file, text in sources() for door, _ in doors_used(ast.parse(text))}
    allowed = {(door, file) for door, files in DOORS.items() for file in files}
    assert allowed <= needed


@pytest.mark.parametrize(
    "lines",
    [
        "open(path)",
        "list(map(open, paths))",
        "path.open()",
        "Path(path).read_text()",
        "file.read_bytes()",
        "import io\nio.open(path)",
        "import codecs as c\nc.open(path)",
        "import os\nos.open(path, 0)",
        "from PIL import Image\nImage.open(path)",
        "from PIL import Image as I\nI.open(path)",
        "from PIL.Image import open as see\nsee(path)",
        "import numpy as np\nnp.load(path)",
        "import numpy\nnumpy.load(path)",
        "from numpy import load\nload(path)",
        "import numpy as n\nn.lib.format.open_memmap(path)",
        "import torch\ntorch.load(path)",
        "from torch import load as get\nget(path)",
        "import torch\ntorch.jit.load(path)",
        "from torch import jit\njit.load(path)",
        "from safetensors.torch import load_file as lf\nlf(path)",
        "import zipfile\nzipfile.ZipFile(path)",
        "from zipfile import Path as P\nP(path)",
        "import tarfile\ntarfile.open(path)",
        "import gzip\ngzip.open(path)",
        "import json\njson.loads(text)",
        "from json import loads\nloads(text)",
        "import json as j\nj.load(stream)",
        "from pyarrow import parquet\nparquet.read_table(path)",
        "import pandas as pd\npd.read_csv(path)",
        "import yaml\nyaml.safe_load(text)",
        "from yaml import unsafe_load\nunsafe_load(text)",
        "import pickle\npickle.Unpickler(stream).load()",
        "import marshal\nmarshal.loads(text)",
        "eval(text)",
        "exec(text)",
        "import subprocess\nsubprocess.run(text)",
        "import runpy\nrunpy.run_path(path)",
        "from importlib.util import spec_from_file_location as f\nf('x', path)",
        "import onnx\nonnx.load(path)",
        "from torchvision.io import read_image\nread_image(path)",
    ],
)
def test_a_way_around_is_found(lines):
    assert len(ways_around(lines, "data/x.py")) == 1


@pytest.mark.parametrize(
    "lines",
    [
        "from clipreid_kit._read_files import read_text\nread_text(path)",
        "from clipreid_kit import _read_files\n_read_files.read_bytes(path)",
        "from clipreid_kit.data import read_table\nread_table(path)",
        "model.eval()",
        "import re\nre.compile(text)",
        "import yaml\nyaml.safe_dump(tree)",
        "import pickle\nerrors = (pickle.UnpicklingError,)",
    ],
)
def test_other_names_are_no_ways_around(lines):
    assert ways_around(lines, "data/x.py") == []
