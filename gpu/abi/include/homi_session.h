/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `cargo run -p homi-abi --example c_header`; do not edit. */
#ifndef HOMI_SESSION_H
#define HOMI_SESSION_H

#include <stddef.h>
#include <stdint.h>

/*
 * What a client and the daemon say on the socket, version 1: packets (SOCK_SEQPACKET) of a homi_message
 * and what belongs to its kind. All numbers are little-endian.
 */

/* In message.version. */
#define HOMI_SESSION_VERSION 1u
/* Longest message in bytes. */
#define HOMI_MESSAGE_MAX 4096u
/* In handle.rights: for writing, too. */
#define HOMI_HANDLE_WRITE 1u
/* The first request; answered with a homi_welcome. */
#define HOMI_KIND_HELLO 1u
/* homi_queues_request; answered with homi_queues. */
#define HOMI_KIND_QUEUES 2u
/* homi_buffer_request; answered with homi_buffer. */
#define HOMI_KIND_BUFFER 3u
/* homi_buffer; answered when no command uses it. */
#define HOMI_KIND_RELEASE 4u
/* homi_handle; answered with homi_file. */
#define HOMI_KIND_OPEN 5u
/* homi_close_request; answered when none is in flight. */
#define HOMI_KIND_CLOSE 6u
/* homi_handle of a directory; answered with homi_snapshot_reply. */
#define HOMI_KIND_SNAPSHOT 7u
/* homi_identify_request; answered with homi_identify. */
#define HOMI_KIND_IDENTIFY 8u
/* In welcome.flags: SGL data block descriptors work. */
#define HOMI_WELCOME_SGL 1u
/* In buffer.kind: memory of the host. */
#define HOMI_BUFFER_HOST 1u
/* In buffer.kind: memory behind a dma-buf, which the daemon's processor writes. */
#define HOMI_BUFFER_DMABUF 2u
/* In queues.flags: the daemon checks each command. */
#define HOMI_QUEUES_MEDIATED 1u
/* In file.flags: the file may be written. */
#define HOMI_FILE_WRITABLE 1u
/* In status.state: all is well. */
#define HOMI_STATE_SERVING 1u
/* In status.state: the mount is going away. */
#define HOMI_STATE_ENDING 2u
/* Bits of a lease word that say what it is. */
#define HOMI_LEASE_STATE 255u
/* No file has this slot. */
#define HOMI_LEASE_FREE 0u
/* The blocks are the file's. */
#define HOMI_LEASE_HELD 1u
/* Taken back. */
#define HOMI_LEASE_REVOKED 2u

/* What stands before every request and every answer. */
struct homi_message {
    /* "homi". */
    uint8_t magic[4];
    /* 1 for what is described here. The daemon refuses others. */
    uint16_t version;
    /* HOMI_KIND_*. */
    uint16_t kind;
    /* Bytes of the whole message, this header included. */
    uint32_t length;
    /* In an answer: 0, or why the request was refused, as errno(3). In a request: 0. */
    uint32_t error;
    /* The client's number for the request; the answer has the same. */
    uint64_t id;
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_message) == 24, "size of homi_message");
HOMI_ASSERT(offsetof(struct homi_message, magic) == 0, "place of homi_message.magic");
HOMI_ASSERT(offsetof(struct homi_message, version) == 4, "place of homi_message.version");
HOMI_ASSERT(offsetof(struct homi_message, kind) == 6, "place of homi_message.kind");
HOMI_ASSERT(offsetof(struct homi_message, length) == 8, "place of homi_message.length");
HOMI_ASSERT(offsetof(struct homi_message, error) == 12, "place of homi_message.error");
HOMI_ASSERT(offsetof(struct homi_message, id) == 16, "place of homi_message.id");
#undef HOMI_ASSERT

/* The answer to HOMI_KIND_HELLO, which is the first request. With it come two descriptors: the status page, for
 * reading only, and an eventfd that wakes the daemon. */
