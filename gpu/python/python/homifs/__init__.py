"""Reads files of homifs mounts by NVMe queues, into any memory.

    import homifs
    with homifs.open("/mnt/data/train.bin") as file:
        file.path_served                    # "queues"
        file.read_into(numpy_array)         # or a bytearray, a memoryview, a torch tensor's .numpy(),
                                            # or an array of CuPy or PyTorch on a CUDA device

docs/CLIENTS.md of the project tells the rest.
"""

from ._homifs import CudaBytes, Error, Extent, File, Snapshot, SnapshotFile, open, read_many

__all__ = ["CudaBytes", "Error", "Extent", "File", "Snapshot", "SnapshotFile", "open", "read_many"]
