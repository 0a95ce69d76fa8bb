import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Protocol, final

# In the typeshed for every version; collections.abc has it from 3.12 on.
from typing_extensions import Buffer as _Memory

__all__ = [
    "Buffer", "CudaBytes", "Error", "Extent", "File", "MountSnapshot", "Snapshot", "SnapshotFile", "open", "read_many",
    "snapshot"
]  # fmt: skip

_StrPath = str | os.PathLike[str]

class _CudaArray(Protocol):
    """What CuPy, Numba and PyTorch have on a CUDA device."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...

class Error(OSError):
    """What went wrong: errno and strerror as of OSError."""

    nvme_status: int
    """The status field of the NVMe command that failed, without its phase: code in bits 0 to 7, type in bits 8 to 10,
    "do not retry" in bit 14. 0 where it was no command that failed."""
    message: str
    """A sentence: what, why and what to do."""

@final
class Extent:
    """A contiguous piece of a file. All in bytes."""

    UNWRITTEN: ClassVar[int]
    """In flags: allocated, never written; reads as zeros, the media holds old bytes."""
    INLINE: ClassVar[int]
    """In flags: kept within metadata; read it through the file."""
    SHARED: ClassVar[int]
    """In flags: other files share these blocks; never write them."""
    ENCODED: ClassVar[int]
    """In flags: the media's bytes are not the file's; read it through the file."""

    @property
    def logical(self) -> int:
        """First byte within the file."""
    @property
    def physical(self) -> int:
        """First byte on the volume."""
    @property
    def length(self) -> int:
        """Not 0. The last one may reach past the end of the file."""
    @property
    def flags(self) -> int:
        """0 is written data that lies on the media as the file has it."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class File:
    """A file that is read by queues, or by pread(2) where that was allowed. Threads may share it."""

    @property
    def size(self) -> int:
        """Bytes of the file when it was opened."""
    @property
    def block_size(self) -> int:
        """Bytes of a block."""
    @property
    def generation(self) -> int | None:
        """The generation of the file when it was opened; None where it lies on no mount of homifs."""
    @property
    def name(self) -> Path:
        """The path that it was opened by."""
    @property
    def path_served(self) -> Literal["queues", "pread"]:
        """Which path serves it."""
    @property
    def why(self) -> str:
        """Why queues do not serve it; "" where they do."""
    @property
    def extents(self) -> list[Extent]:
        """Where its bytes lie now, sorted; what no extent covers is a hole. Asks the daemon each time."""
    @property
    def closed(self) -> bool: ...
    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Reads bytes, fewer than asked for only at the file's end; all from the offset on where no length is given."""
    def read_into(self, buffer: _Memory | _CudaArray, offset: int = 0) -> int:
        """Fills contiguous, writable memory; how many bytes there were, fewer than it holds only at the file's end."""
    def read_cuda(self, offset: int = 0, length: int | None = None, *, device: int = 0) -> CudaBytes:
        """As read, into new memory of a CUDA device. Error with ENODEV where there is no CUDA driver."""
    def close(self) -> None: ...
    def __enter__(self) -> File: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def __len__(self) -> int: ...

def open(path: _StrPath, *, allow_pread: bool = False) -> File:
    """Opens a file for reading. What queues cannot serve is refused with Error, or, with allow_pread, read by pread(2)."""

def read_many(ranges: Iterable[tuple[File, int, int | _Memory | _CudaArray]]) -> list[bytearray | int]:
    """Reads ranges of files at once.

    A range is (file, offset, length), which gives a bytearray, or (file, offset, buffer), which fills the buffer and gives
    the number of bytes. No two buffers may overlap. Raises Error for the first range that failed."""

def snapshot(directory: _StrPath) -> MountSnapshot:
    """Takes a snapshot of all regular files below a directory of a mount, as far as they may be read.

    From then on none of them has to be opened: all are read through one namespace. Error with EDQUOT where the tree is larger
    than the mount's option client_snapshots allows."""