struct homi_welcome {
    /* The daemon's number for this client, as statistics and logs show it. */
    uint64_t client;
    /* Bytes of the status page: a homi_status, then `lease_slots` lease words of 8 bytes each. Sixteen of them share
     * 128 bytes, so they are for a look now and then by one reader, not for polling by many: commands on what was
     * taken back fail by themselves. */
    uint64_t status_length;
    /* Most bytes that may be registered as buffers, all together. */
    uint64_t max_buffer_bytes;
    /* Most buffers. */
    uint32_t max_buffers;
    /* Most queue pairs, all together. */
    uint32_t max_queues;
    /* Most entries of one queue. */
    uint32_t max_entries;
    /* Most files open at a time; as many lease words there are. */
    uint32_t lease_slots;
    /* Longest transfer of one command in bytes. */
    uint32_t max_transfer;
    /* What addresses and lengths of buffers must be multiples of. */
    uint32_t page_size;
    /* HOMI_WELCOME_*. */
    uint32_t flags;
    /* 0. */
    uint32_t reserved[3];
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_welcome) == 64, "size of homi_welcome");
HOMI_ASSERT(offsetof(struct homi_welcome, client) == 0, "place of homi_welcome.client");
HOMI_ASSERT(offsetof(struct homi_welcome, status_length) == 8, "place of homi_welcome.status_length");
HOMI_ASSERT(offsetof(struct homi_welcome, max_buffer_bytes) == 16, "place of homi_welcome.max_buffer_bytes");
HOMI_ASSERT(offsetof(struct homi_welcome, max_buffers) == 24, "place of homi_welcome.max_buffers");
HOMI_ASSERT(offsetof(struct homi_welcome, max_queues) == 28, "place of homi_welcome.max_queues");
HOMI_ASSERT(offsetof(struct homi_welcome, max_entries) == 32, "place of homi_welcome.max_entries");
HOMI_ASSERT(offsetof(struct homi_welcome, lease_slots) == 36, "place of homi_welcome.lease_slots");
HOMI_ASSERT(offsetof(struct homi_welcome, max_transfer) == 40, "place of homi_welcome.max_transfer");
HOMI_ASSERT(offsetof(struct homi_welcome, page_size) == 44, "place of homi_welcome.page_size");
HOMI_ASSERT(offsetof(struct homi_welcome, flags) == 48, "place of homi_welcome.flags");
HOMI_ASSERT(offsetof(struct homi_welcome, reserved) == 52, "place of homi_welcome.reserved");
#undef HOMI_ASSERT

/* HOMI_KIND_QUEUES: asks for queue pairs. */
struct homi_queues_request {
    /* How many. */
    uint32_t count;
    /* Entries of each queue, a power of two from 2 on. */
    uint32_t entries;
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_queues_request) == 8, "size of homi_queues_request");
HOMI_ASSERT(offsetof(struct homi_queues_request, count) == 0, "place of homi_queues_request.count");
HOMI_ASSERT(offsetof(struct homi_queues_request, entries) == 4, "place of homi_queues_request.entries");
#undef HOMI_ASSERT

/* The answer to HOMI_KIND_QUEUES. With it come two descriptors: the memory of the queues, and that of the doorbells,
 * both zeroed. Every word that somebody polls stands alone in its 128 bytes. */
