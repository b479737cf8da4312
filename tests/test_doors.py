"""Files are opened in few places, which check them first."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "clipreid_kit"

# Calls that open a file or parse its content, and the files of the library that may call them.
DOORS = {
    "open": {
        "_files.py",
        "_read_files.py",
        "retrieval/store/tensor_file.py",  # writes a new file
        "retrieval/store/writer_lock.py",
    },
    "fdopen": {"_files.py", "_read_files.py"},
    "read_text": set(),
    "read_bytes": set(),
    "Image.open": {"data/images/load_image.py"},
    "np.load": {"_read_files.py"},
    "torch.load": {"clip/towers/read_weights.py"},
    "jit.load": {"clip/towers/read_weights.py"},
    "load_file": {"clip/towers/read_weights.py"},
    "safe_open": {"clip/towers/read_weights.py"},
    "ZipFile": {"_read_files.py", "clip/towers/read_weights.py"},
    "json.load": set(),
    "json.loads": {
        "_read_files.py",
        "retrieval/store/tensor_file.py",  # of bytes whose checksum was compared
        "retrieval/store/record_columns.py",
    },
    "pickle.load": set(),
    "pickle.loads": set(),
    "yaml.load": set(),
    "yaml.safe_load": set(),
    "ParquetFile": {  # of files that the first door opened
        "data/files/parquet_images.py",
        "data/readers/_parquet_table.py",
    },
    "read_table": {"data/readers/table_by_suffix.py"},
    "loadtxt": set(),
    "fromfile": set(),
    "memmap": set(),
    "loadmat": set(),
}

# Methods of trees, archives and modules of our own under such names.
OWN_RECEIVERS = {
    "read_text": {"_read_files", "file"},  # file: a configuration inside the package
    "read_bytes": {"_read_files"},
    "open": {"temporary", "os", "Image", "Encoder", "GalleryIndex", "webbrowser"},
}


def calls(tree):
    """Yield the receiver, the last name and the line of each call; imported names have no one."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            yield "", node.func.id, node.lineno
        elif isinstance(node.func, ast.Attribute):
            receiver = node.func.value
            name = receiver.id if isinstance(receiver, ast.Name) else ""
            if isinstance(receiver, ast.Attribute):
                name = receiver.attr
            yield name or "?", node.func.attr, node.lineno


def ways_around(text, file):
    """List the calls of a source text that open a file outside the doors."""
    found = []
    for receiver, name, line in calls(ast.parse(text)):
        for call, allowed in DOORS.items():
            wanted, _, last = call.rpartition(".")
            if name != last or file in allowed:
                continue
            if wanted and receiver != wanted:
                continue
            # Functions of the doors themselves, imported by name, have these names, too.
            if not wanted and receiver == "" and last in ("read_text", "read_bytes", "read_table"):
                continue
            if not wanted and receiver in OWN_RECEIVERS.get(last, ()):
                continue
            found.append(f"{file}:{line}: {call}")
    return found


def sources():
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), path.read_text(encoding="utf-8")


def test_no_way_leads_around_the_doors():
    found = [way for file, text in sources() for way in ways_around(text, file)]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "open(path)",
        "path.open()",
        "Path(path).read_text()",
        "file.read_bytes()",
        "Image.open(path)",
        "np.load(path)",
        "torch.load(path)",
        "torch.jit.load(path)",
        "zipfile.ZipFile(path)",
        "json.loads(text)",
        "json.load(stream)",
        "parquet.read_table(path)",
        "yaml.safe_load(text)",
    ],
)
def test_a_way_around_is_found(line):
    assert len(ways_around(line, "data/x.py")) == 1
