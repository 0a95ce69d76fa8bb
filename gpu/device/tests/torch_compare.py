# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reads files of a mount into tensors of a CUDA device by queues, and compares every byte with read(2).

    python3 gpu/device/tests/torch_compare.py FILE...
"""

import sys

import homifs
import torch


def compare(path: str) -> int:
    """Reads one file both ways; its bytes. Raises where they differ."""
    with open(path, "rb") as plain:
        wanted = torch.frombuffer(bytearray(plain.read()), dtype=torch.uint8)
    with homifs.open(path) as file:
        if file.path_served != "queues":
            raise SystemExit(f"{path}: served by {file.path_served}: {file.why}")
        ours = torch.zeros(file.size, dtype=torch.uint8, device="cuda")
        got = file.read_into(ours)
    if got != len(wanted) or not torch.equal(ours.cpu(), wanted):
        raise SystemExit(f"{path}: a tensor differs from read(2)")
    return got


def main() -> None:
    """Compares all files that were named."""
    if not torch.cuda.is_available():
        print("skipped: torch finds no CUDA device")
        raise SystemExit(77)
    total = sum(compare(path) for path in sys.argv[1:])
    print(f"{len(sys.argv) - 1} files, {total} bytes in tensors of {torch.cuda.get_device_name()}: alike")


main()