struct homi_queues {
    /* Number of the first pair; the others follow. */
    uint32_t first;
    /* How many there are. */
    uint32_t count;
    /* Entries of each queue. */
    uint32_t entries;
    /* HOMI_QUEUES_*. */
    uint32_t flags;
    /* In the queues' memory: from one pair to the next. */
    uint64_t stride;
    /* The submission queue, from the start of its pair: entries times 64 bytes. */
    uint64_t submissions;
    /* The completion queue, from the start of its pair: entries times 16 bytes. */
    uint64_t completions;
    /* Bytes of the queues' memory. */
    uint64_t length;
    /* In the doorbells' memory: from one pair to the next. */
    uint64_t doorbell_stride;
    /* The submission queue's tail doorbell of the first pair, 32 bits, written by the client. */
    uint64_t tail_doorbell;
    /* The completion queue's head doorbell of the first pair, 32 bits, written by the client. */
    uint64_t head_doorbell;
    /* Bytes of the doorbells' memory. */
    uint64_t doorbells_length;
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_queues) == 80, "size of homi_queues");
HOMI_ASSERT(offsetof(struct homi_queues, first) == 0, "place of homi_queues.first");
HOMI_ASSERT(offsetof(struct homi_queues, count) == 4, "place of homi_queues.count");
HOMI_ASSERT(offsetof(struct homi_queues, entries) == 8, "place of homi_queues.entries");
HOMI_ASSERT(offsetof(struct homi_queues, flags) == 12, "place of homi_queues.flags");
HOMI_ASSERT(offsetof(struct homi_queues, stride) == 16, "place of homi_queues.stride");
HOMI_ASSERT(offsetof(struct homi_queues, submissions) == 24, "place of homi_queues.submissions");
HOMI_ASSERT(offsetof(struct homi_queues, completions) == 32, "place of homi_queues.completions");
HOMI_ASSERT(offsetof(struct homi_queues, length) == 40, "place of homi_queues.length");
HOMI_ASSERT(offsetof(struct homi_queues, doorbell_stride) == 48, "place of homi_queues.doorbell_stride");
HOMI_ASSERT(offsetof(struct homi_queues, tail_doorbell) == 56, "place of homi_queues.tail_doorbell");
HOMI_ASSERT(offsetof(struct homi_queues, head_doorbell) == 64, "place of homi_queues.head_doorbell");
HOMI_ASSERT(offsetof(struct homi_queues, doorbells_length) == 72, "place of homi_queues.doorbells_length");
#undef HOMI_ASSERT

/* HOMI_KIND_BUFFER: registers memory for data. With it comes the descriptor of a memfd, sealed against shrinking, or
 * of a dma-buf, where the daemon's engine can write to one. */
struct homi_buffer_request {
    /* First byte in the memfd, a multiple of the page size. */
    uint64_t offset;
    /* Bytes, a multiple of the page size. */
    uint64_t length;
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_buffer_request) == 16, "size of homi_buffer_request");
HOMI_ASSERT(offsetof(struct homi_buffer_request, offset) == 0, "place of homi_buffer_request.offset");
HOMI_ASSERT(offsetof(struct homi_buffer_request, length) == 8, "place of homi_buffer_request.length");
#undef HOMI_ASSERT

/* The answer to HOMI_KIND_BUFFER, and the request HOMI_KIND_RELEASE. */
struct homi_buffer {
    /* The address of its first byte, as commands name it. */
    uint64_t iova;
    /* Bytes. */
    uint64_t length;
    /* HOMI_BUFFER_*: what memory it is. */
    uint32_t kind;
    /* 0. */
    uint32_t reserved;
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_buffer) == 24, "size of homi_buffer");
HOMI_ASSERT(offsetof(struct homi_buffer, iova) == 0, "place of homi_buffer.iova");
HOMI_ASSERT(offsetof(struct homi_buffer, length) == 8, "place of homi_buffer.length");
HOMI_ASSERT(offsetof(struct homi_buffer, kind) == 16, "place of homi_buffer.kind");
HOMI_ASSERT(offsetof(struct homi_buffer, reserved) == 20, "place of homi_buffer.reserved");
#undef HOMI_ASSERT

/* What the attributes "homi.handle" and "homi.handle.write" give, and the request HOMI_KIND_OPEN (of a file) or HOMI_KIND_SNAPSHOT (of a
 * directory): a proof that somebody who could read it asked for it. */
