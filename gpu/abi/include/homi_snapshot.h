/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `cargo run -p homi-abi --example c_header`; do not edit. */
#ifndef HOMI_SNAPSHOT_H
#define HOMI_SNAPSHOT_H

#include "homi_extents.h"

/*
 * A dataset snapshot, version 1: a whole tree of files in one arena. A homi_snapshot_header, the table of
 * homi_snapshot_file, the index, the table of homi_extent, and the strings, in this order, each at a
 * multiple of HOMI_SNAPSHOT_ALIGNMENT. All numbers are little-endian; places that end in _at are bytes from
 * the arena's start.
 *
 * Files are sorted by the hash of their path, those of one hash by the bytes of the path (as memcmp, the
 * shorter first). A path is relative to the snapshot's root, its names separated by single slashes, and
 * followed by a NUL that its length does not count.
 *
 * The hash: state = HOMI_SNAPSHOT_HASH_BASIS; for each byte state = (state ^ byte) *
 * HOMI_SNAPSHOT_HASH_PRIME; then state ^= state >> 33, state *= HOMI_SNAPSHOT_HASH_MIX_1, state ^= state >>
 * 33, state *= HOMI_SNAPSHOT_HASH_MIX_2, state ^= state >> 33; all modulo 2^64.
 *
 * The index has 2^index_bits + 1 numbers of 32 bits: number n is the place of the first file whose hash has
 * n or more in its upper index_bits bits; the last one is the number of files.
 *
 * The extents of one file follow each other, sorted by logical, without overlap, within the file's blocks;
 * what none covers is a hole. All files, each from a block of its own on, in the order of the table, make
 * one namespace: first_block is where each begins.
 */

/* In header.version. */
#define HOMI_SNAPSHOT_VERSION 1u
/* What places of sections are multiples of. */
#define HOMI_SNAPSHOT_ALIGNMENT 128u
/* Longest path in bytes, without its NUL. */
#define HOMI_SNAPSHOT_PATH_MAX 4095u
/* In header.hash: the hash as described above. */
#define HOMI_SNAPSHOT_HASH_FNV1A_MIXED 1u
#define HOMI_SNAPSHOT_HASH_BASIS 0xcbf29ce484222325ull
#define HOMI_SNAPSHOT_HASH_PRIME 0x00000100000001b3ull
#define HOMI_SNAPSHOT_HASH_MIX_1 0xff51afd7ed558ccdull
#define HOMI_SNAPSHOT_HASH_MIX_2 0xc4ceb9fe1a85ec53ull

