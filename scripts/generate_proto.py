"""Generate the Python modules of proto/ into service/, or check that the committed ones are fresh.

python scripts/generate_proto.py           writes service/headshot/v1 and tests/contract/api.binpb
python scripts/generate_proto.py --check   fails when either differs from what is committed
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from google.rpc import status_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
PACKAGE = ROOT / "service" / "headshot" / "v1"
DESCRIPTOR = ROOT / "tests" / "contract" / "api.binpb"


def generate(target: Path, descriptor: Path) -> None:
    """Run protoc over proto/headshot/v1 into `target`; write the descriptor set beside."""
    sources = sorted(str(path) for path in (PROTO / "headshot" / "v1").glob("*.proto"))
    includes = [
        f"-I{PROTO}",
        f"-I{files('grpc_tools') / '_proto'}",
        f"-I{Path(status_pb2.__file__).parent.parent.parent}",
    ]
    outputs = [f"--python_out={target}", f"--pyi_out={target}", f"--grpc_python_out={target}"]
    image = [f"--descriptor_set_out={descriptor}", "--include_imports", "--include_source_info"]
    if protoc.main(["protoc", *includes, *outputs, *image, *sources]) != 0:
        raise SystemExit("protoc failed")


def main() -> int:
    """Generate or check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        descriptor = Path(folder) / "api.binpb"
        generate(Path(folder), descriptor)
        fresh = Path(folder) / "headshot" / "v1"
        names = sorted(path.name for path in fresh.iterdir())
        if check:
            _, stale, missing = filecmp.cmpfiles(fresh, PACKAGE, names, shallow=False)
            if stale or missing or not filecmp.cmp(descriptor, DESCRIPTOR, shallow=False):
                print(f"run `make proto`: {stale + missing or 'the descriptor'} is stale")
                return 1
            return 0
        PACKAGE.mkdir(parents=True, exist_ok=True)
        DESCRIPTOR.parent.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(fresh / name, PACKAGE / name)
        (PACKAGE / "__init__.py").write_text('"""Generated from proto/headshot/v1."""\n')
        shutil.copyfile(descriptor, DESCRIPTOR)
    return 0


if __name__ == "__main__":
    sys.exit(main())
