"""Reads files of homifs mounts by NVMe queues, into any memory.

    import homifs
    with homifs.open("/mnt/data/train.bin") as file:
        file.path_served                    # "queues"
        file.read_into(numpy_array)         # or a bytearray, a memoryview, a torch tensor's .numpy()

docs/CLIENTS.md of the project tells the rest.
"""

from ._homifs import Error, Extent, File, Snapshot, SnapshotFile, open, read_many

__all__ = ["Error", "Extent", "File", "Snapshot", "SnapshotFile", "open", "read_many"]
