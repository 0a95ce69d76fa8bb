#!/usr/bin/env python3
"""Reads many small files through a snapshot into one tensor.

    mount -t homifs -o clients=2 disk.img /mnt
    read_small_files.py /mnt/train --files 10000 --verify

No file is opened: the daemon makes all files below the directory one namespace, and says where in it each lies. The tensor is
torch's where torch is installed, else an array of NumPy; each file begins behind the one before. Prints how long it took, and
by which path files were read; with --verify, reads all files by read(2) as well and ends with an error where a byte differs.
"""

import argparse
import random
import sys
import time
from pathlib import Path

import homifs


def new_tensor(length: int, wanted: str) -> tuple[object, object, str]:
    """A tensor of bytes, the memory of it, and whose it is."""
    if wanted in ("torch", "any"):
        try:
            import torch

            tensor = torch.empty(length, dtype=torch.uint8)
            return tensor, tensor.numpy(), "torch"
        except ImportError:
            if wanted == "torch":
                raise
    import numpy

    array = numpy.empty(length, dtype=numpy.uint8)
    return array, array, "numpy"


def verify(root: Path, paths: list[Path], places: list[int], sizes: list[int], memory: object) -> int:
    """How many files differ from what read(2) gives."""
    view = memoryview(memory)  # type: ignore[arg-type]
    different = 0
    for path, at, size in zip(paths, places, sizes, strict=True):
        if (root / path).read_bytes() != view[at : at + size]:
            print(f"{path} differs", file=sys.stderr)
            different += 1
    return different


def main() -> int:
    parser = argparse.ArgumentParser(description="Reads many small files through a snapshot into one tensor.")
    parser.add_argument("directory", type=Path, help="on a mount with -o clients=N")
    parser.add_argument("--files", type=int, default=10_000, help="how many files, drawn at random (%(default)s)")
    parser.add_argument("--most", type=int, default=1 << 20, help="only files of at most so many bytes (%(default)s)")
    parser.add_argument("--tensor", choices=["any", "torch", "numpy"], default="any", help="whose tensor")
    parser.add_argument("--verify", action="store_true", help="compare every byte with what read(2) gives")
    given = parser.parse_args()

    start = time.perf_counter()
    snapshot = homifs.snapshot(given.directory)
    taken = time.perf_counter() - start
    sizes = dict(zip(snapshot.paths(), snapshot.sizes(), strict=True))
    small = [path for path, size in sizes.items() if size <= given.most]
    paths = random.Random(0).sample(small, min(given.files, len(small)))
    if not paths:
        print(f"the directory has no files of at most {given.most} bytes", file=sys.stderr)
        return 1
    tensor, memory, whose = new_tensor(snapshot.room(paths), given.tensor)

    start = time.perf_counter()
    places = snapshot.read_into(memory, paths)
    seconds = time.perf_counter() - start
    print(
        f"{len(paths)} files, {sum(sizes[path] for path in paths)} bytes into a tensor of {whose} {tuple(tensor.shape)} by"  # type: ignore[attr-defined]
        f" {snapshot.path_served}: {seconds:.3f} s, {len(paths) / seconds:.0f} files/s; the snapshot of {len(snapshot)} files"
        f" took {taken:.3f} s"
    )
    if given.verify:
        start = time.perf_counter()
        different = verify(given.directory, paths, places, [sizes[path] for path in paths], memory)
        seconds = time.perf_counter() - start
        print(f"read(2): {seconds:.3f} s, {different} files differ")
        return 1 if different else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
