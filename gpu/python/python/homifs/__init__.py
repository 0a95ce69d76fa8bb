"""Reads files of homifs mounts by NVMe queues, into any memory.

    import homifs
    with homifs.open("/mnt/data/train.bin") as file:
        file.path_served                    # "queues"
        file.read_into(numpy_array)         # or a bytearray, a memoryview, a torch tensor's .numpy(),
                                            # or an array of CuPy or PyTorch on a CUDA device
    files = homifs.snapshot("/mnt/data/images")     # all of them, none is opened
    places = files.read_into(tensor, files.paths())

docs/CLIENTS.md of the project tells the rest.
"""

from ._homifs import (
    Buffer,
    CudaBytes,
    Error,
    Extent,
    File,
    MountSnapshot,
    Snapshot,
    SnapshotFile,
    open,
    read_many,
    snapshot,
)

__all__ = [
    "Buffer", "CudaBytes", "Error", "Extent", "File", "MountSnapshot", "Snapshot", "SnapshotFile", "open", "read_many",
    "snapshot"
]  # fmt: skip
