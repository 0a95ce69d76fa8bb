#!/usr/bin/env python3
"""Reads many small files through a snapshot into one tensor.

    homifs snapshot disk.img /train --write train.snapshot
    mount -t homifs -o clients=2 disk.img /mnt
    read_small_files.py /mnt train.snapshot --files 10000 --verify

The tensor is torch's where torch is installed, else an array of NumPy; each file begins at a place of its own in it, behind
the one before. Prints how long it took, and by which path files were read; with --verify, reads all files by read(2) as well
and ends with an error where a byte differs.
"""

import argparse
import random
import sys
import time
from pathlib import Path

import homifs

# So many files are open at a time; a session has room for 1,024.
BATCH = 512


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


def read_all(snapshot: homifs.Snapshot, mount: Path, paths: list[Path], places: list[int], memory: object) -> set[str]:
    """Reads the files to their places; by which paths."""
    view = memoryview(memory)  # type: ignore[arg-type]
    served = set()
    for begin in range(0, len(paths), BATCH):
        files = [snapshot.open(mount, path) for path in paths[begin : begin + BATCH]]
        targets = [view[at : at + file.size] for file, at in zip(files, places[begin : begin + BATCH], strict=True)]
        counts = homifs.read_many([(file, 0, target) for file, target in zip(files, targets, strict=True)])
        for file, count in zip(files, counts, strict=True):
            if count != file.size:
                raise RuntimeError(f"{file.name}: {count} bytes of {file.size}")
            served.add(file.path_served)
            file.close()
    return served


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
    parser.add_argument("mount", type=Path, help="where the volume is mounted, with -o clients=N")
    parser.add_argument("snapshot", type=Path, help="what `homifs snapshot --write` wrote of it")
    parser.add_argument("--files", type=int, default=10_000, help="how many files, drawn at random (%(default)s)")
    parser.add_argument("--most", type=int, default=1 << 20, help="only files of at most so many bytes (%(default)s)")
    parser.add_argument("--tensor", choices=["any", "torch", "numpy"], default="any", help="whose tensor")
    parser.add_argument("--verify", action="store_true", help="compare every byte with what read(2) gives")
    given = parser.parse_args()

    snapshot = homifs.Snapshot(given.snapshot)
    small = [file for file in map(snapshot.at, range(len(snapshot))) if file.size <= given.most]
    drawn = random.Random(0).sample(small, min(given.files, len(small)))
    if not drawn:
        print(f"the snapshot has no files of at most {given.most} bytes", file=sys.stderr)
        return 1
    paths, sizes, places, end = [file.path for file in drawn], [file.size for file in drawn], [], 0
    for size in sizes:
        places.append(end)
        end += size
    tensor, memory, whose = new_tensor(end, given.tensor)

    start = time.perf_counter()
    served = read_all(snapshot, given.mount, paths, places, memory)
    seconds = time.perf_counter() - start
    print(
        f"{len(paths)} files, {end} bytes into a tensor of {whose} {tuple(tensor.shape)} by {'+'.join(sorted(served))}:"  # type: ignore[attr-defined]
        f" {seconds:.3f} s, {len(paths) / seconds:.0f} files/s"
    )
    if given.verify:
        root = given.mount / snapshot.root.relative_to("/")
        start = time.perf_counter()
        different = verify(root, paths, places, sizes, memory)
        seconds = time.perf_counter() - start
        print(f"read(2): {seconds:.3f} s, {different} files differ")
        return 1 if different else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