struct homi_handle {
    /* "homihdl" and the version, 1. */
    uint8_t magic[8];
    /* The mount that gave it. */
    uint64_t mount;
    /* The inode. */
    uint64_t inode;
    /* The generation of the inode. */
    uint64_t generation;
    /* When it ends to be good, in seconds since 1970. */
    uint64_t expiry;
    /* HOMI_HANDLE_*: what it is for, beside reading. */
    uint64_t rights;
    /* Over all that stands before, by a key that the daemon keeps. */
    uint8_t mac[16];
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_handle) == 64, "size of homi_handle");
HOMI_ASSERT(offsetof(struct homi_handle, magic) == 0, "place of homi_handle.magic");
HOMI_ASSERT(offsetof(struct homi_handle, mount) == 8, "place of homi_handle.mount");
HOMI_ASSERT(offsetof(struct homi_handle, inode) == 16, "place of homi_handle.inode");
HOMI_ASSERT(offsetof(struct homi_handle, generation) == 24, "place of homi_handle.generation");
HOMI_ASSERT(offsetof(struct homi_handle, expiry) == 32, "place of homi_handle.expiry");
HOMI_ASSERT(offsetof(struct homi_handle, rights) == 40, "place of homi_handle.rights");
HOMI_ASSERT(offsetof(struct homi_handle, mac) == 48, "place of homi_handle.mac");
#undef HOMI_ASSERT

/* The answer to HOMI_KIND_OPEN: the file as a namespace, whose block n is the file's block n. */
struct homi_file {
    /* Its number in commands. */
    uint32_t nsid;
    /* Bytes of a block, a power of two. */
    uint32_t block_size;
    /* Blocks; the last one is filled up with zeros. */
    uint64_t blocks;
    /* Bytes of the file. */
    uint64_t size;
    /* The generation of the file that the namespace shows. */
    uint64_t generation;
    /* Inode number on the volume. */
    uint64_t inode;
    /* Place of its word among the lease words. */
    uint32_t lease_slot;
    /* HOMI_FILE_*. */
    uint32_t flags;
    /* 0. */
    uint64_t reserved[2];
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_file) == 64, "size of homi_file");
HOMI_ASSERT(offsetof(struct homi_file, nsid) == 0, "place of homi_file.nsid");
HOMI_ASSERT(offsetof(struct homi_file, block_size) == 4, "place of homi_file.block_size");
HOMI_ASSERT(offsetof(struct homi_file, blocks) == 8, "place of homi_file.blocks");
HOMI_ASSERT(offsetof(struct homi_file, size) == 16, "place of homi_file.size");
HOMI_ASSERT(offsetof(struct homi_file, generation) == 24, "place of homi_file.generation");
HOMI_ASSERT(offsetof(struct homi_file, inode) == 32, "place of homi_file.inode");
HOMI_ASSERT(offsetof(struct homi_file, lease_slot) == 40, "place of homi_file.lease_slot");
HOMI_ASSERT(offsetof(struct homi_file, flags) == 44, "place of homi_file.flags");
HOMI_ASSERT(offsetof(struct homi_file, reserved) == 48, "place of homi_file.reserved");
#undef HOMI_ASSERT

/* The answer to HOMI_KIND_SNAPSHOT: all files below a directory as one namespace. With it comes the descriptor of
 * the arena (homi_snapshot_header), a memfd that nobody can change any more. Byte n of a file of the arena is byte
 * first_block * header.block_size + n of the namespace; blocks between a file's end and the next file's first are
 * there, too, and read as zeros. The namespace is given back by HOMI_KIND_CLOSE. */
