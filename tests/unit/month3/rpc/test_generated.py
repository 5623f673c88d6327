"""What is committed is what the contracts say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from month3_messaging.rpc.generate import GENERATED, generate_grpc, generate_thrift
from month3_messaging.rpc.generated.thrift_ttypes import HoldRequest


def differing(made: Path) -> list[str]:
    """Files that are not committed like this."""
    return [
        path.name
        for path in made.iterdir()
        if path.read_text("utf-8") != (GENERATED / path.name).read_text("utf-8")
    ]


def test_the_grpc_modules_come_from_the_proto(tmp_path: Path) -> None:
    """Made again, they are the same."""
    generate_grpc(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert differing(tmp_path) == []


def test_the_thrift_modules_have_the_contracts_fields() -> None:
    """Also where Thrift's compiler is not."""
    contract = (GENERATED.parent / "inventory.thrift").read_text("utf-8")
    request = re.search(r"struct HoldRequest \{(.*?)\}", contract, re.DOTALL)
    assert request is not None
    wanted = re.findall(r"^\s*(\d+):(?: optional)? \S+ (\w+)$", request.group(1), re.MULTILINE)
    made = [(str(field[0]), field[2]) for field in vars(HoldRequest)["thrift_spec"] if field]
    assert made == wanted


def test_the_thrift_modules_come_from_the_contract(tmp_path: Path) -> None:
    """Made again by the compiler that made them, where it is, they are the same."""
    compiler = shutil.which("thrift")
    if compiler is not None and "0.17.0" in _version(compiler):
        generate_thrift(tmp_path)
        assert len(list(tmp_path.iterdir())) == 2
    assert differing(tmp_path) == []


def _version(compiler: str) -> str:
    return subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=False
    ).stdout
