"""The package on a mount: HOMIFS_MOUNT is where, HOMIFS_SNAPSHOT an arena of its root, HOMIFS_ELSEWHERE a file off it."""

import array
import ctypes
import errno
import fcntl
import mmap
import os
import stat
import struct
import threading
import unittest
from pathlib import Path

import homifs

MOUNT = Path(os.environ["HOMIFS_MOUNT"])
ELSEWHERE = Path(os.environ["HOMIFS_ELSEWHERE"])
# Files of terabytes are mostly holes; their beginnings and ends are what counts.
MOST = 3 << 20


def plain(path: Path, offset: int, length: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        parts = []
        while length > 0 and (part := os.pread(file.fileno(), length, offset)):
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)


def small_files() -> list[Path]:
    found = []
    for folder in ["holes", "inline", "special", "reflinks", "times"]:
        for top, _, names in os.walk(MOUNT / folder):
            found += [Path(top, name) for name in names]
    return sorted(path for path in found if stat.S_ISREG(path.lstat().st_mode))


FILES = small_files()
LARGE = max((path for path in FILES if path.stat().st_size < 1 << 30), key=lambda path: path.stat().st_size)


class Reading(unittest.TestCase):
    def test_every_file_reads_as_pread_gives_it(self) -> None:
        self.assertGreater(len(FILES), 20)
        for path in FILES:
            size = path.stat().st_size
            with self.subTest(path=path), homifs.open(path) as file:
                self.assertEqual((file.path_served, file.why, file.size, len(file)), ("queues", "", size, size))
                for offset in (0, 1, size // 3, max(size - 4097, 0), size + 5):
                    self.assertEqual(file.read(offset, MOST), plain(path, offset, MOST))
                if size < MOST:
                    self.assertEqual(file.read(), plain(path, 0, size))

    def test_memory_of_every_kind_is_filled_and_nothing_beside_it(self) -> None:
        length = 100_000
        wanted = plain(LARGE, 7, length)
        with homifs.open(str(LARGE)) as file:
            for memory in (bytearray(length), array.array("B", bytes(length)), mmap.mmap(-1, length)):
                with self.subTest(kind=type(memory)):
                    self.assertEqual(file.read_into(memory, 7), len(wanted))
                    self.assertEqual(bytes(memory[: len(wanted)]), wanted)
            around = bytearray(b"\xaa" * (length + 2))
            self.assertEqual(file.read_into(memoryview(around)[1:-1], offset=7), len(wanted))
            self.assertEqual(bytes(around[1 : 1 + len(wanted)]), wanted)
            self.assertEqual((around[0], around[-1]), (0xAA, 0xAA))
            self.assertEqual(file.read_into(bytearray(10), file.size), 0)
            self.assertEqual(file.read_into(bytearray(0)), 0)

    def test_memory_that_cannot_be_filled_is_refused(self) -> None:
        with homifs.open(LARGE) as file:
            for memory, error in ((bytes(10), BufferError), (memoryview(bytearray(10))[::2], BufferError), (3, TypeError)):
                with self.subTest(memory=memory), self.assertRaises(error):
                    file.read_into(memory)  # type: ignore[arg-type]
            with self.assertRaises(OverflowError):
                file.read(-1)

    def test_numpy_arrays_are_filled(self) -> None:
        try:
            import numpy
        except ImportError:
            self.skipTest("numpy is not installed")
        with homifs.open(LARGE) as file:
            filled = numpy.zeros((4, 1024), dtype=numpy.uint32)
            self.assertEqual(file.read_into(filled), filled.nbytes)
            self.assertEqual(filled.tobytes(), plain(LARGE, 0, filled.nbytes))
            with self.assertRaises(BufferError):
                file.read_into(filled.T)

    def test_torch_tensors_are_filled(self) -> None:
        try:
            import torch
        except ImportError:
            self.skipTest("torch is not installed")
        with homifs.open(LARGE) as file:
            filled = torch.zeros(4096, dtype=torch.uint8)
            self.assertEqual(file.read_into(filled.numpy()), 4096)
            self.assertEqual(bytes(filled.tolist()), plain(LARGE, 0, 4096))

    def test_many_ranges_come_at_once(self) -> None:
        files = [homifs.open(path) for path in FILES]
        targets = [bytearray(min(file.size, 50_000)) for file in files]
        asked: list = [(file, 0, target) for file, target in zip(files, targets, strict=True)]
        asked += [(file, 3, 5000) for file in files]
        answers = homifs.read_many(asked)
        half = len(files)
        for path, target, count, piece in zip(FILES, targets, answers[:half], answers[half:], strict=True):
            self.assertEqual(count, len(target))
            self.assertEqual(target, plain(path, 0, len(target)))
            self.assertIsInstance(piece, bytearray)
            self.assertEqual(piece, plain(path, 3, 5000))
        self.assertEqual(homifs.read_many([]), [])
        files[0].close()
        with self.assertRaises(ValueError):
            homifs.read_many(asked)
        for file in files:
            file.close()

    def test_threads_read_at_the_same_time(self) -> None:
        wrong = []
        file = homifs.open(LARGE)

        def read(number: int) -> None:
            for turn in range(30):
                offset = (number * 7919 + turn * 104729) % file.size
                if file.read(offset, 65536) != plain(LARGE, offset, 65536):
                    wrong.append((number, turn))

        threads = [threading.Thread(target=read, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])
        file.close()

    def test_child_of_a_fork_has_a_session_of_its_own(self) -> None:
        file = homifs.open(LARGE)
        wanted = file.read(0, 5000)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with homifs.open(LARGE) as own:
                    same = own.read(0, 5000) == wanted
                try:
                    file.read(0, 10)
                except homifs.Error as error:
                    code = 0 if same and error.errno == errno.EINVAL and "fork" in error.message else 2
            finally:
                os._exit(code)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        self.assertEqual(file.read(0, 5000), wanted)
        file.close()


def dma_buf(memory: int, length: int) -> int:
    """A dma-buf over a memfd, by /dev/udmabuf; struct udmabuf_create and UDMABUF_CREATE of <linux/udmabuf.h>."""
    with open("/dev/udmabuf", "r+b", buffering=0) as device:
        return fcntl.ioctl(device, 0x40187542, struct.pack("=iIQQ", memory, 1, 0, length))


class Registering(unittest.TestCase):
    LENGTH = 1 << 20

    def memfd(self, seals: int) -> int:
        memory = os.memfd_create("buffer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.addCleanup(os.close, memory)
        os.ftruncate(memory, self.LENGTH)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
        return memory

    def test_new_memory_is_the_hosts_and_filled_by_commands(self) -> None:
        with homifs.open(LARGE) as file, homifs.Buffer(MOUNT, self.LENGTH) as buffer:
            self.assertEqual((buffer.kind, len(buffer), buffer.copy(5, 3)), ("host", self.LENGTH, bytes(3)))
            block = file.block_size
            for offset, length, at in ((0, None, 0), (block, 3 * block, 8), (file.size // block * block, None, 4096)):
                with self.subTest(offset=offset, length=length, at=at):
                    room = (self.LENGTH - at) // block * block
                    length = room if length is None else length
                    wanted = plain(LARGE, offset, length)
                    self.assertEqual(buffer.read(file, offset, length, at=at), len(wanted))
                    self.assertEqual(buffer.copy(at, len(wanted)), wanted)
            for offset, length, at in ((1, block, 0), (0, block, 2), (0, block, self.LENGTH), (0, block, self.LENGTH - 4)):
                with self.subTest(offset=offset, at=at), self.assertRaises(ValueError):
                    buffer.read(file, offset, length, at=at)
            buffer.close()
            with self.assertRaises(ValueError):
                buffer.read(file, 0, block)
            with self.assertRaises(ValueError):
                buffer.copy()

    def test_memory_that_is_no_dma_buf_is_refused_in_words(self) -> None:
        with self.assertRaises(homifs.Error) as caught:
            homifs.Buffer(MOUNT, self.LENGTH, dma_buf=self.memfd(fcntl.F_SEAL_GROW))
        self.assertEqual(caught.exception.errno, errno.EPERM)
        self.assertIn("nor a dma-buf", caught.exception.message)
        with homifs.Buffer(MOUNT, self.LENGTH, dma_buf=self.memfd(fcntl.F_SEAL_SHRINK)) as buffer:
            self.assertEqual(buffer.kind, "host")
        closed = os.dup(0)
        os.close(closed)
        with self.assertRaises(homifs.Error) as caught:
            homifs.Buffer(MOUNT, self.LENGTH, dma_buf=closed)
        self.assertEqual(caught.exception.errno, errno.EBADF)
        with self.assertRaises(homifs.Error) as caught:
            homifs.Buffer(ELSEWHERE, self.LENGTH)
        self.assertEqual(caught.exception.errno, errno.EOPNOTSUPP)

    def test_dma_buf_is_filled_or_refused_in_words(self) -> None:
        memory = self.memfd(fcntl.F_SEAL_SHRINK)
        try:
            lent = dma_buf(memory, self.LENGTH)
        except OSError as error:
            self.skipTest(f"/dev/udmabuf makes no dma-buf: {error}")
        self.addCleanup(os.close, lent)
        try:
            buffer = homifs.Buffer(MOUNT, self.LENGTH, dma_buf=lent)
        except homifs.Error as error:
            # Not with every engine can it be written to.
            self.assertEqual(error.errno, errno.EOPNOTSUPP)
            self.assertIn("register host memory", error.message)
            return
        with buffer, homifs.open(LARGE) as file:
            self.assertEqual(buffer.kind, "dma-buf")
            length = min(self.LENGTH, file.size) // file.block_size * file.block_size
            self.assertEqual(buffer.read(file, 0, length), length)
            # By the memfd that it was made of, another way to the same memory.
            self.assertEqual(os.pread(memory, length, 0), plain(LARGE, 0, length))


class Devices(unittest.TestCase):
    def test_files_of_a_snapshot_lie_in_one_tensor_on_a_device(self) -> None:
        try:
            import torch
        except ImportError:
            self.skipTest("torch is not installed")
        if not torch.cuda.is_available():
            self.skipTest("torch sees no CUDA device")
        snapshot = homifs.snapshot(LARGE.parent)
        paths = [path for path in snapshot if snapshot.size(path) < 64 << 20]
        tensor = torch.zeros(snapshot.room(paths, align=16), dtype=torch.uint8, device="cuda")
        places = snapshot.read_into(tensor, paths, align=16)
        here = tensor.cpu().numpy().tobytes()
        for path, place in zip(paths, places, strict=True):
            content = (LARGE.parent / path).read_bytes()
            self.assertEqual(here[place : place + len(content)], content)

    def test_device_memory_is_filled_or_its_absence_told(self) -> None:
        with homifs.open(LARGE) as file:
            try:
                there = file.read_cuda(3, 300_000)
            except homifs.Error as error:
                self.assertIn(error.errno, (errno.ENODEV, errno.EIO))
                self.assertRegex(error.message, "libcuda|accelerator")
                self.skipTest(f"no CUDA device: {error.message}")
            wanted = plain(LARGE, 3, 300_000)
            shown = there.__cuda_array_interface__
            self.assertEqual((len(there), shown["shape"], shown["typestr"]), (len(wanted), (len(wanted),), "|u1"))
            self.assertEqual(device_bytes(shown["data"][0], len(there)), wanted)
            # The same memory again, as an array of somebody else's.
            self.assertEqual(file.read_into(there, 5), len(there))
            self.assertEqual(device_bytes(shown["data"][0], len(there)), plain(LARGE, 5, len(there)))
            counts = homifs.read_many([(file, 9, there), (file, 1, 100)])
            self.assertEqual(counts, [len(there), plain(LARGE, 1, 100)])
            self.assertEqual(device_bytes(shown["data"][0], len(there)), plain(LARGE, 9, len(there)))
        with homifs.open(ELSEWHERE, allow_pread=True) as file:
            there = file.read_cuda()
            self.assertEqual(device_bytes(there.__cuda_array_interface__["data"][0], len(there)), file.read())

    def test_tensors_of_torch_on_a_device_are_filled(self) -> None:
        try:
            import torch
        except ImportError:
            self.skipTest("torch is not installed")
        if not torch.cuda.is_available():
            self.skipTest("torch sees no CUDA device")
        with homifs.open(LARGE) as file:
            tensor = torch.zeros(100_000, dtype=torch.uint8, device="cuda")
            self.assertEqual(file.read_into(tensor, 11), min(100_000, file.size - 11))
            self.assertEqual(bytes(tensor.cpu().tolist()), plain(LARGE, 11, 100_000))
            same = torch.as_tensor(file.read_cuda(11, 100_000), device="cuda")
            self.assertTrue(torch.equal(same, tensor))

    def test_arrays_that_cannot_be_filled_are_refused(self) -> None:
        class Shown:
            def __init__(self, **change: object) -> None:
                self.__cuda_array_interface__ = {
                    "shape": (4, 4), "typestr": "<f4", "data": (4096, False), "strides": None, "version": 3, **change
                }  # fmt: skip

        with homifs.open(LARGE) as file:
            for change, error in (
                ({"data": (4096, True)}, BufferError),
                ({"strides": (4, 16)}, BufferError),
                ({"mask": object()}, BufferError),
                ({"typestr": "?"}, ValueError),
                ({"shape": None}, ValueError),
                ({"shape": (1 << 62, 4)}, ValueError),
                # No device has this address, or there is no driver to ask.
                ({}, homifs.Error),
            ):
                with self.subTest(change=change), self.assertRaises(error):
                    file.read_into(Shown(**change))
            self.assertEqual(file.read_into(Shown(shape=(0, 4))), 0)


def device_bytes(address: int, length: int) -> bytes:
    """What a device's memory holds, by the driver itself."""
    driver = ctypes.CDLL("libcuda.so.1")
    target, context, device = ctypes.create_string_buffer(length), ctypes.c_void_p(), ctypes.c_int()
    for code in (
        driver.cuInit(0),
        driver.cuDeviceGet(ctypes.byref(device), 0),
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
        driver.cuCtxSetCurrent(context),
        driver.cuMemcpyDtoH_v2(target, ctypes.c_uint64(address), ctypes.c_size_t(length)),
    ):
        if code != 0:
            raise RuntimeError(f"CUDA says {code}")
    return target.raw


class Describing(unittest.TestCase):
    def test_extents_and_generation_are_those_of_the_attribute(self) -> None:
        for path in FILES:
            value = os.getxattr(path, "homi.extents")
            number = lambda at, size=8: int.from_bytes(value[at : at + size], "little")  # noqa: E731
            with self.subTest(path=path), homifs.open(path) as file:
                self.assertEqual(file.generation, number(24))
                extents = file.extents
                self.assertEqual(len(extents), number(48))
                for place in range(number(64)):
                    at, extent = 72 + place * 32, extents[place]
                    ours = (extent.logical, extent.physical, extent.length, extent.flags)
                    self.assertEqual(ours, (number(at), number(at + 8), number(at + 16), number(at + 24, 4)))

    def test_closed_file_tells_what_it_was_and_reads_no_more(self) -> None:
        with homifs.open(LARGE) as file:
            self.assertFalse(file.closed)
        self.assertTrue(file.closed)
        self.assertEqual((file.size, file.name), (LARGE.stat().st_size, LARGE))
        self.assertIn("closed", repr(file))
        file.close()
        for use in (file.read, lambda: file.path_served, lambda: file.extents, file.__enter__):
            with self.assertRaises(ValueError):
                use()


class Refusing(unittest.TestCase):
    def test_missing_file_is_enoent(self) -> None:
        with self.assertRaises(homifs.Error) as caught:
            homifs.open(MOUNT / "no such file")
        self.assertIsInstance(caught.exception, OSError)
        self.assertEqual((caught.exception.errno, caught.exception.nvme_status), (errno.ENOENT, 0))
        self.assertIn("open", caught.exception.message)

    def test_directory_is_refused(self) -> None:
        with self.assertRaises(homifs.Error) as caught:
            homifs.open(MOUNT)
        self.assertIn("regular", caught.exception.message)

    def test_file_elsewhere_is_refused_or_read_plainly(self) -> None:
        with self.assertRaises(homifs.Error) as caught:
            homifs.open(ELSEWHERE)
        self.assertEqual(caught.exception.errno, errno.EOPNOTSUPP)
        with homifs.open(ELSEWHERE, allow_pread=True) as file:
            self.assertEqual((file.path_served, file.generation), ("pread", None))
            self.assertIn("homifs", file.why)
            self.assertEqual(file.read(3, 1000), plain(ELSEWHERE, 3, 1000))
            with self.assertRaises(homifs.Error):
                _ = file.extents
        with homifs.open(LARGE, allow_pread=True) as file, homifs.open(ELSEWHERE, allow_pread=True) as other:
            self.assertEqual(file.path_served, "queues")
            both = homifs.read_many([(file, 5, 1000), (other, 5, 1000)])
            self.assertEqual(both, [plain(LARGE, 5, 1000), plain(ELSEWHERE, 5, 1000)])


class Snapshots(unittest.TestCase):
    def setUp(self) -> None:
        self.snapshot = homifs.Snapshot(os.environ["HOMIFS_SNAPSHOT"])

    def test_it_has_the_files_of_the_tree(self) -> None:
        paths = set(self.snapshot.paths())
        self.assertEqual(len(paths), len(self.snapshot))
        self.assertEqual(set(self.snapshot), paths)
        for path in FILES:
            inside = path.relative_to(MOUNT)
            self.assertIn(inside, paths)
            self.assertIn(str(inside), self.snapshot)
            file = self.snapshot[inside]
            self.assertEqual((file.path, file.size, file.inode), (inside, path.stat().st_size, path.stat().st_ino))
            self.assertEqual(self.snapshot.at(file.number).path, inside)
            with self.subTest(path=path), self.snapshot.open(MOUNT, inside) as opened:
                self.assertEqual(opened.generation, file.generation)
                self.assertEqual(opened.read(0, 10_000), plain(path, 0, 10_000))
        self.assertNotIn("no such file", self.snapshot)
        self.assertEqual(self.snapshot.root, Path("/"))
        self.assertIsInstance(self.snapshot.volume_uuid, bytes)
        self.assertEqual(len(self.snapshot.volume_uuid), 16)
        self.assertGreater(self.snapshot.taken, 1_700_000_000)
        self.assertEqual(self.snapshot.block_size, os.statvfs(MOUNT).f_bsize)
        self.assertGreaterEqual(self.snapshot.total_size, sum(path.stat().st_size for path in FILES))
        with self.assertRaises(KeyError):
            _ = self.snapshot["no such file"]
        with self.assertRaises(IndexError):
            self.snapshot.at(len(self.snapshot))

    def test_its_extents_are_those_of_the_file(self) -> None:
        for path in FILES:
            if path.stat().st_size % self.snapshot.block_size:
                continue
            with self.subTest(path=path), homifs.open(path) as file:
                block = self.snapshot.block_size
                end = -(-file.size // block) * block
                within = [extent for extent in file.extents if extent.logical + extent.length <= end]
                self.assertEqual(self.snapshot.extents(path.relative_to(MOUNT))[: len(within)], within)

    def test_what_is_no_arena_is_refused(self) -> None:
        with self.assertRaises(homifs.Error) as caught:
            homifs.Snapshot(ELSEWHERE)
        self.assertEqual(caught.exception.errno, errno.EINVAL)


class MountSnapshots(unittest.TestCase):
    def test_every_file_reads_through_it_as_read_gives_it(self) -> None:
        directory = LARGE.parent
        snapshot = homifs.snapshot(directory)
        paths = snapshot.paths()
        there = [path.relative_to(directory) for path in FILES if path.is_relative_to(directory)]
        self.assertEqual(set(there), set(paths))
        self.assertEqual((snapshot.path_served, snapshot.left_out, snapshot.held), ("queues", 0, True))
        self.assertEqual((len(snapshot), set(snapshot)), (len(paths), set(paths)))
        self.assertEqual(snapshot.total_size, sum(snapshot.sizes()))
        small = [path for path, size in zip(paths, snapshot.sizes(), strict=True) if size < MOST]
        self.assertTrue(small)
        for path in small:
            self.assertEqual(snapshot.size(path), (directory / path).stat().st_size)
            self.assertEqual(snapshot.read(str(path)), (directory / path).read_bytes())

    def test_files_lie_in_one_memory_with_nothing_written_between(self) -> None:
        directory = LARGE.parent
        snapshot = homifs.snapshot(str(directory))
        small = [path for path, size in zip(snapshot.paths(), snapshot.sizes(), strict=True) if size < MOST]
        for align in (1, 64):
            room = snapshot.room(small, align=align)
            memory = bytearray(b"\xaa" * (room + 3))
            places = snapshot.read_into(memory, small, align=align)
            expected = bytearray(b"\xaa" * (room + 3))
            for path, place in zip(small, places, strict=True):
                self.assertEqual(place % align, 0)
                content = (directory / path).read_bytes()
                expected[place : place + len(content)] = content
            self.assertEqual(memory, expected)
        self.assertEqual(snapshot.read_into(bytearray(), []), [])

    def test_what_cannot_be_is_refused(self) -> None:
        snapshot = homifs.snapshot(MOUNT / "times")
        some = next(path for path in snapshot if snapshot.size(path) > 0)
        for call, error in (
            (lambda: snapshot.read("no such file"), KeyError),
            (lambda: snapshot.read_into(bytearray(), [some]), ValueError),
            (lambda: snapshot.read_into(bytearray(10), [some], align=0), ValueError),
            (lambda: homifs.snapshot(LARGE), homifs.Error),
            (lambda: homifs.snapshot(ELSEWHERE.parent), homifs.Error),
        ):
            with self.assertRaises(error):
                call()


if __name__ == "__main__":
    unittest.main()