/* What an arena begins with. */
struct homi_snapshot_header {
    /* "homisnap". */
    uint8_t magic[8];
    /* 1 for the layout described here. A reader must refuse others. */
    uint16_t version;
    /* Size of this header in bytes. */
    uint16_t header_length;
    /* Size of a homi_snapshot_file in bytes. */
    uint16_t file_length;
    /* Size of a homi_extent in bytes. */
    uint16_t extent_length;
    /* HOMI_EXTENT_* of all files together. */
    uint32_t flags;
    /* Block size of the file system in bytes, a power of two. */
    uint32_t block_size;
    /* Bytes of the arena; a mapping of it may be longer. */
    uint64_t length;
    /* Byte of the device where the volume starts. The device's byte of an extent is volume_start + physical. */
    uint64_t volume_start;
    /* The volume's UUID, in the order that it is written in. */
    uint8_t volume_uuid[16];
    /* When the snapshot was taken, in seconds since 1970. */
    uint64_t taken;
    /* Number of files. */
    uint64_t files;
    /* Where the table of files is. */
    uint64_t files_at;
    /* Upper bits of a hash that the index goes by, 1 to 31. */
    uint32_t index_bits;
    /* HOMI_SNAPSHOT_HASH_*. */
    uint32_t hash;
    /* Where the index is: 2^index_bits + 1 numbers of 32 bits. */
    uint64_t index_at;
    /* Number of extents. */
    uint64_t extents;
    /* Where the extents are. */
    uint64_t extents_at;
    /* Bytes of the strings. */
    uint64_t strings;
    /* Where the strings are. */
    uint64_t strings_at;
    /* Blocks of all files together. */
    uint64_t blocks;
    /* Bytes of all files together. */
    uint64_t bytes;
    /* The inode of the directory that the snapshot is of. */
    uint64_t root_inode;
    /* Where its path on the volume is, which begins with a slash; a slash alone where only its handle was known. */
    uint64_t root_at;
    /* Bytes of that path. */
    uint32_t root_length;
    /* The generation of that inode. */
    uint32_t root_generation;
    /* Directories that were walked. */
    uint64_t directories;
    /* Symbolic links, which are left out. */
    uint64_t links;
    /* Devices, pipes and sockets, which are left out. */
    uint64_t specials;
    /* Files and directories left out because the client may not read them. */
    uint64_t denied;
    /* Files and directories left out because they are damaged or their path is too long. */
    uint64_t unreadable;
    /* 0. */
    uint64_t reserved[6];
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_snapshot_header) == 256, "size of homi_snapshot_header");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, magic) == 0, "place of homi_snapshot_header.magic");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, version) == 8, "place of homi_snapshot_header.version");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, header_length) == 10, "place of homi_snapshot_header.header_length");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, file_length) == 12, "place of homi_snapshot_header.file_length");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, extent_length) == 14, "place of homi_snapshot_header.extent_length");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, flags) == 16, "place of homi_snapshot_header.flags");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, block_size) == 20, "place of homi_snapshot_header.block_size");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, length) == 24, "place of homi_snapshot_header.length");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, volume_start) == 32, "place of homi_snapshot_header.volume_start");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, volume_uuid) == 40, "place of homi_snapshot_header.volume_uuid");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, taken) == 56, "place of homi_snapshot_header.taken");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, files) == 64, "place of homi_snapshot_header.files");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, files_at) == 72, "place of homi_snapshot_header.files_at");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, index_bits) == 80, "place of homi_snapshot_header.index_bits");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, hash) == 84, "place of homi_snapshot_header.hash");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, index_at) == 88, "place of homi_snapshot_header.index_at");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, extents) == 96, "place of homi_snapshot_header.extents");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, extents_at) == 104, "place of homi_snapshot_header.extents_at");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, strings) == 112, "place of homi_snapshot_header.strings");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, strings_at) == 120, "place of homi_snapshot_header.strings_at");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, blocks) == 128, "place of homi_snapshot_header.blocks");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, bytes) == 136, "place of homi_snapshot_header.bytes");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, root_inode) == 144, "place of homi_snapshot_header.root_inode");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, root_at) == 152, "place of homi_snapshot_header.root_at");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, root_length) == 160, "place of homi_snapshot_header.root_length");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, root_generation) == 164, "place of homi_snapshot_header.root_generation");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, directories) == 168, "place of homi_snapshot_header.directories");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, links) == 176, "place of homi_snapshot_header.links");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, specials) == 184, "place of homi_snapshot_header.specials");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, denied) == 192, "place of homi_snapshot_header.denied");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, unreadable) == 200, "place of homi_snapshot_header.unreadable");
HOMI_ASSERT(offsetof(struct homi_snapshot_header, reserved) == 208, "place of homi_snapshot_header.reserved");
#undef HOMI_ASSERT

/* A file. */
struct homi_snapshot_file {
    /* The hash of its path. */
    uint64_t hash;
    /* Its inode; a file with several names is here under each. */
    uint64_t inode;
    /* Its size in bytes. */
    uint64_t size;
    /* Where it begins in the namespace of all files, in blocks; it has (size + block_size - 1) / block_size. */
    uint64_t first_block;
    /* Number of its first extent. */
    uint64_t first_extent;
    /* Where its path is. */
    uint64_t path_at;
    /* Bytes of its path. */
    uint32_t path_length;
    /* How many extents it has. */
    uint32_t extents;
    /* The generation of the inode. */
    uint32_t generation;
    /* HOMI_EXTENT_* of any of its extents. With none but HOMI_EXTENT_SHARED, what its extents name on the device
     * is the file; HOMI_EXTENT_INLINE and HOMI_EXTENT_ENCODED must be read through the file. */
    uint32_t flags;
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_snapshot_file) == 64, "size of homi_snapshot_file");
HOMI_ASSERT(offsetof(struct homi_snapshot_file, hash) == 0, "place of homi_snapshot_file.hash");
HOMI_ASSERT(offsetof(struct homi_snapshot_file, inode) == 8, "place of homi_snapshot_file.inode");
HOMI_ASSERT(offsetof(struct homi_snapshot_file, size) == 16, "place of homi_snapshot_file.size");
HOMI_ASSERT(offsetof(struct homi_snapshot_file, first_block) == 24, "place of homi_snapshot_file.first_block");
HOMI_ASSERT(offsetof(struct homi_snapshot_file, first_extent) == 32, "place of homi_snapshot_file.first_extent");
HOMI_ASSERT(offsetof(struct homi_snapshot_file, path_at) == 40, "place of homi_snapshot_file.path_at");
HOMI_ASSERT(offsetof(struct homi_snapshot_file, path_length) == 48, "place of homi_snapshot_file.path_length");
HOMI_ASSERT(offsetof(struct homi_snapshot_file, extents) == 52, "place of homi_snapshot_file.extents");
HOMI_ASSERT(offsetof(struct homi_snapshot_file, generation) == 56, "place of homi_snapshot_file.generation");
HOMI_ASSERT(offsetof(struct homi_snapshot_file, flags) == 60, "place of homi_snapshot_file.flags");
#undef HOMI_ASSERT

#endif
