/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `cargo run -p homifs-c --example homifs_header`; do not edit. */
#ifndef HOMIFS_H
#define HOMIFS_H

#include <stdint.h>

/*
 * libhomifs: reading files of a homifs mount by NVMe queues, from C. docs/CLIENTS.md shows how.
 *
 * - What a function makes is the caller's, until it is given to the function that ends it, once.
 * - Functions that can fail return 0 or a count, or an errno with a minus sign; homifs_last_error() then has the NVMe
 *   status and a sentence. A null pointer where there must be none is EINVAL.
 * - All offsets and lengths are bytes. Targets may be any memory of the process that can be written.
 * - Every function may be called by any thread; a thing must not be ended while another thread uses it.
 * - A session is this process's: after fork(2) only the parent may use it.
 */

#ifdef __cplusplus
extern "C" {
#endif

typedef struct homifs_session homifs_session;
typedef struct homifs_file homifs_file;
typedef struct homifs_buffer homifs_buffer;
typedef struct homifs_queues homifs_queues;
typedef struct homifs_snapshot homifs_snapshot;

/* The version of this header; compare it with homifs_api_version(). */
#define HOMIFS_API_VERSION 2u
/* In flags of homifs_session_open: what queues cannot serve is read by pread(2), and homifs_why tells why. */
#define HOMIFS_ALLOW_PREAD 1u
/* In homifs_description.flags: queues serve the file. */
#define HOMIFS_FILE_BY_QUEUES 1u
/* In homifs_description.flags: the generation is known. */
#define HOMIFS_FILE_HAS_GENERATION 2u
/* In homifs_extent.flags: allocated, never written; reads as zeros, the media holds old bytes. */
#define HOMIFS_EXTENT_UNWRITTEN 1u
/* In homifs_extent.flags: kept within metadata; read it through the file. */
#define HOMIFS_EXTENT_INLINE 2u
/* In homifs_extent.flags: other files share these blocks; never write them. */
#define HOMIFS_EXTENT_SHARED 4u
/* In homifs_extent.flags: the media's bytes are not the file's; read it through the file. */
#define HOMIFS_EXTENT_ENCODED 8u
/* In homifs_buffer_memory.kind: memory of the host. */
#define HOMIFS_BUFFER_HOST 1u
/* In homifs_buffer_memory.kind: memory behind a dma-buf, which the daemon's processor writes. */
#define HOMIFS_BUFFER_DMABUF 2u

/* What went wrong. */
struct homifs_error {
    /* As errno(3) has it, without a sign; 0 where nothing went wrong yet. */
    int number;
    /* Where an NVMe command failed, its status field without the phase: code in bits 0 to 7, type in bits 8 to 10,
     * "do not retry" in bit 14. 0 where it was no command that failed. */
    uint32_t nvme_status;
    /* A sentence: what, why and what to do. Never null. */
    const char *message;
};

/* What the daemon allows one session. */
struct homifs_limits {
    /* Most bytes of buffers, all together. */
    uint64_t buffer_bytes;
    /* Most buffers. Each thread that reads at the same time takes one, and one queue pair, for the library. */
    uint32_t buffers;
    /* Most queue pairs, all together. */
    uint32_t queues;
    /* Most entries of one queue. */
    uint32_t entries;
    /* Most files that queues serve at a time. */
    uint32_t files;
    /* Most bytes that one command brings. */
    uint32_t transfer;
    /* What lengths of buffers are multiples of. */
    uint32_t page;
};

/* A file as it was when it was opened. */
struct homifs_description {
    /* Bytes of the file. */
    uint64_t size;
    /* Changes when the inode is another file; 0 without HOMIFS_FILE_HAS_GENERATION. */
    uint64_t generation;
    /* Bytes of a block. */
    uint32_t block_size;
    /* HOMIFS_FILE_*. */
    uint32_t flags;
    /* The namespace that commands name it by, for those who fill queues; 0 without HOMIFS_FILE_BY_QUEUES. */
    uint32_t nsid;
    /* Bits of the namespace's block size; 0 without HOMIFS_FILE_BY_QUEUES. */
    uint32_t block_shift;
    /* A word that the daemon changes when it takes the blocks back; it can only be read, until the file is closed.
     * Null without HOMIFS_FILE_BY_QUEUES. */
    const uint64_t *lease;
};

/* A contiguous piece of a file. All in bytes. */
struct homifs_extent {
    /* First byte within the file. */
    uint64_t logical;
    /* First byte on the volume; the byte of the device is homifs_extent_map.volume_start more. */
    uint64_t physical;
    /* Length, not 0. The last one may reach past the end of the file. */
    uint64_t length;
    /* HOMIFS_EXTENT_*; 0 is written data that lies on the media as the file has it. */
    uint32_t flags;
    /* 0. */
    uint32_t reserved;
};

/* What belongs to all extents of a file. */
struct homifs_extent_map {
    /* The generation of the file that the map belongs to. */
    uint64_t generation;
    /* Bytes of the file. */
    uint64_t file_size;
    /* Byte of the device where the volume starts. */
    uint64_t volume_start;
    /* Extents that the file has; as many were written as there was room for. */
    uint64_t total;
    /* Bytes of a block of the file system. */
    uint32_t block_size;
    /* 0. */
    uint32_t reserved;
};

/* A range of a file, where it goes, and what came of it. */
struct homifs_range {
    /* The file, of the session that reads. */
    const homifs_file *file;
    /* First byte in the file. */
    uint64_t offset;
    /* Bytes. */
    uint64_t length;
    /* Where they go. */
    void *target;
    /* Set by the call: how many bytes there were, fewer than asked for only at the file's end; or an errno with a
     * minus sign. */
    int64_t result;
    /* Set by the call: as homifs_error.nvme_status. */
    uint32_t nvme_status;
    /* 0. */
    uint32_t reserved;
};

/* A snapshot, and what an accelerator needs to read its files (gpu/device/include/homi/snapshot.h). It can only be
 * read, until the snapshot is closed. */
struct homifs_snapshot_memory {
    /* The arena (homi_snapshot.h) where it lies in this process. */
    const void *arena;
    /* Bytes of it. */
    uint64_t arena_length;
    /* Files in it; their numbers are 0 to files - 1. */
    uint64_t files;
    /* Bytes of all files together. */
    uint64_t bytes;
    /* Files and directories that are left out, since the caller may not read them or they are damaged. */
    uint64_t left_out;
    /* Bytes of the namespace that has all files. */
    uint64_t size;
    /* A word that the daemon changes when it takes blocks of the namespace back. */
    const uint64_t *lease;
    /* The namespace that commands name it by. */
    uint32_t nsid;
    /* Bits of the namespace's block size. */
    uint32_t block_shift;
};

/* A file of a snapshot. */
struct homifs_snapshot_entry {
    /* Its path, relative to the snapshot's root; it is there as long as the snapshot, and no NUL ends it for certain. */
    const char *path;
    /* Bytes of the path. */
    uint64_t path_length;
    /* Bytes of the file. */
    uint64_t size;
    /* Its inode. */
    uint64_t inode;
    /* The byte of the namespace at which it begins. */
    uint64_t start;
    /* The generation of the inode. */
    uint32_t generation;
    /* HOMIFS_EXTENT_* of any of its extents. */
    uint32_t flags;
};

/* A range of a file of a snapshot, where it goes, and what came of it. */
struct homifs_snapshot_range {
    /* The file's number. */
    uint64_t number;
    /* First byte in the file. */
    uint64_t offset;
    /* Bytes. */
    uint64_t length;
    /* Where they go. */
    void *target;
    /* Set by the call: how many bytes there were, fewer than asked for only at the file's end; or an errno with a
     * minus sign. */
    int64_t result;
    /* Set by the call: as homifs_error.nvme_status. */
    uint32_t nvme_status;
    /* 0. */
    uint32_t reserved;
};

/* Memory that commands may name. Whole pages, shared with the daemon: cuMemHostRegister takes it. */
struct homifs_buffer_memory {
    /* Where it lies in this process. */
    void *address;
    /* Bytes, at least as many as asked for. */
    uint64_t length;
    /* Its first byte as commands name it. */
    uint64_t iova;
    /* HOMIFS_BUFFER_*: what commands write to. */
    uint32_t kind;
    /* 0. */
    uint32_t reserved;
};

/* Where queue pairs lie. The accelerator writes entries and doorbells and polls completions by itself
 * (gpu/device/include/homi/queue.h); both memories are whole pages that cuMemHostRegister takes. */
struct homifs_queue_memory {
    /* The queues. */
    void *queues;
    /* Bytes of them. */
    uint64_t queues_length;
    /* The doorbells: 32-bit words, each alone in 128 bytes. */
    void *doorbells;
    /* Bytes of them. */
    uint64_t doorbells_length;
    /* From one pair to the next in the queues' memory. */
    uint64_t stride;
    /* The submission queue from the start of its pair: entries times 64 bytes. */
    uint64_t submissions;
    /* The completion queue from the start of its pair: entries times 16 bytes. */
    uint64_t completions;
    /* From one pair to the next in the doorbells' memory. */
    uint64_t doorbell_stride;
    /* The tail doorbell of the first pair in the doorbells' memory. */
    uint64_t tail_doorbell;
    /* The head doorbell of the first pair in the doorbells' memory. */
    uint64_t head_doorbell;
    /* Not 0 while the daemon sleeps; it can only be read. Who rings then calls homifs_session_wake, or has the daemon
     * look by itself a millisecond later. */
    const uint32_t *asleep;
    /* How many pairs there are. */
    uint32_t pairs;
    /* Entries of each queue. */
    uint32_t entries;
};

/* HOMIFS_API_VERSION of the library that is running. */
uint32_t homifs_api_version(void);

/* What the last function of this library that failed on this thread failed from. Never null. It is there until the
 * next one fails on this thread. */
const struct homifs_error *homifs_last_error(void);

/* Begins a session with the daemon of the mount that `path` lies on; any file or directory of it will do. Threads
 * may share a session. Ends with homifs_session_close. 0, or an errno with a minus sign: EOPNOTSUPP where the mount
 * serves no queues and HOMIFS_ALLOW_PREAD was not given. */
int homifs_session_open(const char *path, uint32_t flags, homifs_session **session);

/* As homifs_session_open, for the mount that an open file or directory lies on. The descriptor stays the caller's. */
int homifs_session_open_fd(int fd, uint32_t flags, homifs_session **session);

/* Which path serves files of this session unless they say otherwise: "queues" or "pread". Null where session is. */
const char *homifs_session_served_by(const homifs_session *session);

/* Why there are no queues; "" where there are. It is there as long as the session. */
const char *homifs_session_why(const homifs_session *session);

/* What the daemon allows. EOPNOTSUPP where the session has no queues. */
int homifs_session_limits(const homifs_session *session, struct homifs_limits *limits);

/* Wakes the daemon, for those who rang a doorbell while *homifs_queue_memory.asleep was not 0. */
int homifs_session_wake(const homifs_session *session);

/* Ends a session. What was made of it goes on until it is closed, too; the daemon keeps the session as long. Null is
 * nothing. */
void homifs_session_close(homifs_session *session);

/* Opens a file for reading. The path is relative to the working directory, not to the mount. Threads may share a
 * file. Ends with homifs_close. 0, or an errno with a minus sign. */
int homifs_open(const homifs_session *session, const char *path, homifs_file **file);

/* As homifs_open, for a file that is open for reading already. The descriptor stays the caller's. */
int homifs_open_fd(const homifs_session *session, int fd, homifs_file **file);

/* Bytes of the file when it was opened; or an errno with a minus sign. */
int64_t homifs_size(const homifs_file *file);

/* Bytes of a block of the file; or an errno with a minus sign. */
int64_t homifs_block_size(const homifs_file *file);

/* All that is known of a file. 0, or an errno with a minus sign. */
int homifs_describe(const homifs_file *file, struct homifs_description *description);

/* Which path serves the file: "queues" or "pread". One that queues served is served by pread(2) after its blocks were
 * taken back, in a session with HOMIFS_ALLOW_PREAD. Null where file is. */
const char *homifs_served_by(const homifs_file *file);

/* Why queues do not serve the file; "" where they do. It is there as long as the file. Null where file is. */
const char *homifs_why(const homifs_file *file);

/* Where the bytes of a file lie now: the map, where map is not null, and the first `room` extents, sorted by logical,
 * without overlap; what none covers is a hole. How many extents the file has, which may be more than `room`; or an
 * errno with a minus sign. The file must lie on a mount of homifs. */
int64_t homifs_extents(const homifs_file *file, struct homifs_extent_map *map, struct homifs_extent *extents, uint64_t room);

/* Closes a file, which no call and no command may be using. Null is nothing. */
void homifs_close(homifs_file *file);

/* Reads `length` bytes from byte `offset` of a file on into the caller's memory; any offset and length will do. How
 * many bytes there were, fewer than asked for only at the file's end; or an errno with a minus sign, and what the
 * target holds then is not said. Waits until it is done; threads may call it at the same time. */
int64_t homifs_read(const homifs_file *file, void *target, uint64_t length, uint64_t offset);

/* Reads many ranges at once; queues are told of as many commands as they have room for together. No two targets may
 * overlap. 0 where each range went well, else the errno of the first that did not, with a minus sign; each range has
 * its own result. Where the ranges themselves cannot be (a null file, a null target), none is read. */
int homifs_read_many(const homifs_session *session, struct homifs_range *ranges, uint64_t count);

/* Takes a snapshot of all regular files below a directory, as far as the caller may read them: from then on none of
 * them has to be opened. The path is relative to the working directory. Ends with homifs_snapshot_close. 0, or an errno
 * with a minus sign: EOPNOTSUPP where the session has no queues, EDQUOT where the tree is larger than the mount's
 * option client_snapshots allows. */
int homifs_snapshot_open(const homifs_session *session, const char *path, homifs_snapshot **snapshot);

/* As homifs_snapshot_open, for a directory that is open. The descriptor stays the caller's. */
int homifs_snapshot_open_fd(const homifs_session *session, int fd, homifs_snapshot **snapshot);

/* What is known of all files together. 0, or an errno with a minus sign. */
int homifs_snapshot_describe(const homifs_snapshot *snapshot, struct homifs_snapshot_memory *memory);

/* The number of the file with this path, relative to the snapshot's root, without a slash at either end. -ENOENT where
 * there is none. */
int64_t homifs_snapshot_find(const homifs_snapshot *snapshot, const char *path);

/* What is known of a file. 0, or an errno with a minus sign. */
int homifs_snapshot_file(const homifs_snapshot *snapshot, uint64_t number, struct homifs_snapshot_entry *entry);

/* Reads many ranges of files of a snapshot by commands that are told of together, through the one namespace that has
 * all of them. No two targets may overlap. 0 where each range went well, else the errno of the first that did not, with
 * a minus sign; each range has its own result: -ESTALE where a file was taken back. */
int homifs_snapshot_read_many(const homifs_snapshot *snapshot, struct homifs_snapshot_range *ranges, uint64_t count);

/* Closes a snapshot, which no call and no command may be using. Null is nothing. */
void homifs_snapshot_close(homifs_snapshot *snapshot);

/* Makes memory of at least `length` bytes, zeroed, that commands may name, and tells where it lies. Ends with
 * homifs_buffer_release. 0, or an errno with a minus sign. */
int homifs_buffer_new(const homifs_session *session, uint64_t length, homifs_buffer **buffer, struct homifs_buffer_memory *place);

/* As homifs_buffer_new, for the first `length` bytes of a dma-buf: memory of an accelerator's own, for example
 * (cuMemGetHandleForAddressRange). The descriptor stays the caller's. EOPNOTSUPP where the daemon's engine cannot write
 * there; commands write to host memory then, and accelerators copy on. */
int homifs_buffer_of_dma_buf(const homifs_session *session, int fd, uint64_t length, homifs_buffer **buffer, struct homifs_buffer_memory *place);

/* Gives memory back once no command reaches it any more; its addresses are nobody's then. Accelerators must have let
 * go of it. Null is nothing. */
void homifs_buffer_release(homifs_buffer *buffer);

/* Makes `pairs` queue pairs of `entries` entries each, a power of two from 2 on, and tells where they lie. All are the
 * caller's; the library reads by others. Ends with homifs_queues_release. 0, or an errno with a minus sign. */
int homifs_queues_new(const homifs_session *session, uint32_t pairs, uint32_t entries, homifs_queues **queues, struct homifs_queue_memory *place);

/* Lets go of queue pairs: their addresses are nobody's then. The daemon keeps the pairs until the session ends, and
 * counts them. Null is nothing. */
void homifs_queues_release(homifs_queues *queues);

#ifdef __cplusplus
}
#endif

#endif
