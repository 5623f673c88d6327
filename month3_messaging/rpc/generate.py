"""Make `generated/` from the two contracts: `python -m month3_messaging.rpc.generate [FOLDER]`.

Needs grpcio-tools, and Thrift's compiler on PATH (Debian's `thrift-compiler`). What comes out is
committed, so that nobody needs them to run it; a test makes it again and compares.
"""

from __future__ import annotations

import importlib.resources
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
GENERATED = HERE / "generated"
_PACKAGE = "month3_messaging.rpc.generated"
# Nobody wrote it, so nobody's rules of style and types are asked of it.
_HEAD = "# ruff: noqa\n# fmt: off\n# type: ignore\n"


def generate(target: Path) -> None:
    """Write all generated modules into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    generate_grpc(target)
    generate_thrift(target)


def generate_grpc(target: Path) -> None:
    """Messages, their types and the service's stubs. Raises RuntimeError if protoc refuses."""
    from grpc_tools import protoc  # pyright: ignore[reportMissingTypeStubs]

    included = importlib.resources.files("grpc_tools") / "_proto"
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    arguments = ["protoc", f"-I{HERE}", f"-I{included}", *outputs, "inventory.proto"]
    if protoc.main(arguments) != 0:  # pyright: ignore[reportUnknownMemberType]
        raise RuntimeError("protoc refused inventory.proto")
    stubs = target / "inventory_pb2_grpc.py"
    text = stubs.read_text("utf-8")
    # protoc knows no packages of Python: its import is one from the search path.
    local = f"from {_PACKAGE} import inventory_pb2 as inventory__pb2"
    stubs.write_text(text.replace("import inventory_pb2 as inventory__pb2", local), "utf-8")
    for name in ("inventory_pb2.py", "inventory_pb2.pyi", "inventory_pb2_grpc.py"):
        _mark(target / name)


def generate_thrift(target: Path) -> None:
    """Structs and the service's two sides. Raises CalledProcessError if the compiler refuses."""
    with tempfile.TemporaryDirectory() as scratch:
        source = HERE / "inventory.thrift"
        command = ["thrift", "--gen", "py:slots", "-out", scratch, str(source)]
        subprocess.run(command, check=True, capture_output=True)
        package = Path(scratch) / "inventory_thrift"
        for name in ("ttypes.py", "Inventory.py"):
            made = target / f"thrift_{name.lower()}"
            shutil.copy(package / name, made)
            text = made.read_text("utf-8").replace("from .ttypes", "from .thrift_ttypes")
            made.write_text(text, "utf-8")
            _mark(made)


def _mark(module: Path) -> None:
    lines = [line.rstrip() for line in module.read_text("utf-8").splitlines()]
    if module.suffix == ".pyi":  # its types are what the rest is checked against
        lines = [line.replace("_Mapping]", "_Mapping[str, object]]") for line in lines]
    module.write_text(_HEAD + "\n".join(lines).rstrip() + "\n", "utf-8")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else GENERATED)