@final
class MountSnapshot:
    """All files of a directory of a mount, as they were when the snapshot was taken: paths relative to the directory."""

    @property
    def directory(self) -> Path:
        """The directory that it was taken of."""
    @property
    def path_served(self) -> Literal["queues"]:
        """Which path serves it: nothing but queues does."""
    @property
    def total_size(self) -> int:
        """Bytes of all files together."""
    @property
    def left_out(self) -> int:
        """Files and directories that are left out, since they may not be read or are damaged."""
    @property
    def held(self) -> bool:
        """Whether nothing was taken back; reading what was raises Error with ESTALE."""
    def paths(self) -> list[Path]:
        """The paths of all files, in the snapshot's order."""
    def sizes(self) -> list[int]:
        """Bytes of all files, in the same order."""
    def size(self, path: _StrPath) -> int:
        """Bytes of a file. KeyError where there is no such file."""
    def room(self, paths: Iterable[_StrPath], *, align: int = 1) -> int:
        """Bytes of memory that read_into needs for these files."""
    def read(self, path: _StrPath) -> bytes:
        """All bytes of a file."""
    def read_into(self, buffer: _Memory | _CudaArray, paths: Iterable[_StrPath], *, align: int = 1) -> list[int]:
        """Reads whole files into one memory, each at a multiple of align behind the one before; where each begins.

        ValueError where the memory is too small for them; Error for the first file that failed."""
    def __len__(self) -> int: ...
    def __contains__(self, path: _StrPath, /) -> bool: ...
    def __iter__(self) -> Iterator[Path]: ...

@final
class CudaBytes:
    """Bytes in the memory of a CUDA device, freed with this: cupy.asarray and torch.as_tensor take it."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...
    @property
    def device(self) -> int:
        """The device's number."""
    def __len__(self) -> int: ...

@final
class Buffer:
    """Memory that commands write to with no copy between: new memory of the host's, or, by its descriptor, a dma-buf, which
    may be an accelerator's own. The descriptor stays the caller's.

    Error with EOPNOTSUPP where the daemon's engine cannot write to a dma-buf; its sentence tells what to do instead. Error
    with EPERM where the descriptor is that of memory that could become shorter, or of no memory at all."""

    def __new__(cls, mount: _StrPath, length: int, *, dma_buf: int | None = None) -> Buffer: ...
    @property
    def kind(self) -> Literal["dma-buf", "host"]:
        """What commands write to."""
    def read(self, file: File, offset: int = 0, length: int | None = None, *, at: int = 0) -> int:
        """Fills the memory from byte at on, a multiple of 4, with bytes of a file from a multiple of its block size on; how
        many there were. Whole blocks are written; what they have behind the file's end are zeros."""
    def copy(self, at: int = 0, length: int | None = None) -> bytes:
        """A copy of its bytes, as this process sees them: to show an accelerator's memory, ask the accelerator."""
    def close(self) -> None:
        """Gives it back; nothing writes there any more when this returns."""
    def __enter__(self) -> Buffer: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def __len__(self) -> int: ...

@final
class Snapshot:
    """The files of a tree as `homifs snapshot` wrote them: paths relative to its root."""

    def __new__(cls, arena: _StrPath) -> Snapshot: ...
    @property
    def root(self) -> Path:
        """The path of the snapshot's root on the volume, from / on."""
    @property
    def block_size(self) -> int: ...
    @property
    def total_size(self) -> int:
        """Bytes of all files together."""
    @property
    def taken(self) -> int:
        """When it was taken, in seconds since 1970."""
    @property
    def volume_uuid(self) -> bytes: ...
    def paths(self) -> list[Path]:
        """The paths of all files, in the snapshot's order."""
    def at(self, number: int) -> SnapshotFile:
        """The file with this number."""
    def extents(self, path: _StrPath) -> list[Extent]:
        """Where the bytes of a file lie. KeyError where there is no such file."""
    def open(self, mount: _StrPath, path: _StrPath, *, allow_pread: bool = False) -> File:
        """Opens a file on a mount of the snapshot's volume. Error with ESTALE where it is another file by now."""
    def __len__(self) -> int: ...
    def __contains__(self, path: _StrPath, /) -> bool: ...
    def __getitem__(self, path: _StrPath, /) -> SnapshotFile: ...
    def __iter__(self) -> Iterator[Path]: ...

@final
class SnapshotFile:
    """A file of a snapshot."""

    @property
    def number(self) -> int: ...
    @property
    def path(self) -> Path: ...
    @property
    def size(self) -> int: ...
    @property
    def generation(self) -> int: ...
    @property
    def inode(self) -> int: ...
    @property
    def first_block(self) -> int:
        """Where it begins in the namespace of all files, in blocks."""
    @property
    def flags(self) -> int:
        """Those of all its extents."""
