"""Loader processes read what a writer appends; every record says what it is and carries a digest."""

import hashlib
import mmap
import multiprocessing
import os
import random
import struct
import sys
import time

SIZE = 4096 + 24  # Not a multiple of a block or a page.
HEAD = struct.Struct("<QQQ")  # File, place in the file, length of what follows.
FILES = 6
# Records that each process gets through even on a machine that is too busy to begin in time.
LEAST = 50

try:
    import numpy
except ImportError:
    numpy = None
try:
    import torch.utils.data as torch_data
except ImportError:
    torch_data = None


def record(file, place):
    body = random.Random(file << 32 | place).randbytes(SIZE - HEAD.size - 32)
    head = HEAD.pack(file, place, len(body))
    return head + body + hashlib.sha256(head + body).digest()


def check(data, file, place, how):
    data = bytes(data)
    if len(data) != SIZE or hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise SystemExit(f"record {place} of file {file} is not whole ({how}): {data[:32].hex()}, {len(data)} bytes")
    if HEAD.unpack_from(data)[:2] != (file, place):
        raise SystemExit(f"record {place} of file {file} is another one ({how}): {HEAD.unpack_from(data)}")


def path(folder, file):
    return os.path.join(folder, f"records-{file}")


def by_read(name, place):
    with open(name, "rb", buffering=0) as file:
        return os.pread(file.fileno(), SIZE, place * SIZE)


def by_mapping(name, place):
    with open(name, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        return mapped[place * SIZE : (place + 1) * SIZE]


def by_numpy(name, place):
    records = os.path.getsize(name) // SIZE
    return numpy.memmap(name, numpy.uint8, "r", shape=(records, SIZE))[place].tobytes()


def ways():
    return [by_read, by_mapping] + ([by_numpy] if numpy else [])


def write(folder, announced, until):
    """Appends to files, some of which it opens anew each time, and announces how many records each has."""
    numbers, kept = random.Random(1), {file: open(path(folder, file), "ab", buffering=0) for file in range(0, FILES, 2)}
    while time.monotonic() < until.value or sum(announced) < LEAST or 0 in announced:
        file = numbers.randrange(FILES)
        count = numbers.randrange(1, 20)
        data = b"".join(record(file, announced[file] + place) for place in range(count))
        target = kept.get(file) or open(path(folder, file), "ab", buffering=0)
        # In two pieces, so that what is read meanwhile ends within a record.
        cut = numbers.randrange(len(data))
        assert target.write(data[:cut]) == cut
        assert target.write(data[cut:]) == len(data) - cut
        if file not in kept:
            if numbers.randrange(4) == 0:
                os.fsync(target.fileno())
            target.close()
        announced[file] += count
        # Readers find clean files, too.
        time.sleep(numbers.choice([0, 0.001, 0.05]))


def read(folder, announced, until, seed, counted):
    numbers, count = random.Random(seed), 0
    held = {}
    while time.monotonic() < until.value or count < LEAST:
        file = numbers.randrange(FILES)
        records = announced[file]
        if records == 0:
            continue
        # What was appended last is what a stale view would miss.
        place = records - 1 if numbers.randrange(2) else numbers.randrange(records)
        way = numbers.choice(ways())
        check(way(path(folder, file), place), file, place, way.__name__)
        # By a descriptor that was opened before the record was written.
        if file not in held:
            held[file] = open(path(folder, file), "rb", buffering=0)
        check(os.pread(held[file].fileno(), SIZE, place * SIZE), file, place, "held descriptor")
        if numbers.randrange(50) == 0:
            held.pop(file).close()
        count += 2
    counted.put(count)


if torch_data:

    class Records(torch_data.Dataset):
        def __init__(self, folder, announced):
            self.places = [(path(folder, file), file, place) for file in range(FILES) for place in range(announced[file])]

        def __len__(self):
            return len(self.places)

        def __getitem__(self, index):
            name, file, place = self.places[index]
            check(by_read(name, place), file, place, "DataLoader")
            return file


def run(folder, seconds):
    announced = multiprocessing.Array("Q", FILES, lock=False)
    until = multiprocessing.Value("d", time.monotonic() + seconds, lock=False)
    counted = multiprocessing.Queue()
    writer = multiprocessing.Process(target=write, args=(folder, announced, until))
    readers = [multiprocessing.Process(target=read, args=(folder, announced, until, seed, counted)) for seed in range(4)]
    processes = [writer, *readers]
    for process in processes:
        process.start()
    epochs = 0
    while torch_data and time.monotonic() < until.value - 1:
        for _ in torch_data.DataLoader(Records(folder, list(announced)), batch_size=32, num_workers=2, shuffle=True):
            pass
        epochs += 1
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a process failed")
    records, written = sum(counted.get() for _ in readers), sum(announced)
    names = ", ".join(way.__name__[3:] for way in ways()) + (f", {epochs} epochs of DataLoader" if torch_data else "")
    if records == 0 or written == 0:
        raise SystemExit("nobody read or wrote anything")
    print(f"{records} records read ({names}) while {written} were appended, all whole")


def verify(folder):
    for file in range(FILES):
        with open(path(folder, file), "rb") as opened:
            place = 0
            while data := opened.read(SIZE):
                check(data, file, place, "after mounting again")
                place += 1


if sys.argv[1] == "--verify":
    verify(sys.argv[2])
else:
    run(sys.argv[1], float(sys.argv[2]))