struct homi_snapshot_reply {
    /* Its number in commands. */
    uint32_t nsid;
    /* Bytes of a block of the namespace, a power of two, at most header.block_size. */
    uint32_t block_size;
    /* Blocks of the namespace; without any there is no namespace. */
    uint64_t blocks;
    /* Bytes of the arena; the memfd is filled up to whole pages. */
    uint64_t length;
    /* Files in the arena. */
    uint64_t files;
    /* Files and directories that are left out since the client may not read them or they are damaged. */
    uint64_t left_out;
    /* Place of its word among the lease words. Where a single file is taken back, commands that touch it answer
     * Namespace Not Ready, and the word counts a change. */
    uint32_t lease_slot;
    /* 0. */
    uint32_t reserved[5];
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_snapshot_reply) == 64, "size of homi_snapshot_reply");
HOMI_ASSERT(offsetof(struct homi_snapshot_reply, nsid) == 0, "place of homi_snapshot_reply.nsid");
HOMI_ASSERT(offsetof(struct homi_snapshot_reply, block_size) == 4, "place of homi_snapshot_reply.block_size");
HOMI_ASSERT(offsetof(struct homi_snapshot_reply, blocks) == 8, "place of homi_snapshot_reply.blocks");
HOMI_ASSERT(offsetof(struct homi_snapshot_reply, length) == 16, "place of homi_snapshot_reply.length");
HOMI_ASSERT(offsetof(struct homi_snapshot_reply, files) == 24, "place of homi_snapshot_reply.files");
HOMI_ASSERT(offsetof(struct homi_snapshot_reply, left_out) == 32, "place of homi_snapshot_reply.left_out");
HOMI_ASSERT(offsetof(struct homi_snapshot_reply, lease_slot) == 40, "place of homi_snapshot_reply.lease_slot");
HOMI_ASSERT(offsetof(struct homi_snapshot_reply, reserved) == 44, "place of homi_snapshot_reply.reserved");
#undef HOMI_ASSERT

/* HOMI_KIND_CLOSE: gives a namespace back. */
struct homi_close_request {
    /* Its number. */
    uint32_t nsid;
    /* 0. */
    uint32_t reserved;
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_close_request) == 8, "size of homi_close_request");
HOMI_ASSERT(offsetof(struct homi_close_request, nsid) == 0, "place of homi_close_request.nsid");
HOMI_ASSERT(offsetof(struct homi_close_request, reserved) == 4, "place of homi_close_request.reserved");
#undef HOMI_ASSERT

/* HOMI_KIND_IDENTIFY: asks for what an NVMe controller tells of a namespace. */
struct homi_identify_request {
    /* Its number. */
    uint32_t nsid;
    /* 0. */
    uint32_t reserved;
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_identify_request) == 8, "size of homi_identify_request");
HOMI_ASSERT(offsetof(struct homi_identify_request, nsid) == 0, "place of homi_identify_request.nsid");
HOMI_ASSERT(offsetof(struct homi_identify_request, reserved) == 4, "place of homi_identify_request.reserved");
#undef HOMI_ASSERT

/* The answer to HOMI_KIND_IDENTIFY: the Identify Namespace data structure (NVM Command Set Specification, section
 * 4.1.5.1) as far as a namespace has any, NSZE, NCAP and the LBA formats among it. The structure's other bytes are 0. */
struct homi_identify {
    /* Its first 384 bytes. */
    uint8_t data[384];
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_identify) == 384, "size of homi_identify");
HOMI_ASSERT(offsetof(struct homi_identify, data) == 0, "place of homi_identify.data");
#undef HOMI_ASSERT

/* The beginning of the status page, which only the daemon writes. */
struct homi_status {
    /* HOMI_STATE_*. */
    uint32_t state;
    /* 0. */
    uint32_t reserved[31];
    /* Not 0 while the daemon sleeps: a client that rings then wakes it by the eventfd. One that cannot waits for the
     * daemon's next look, a millisecond at most. */
    uint32_t asleep;
    /* 0. */
    uint32_t reserved_2[31];
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_status) == 256, "size of homi_status");
HOMI_ASSERT(offsetof(struct homi_status, state) == 0, "place of homi_status.state");
HOMI_ASSERT(offsetof(struct homi_status, reserved) == 4, "place of homi_status.reserved");
HOMI_ASSERT(offsetof(struct homi_status, asleep) == 128, "place of homi_status.asleep");
HOMI_ASSERT(offsetof(struct homi_status, reserved_2) == 132, "place of homi_status.reserved_2");
#undef HOMI_ASSERT

#endif
