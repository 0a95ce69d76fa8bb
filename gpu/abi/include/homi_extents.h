/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `cargo run -p homi-abi --example c_header`; do not edit. */
#ifndef HOMI_EXTENTS_H
#define HOMI_EXTENTS_H

#include <stddef.h>
#include <stdint.h>

/*
 * The extent map of a file, as the extended attribute "homi.extents" gives it: version 1.
 * A header, then header.entries entries, sorted by logical, without overlap; what no entry covers
 * is a hole. All numbers are little-endian, all offsets and lengths are bytes.
 */

/* In header.version. */
#define HOMI_EXTENTS_VERSION 1u
/* In header.flags: "homi.extents@N" gives the entries from place N on. */
#define HOMI_EXTENTS_MORE 1u
/* In header.flags: some entry of the whole map has flags other than HOMI_EXTENT_SHARED. */
#define HOMI_EXTENTS_SPECIAL 2u
/* In extent.flags: allocated, never written; reads as zeros, the media holds old bytes. */
#define HOMI_EXTENT_UNWRITTEN 1u
/* In extent.flags: kept within metadata; read it through the file. */
#define HOMI_EXTENT_INLINE 2u
/* In extent.flags: other files share these blocks; never write them. */
#define HOMI_EXTENT_SHARED 4u
/* In extent.flags: the media's bytes are not the file's; read it through the file. */
#define HOMI_EXTENT_ENCODED 8u

/* What stands before the entries. */
struct homi_extents_header {
    /* "homiext" and a zero byte. */
    uint8_t magic[8];
    /* 1 for the layout described here. A reader must refuse others. */
    uint16_t version;
    /* Size of this header in bytes; entries start there. */
    uint16_t header_length;
    /* Distance from one entry to the next in bytes. */
    uint16_t entry_length;
    /* 0. */
    uint16_t reserved;
    /* HOMI_EXTENTS_*. */
    uint32_t flags;
    /* Block size of the file system in bytes; extents that are not inline are multiples of it. */
    uint32_t block_size;
    /* The generation of the file that the map belongs to. */
    uint64_t generation;
    /* Size of the file in bytes; the last entry may reach past it. */
    uint64_t file_size;
    /* Byte of the device where the volume starts (0 without a partition table). The device's byte of an
     * extent is volume_start + physical. */
    uint64_t volume_start;
    /* Entries that the whole map has. */
    uint64_t total;
    /* Place of the first entry given here within the whole map. */
    uint64_t first;
    /* Entries given here. */
    uint64_t entries;
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_extents_header) == 72, "size of homi_extents_header");
HOMI_ASSERT(offsetof(struct homi_extents_header, magic) == 0, "place of homi_extents_header.magic");
HOMI_ASSERT(offsetof(struct homi_extents_header, version) == 8, "place of homi_extents_header.version");
HOMI_ASSERT(offsetof(struct homi_extents_header, header_length) == 10, "place of homi_extents_header.header_length");
HOMI_ASSERT(offsetof(struct homi_extents_header, entry_length) == 12, "place of homi_extents_header.entry_length");
HOMI_ASSERT(offsetof(struct homi_extents_header, reserved) == 14, "place of homi_extents_header.reserved");
HOMI_ASSERT(offsetof(struct homi_extents_header, flags) == 16, "place of homi_extents_header.flags");
HOMI_ASSERT(offsetof(struct homi_extents_header, block_size) == 20, "place of homi_extents_header.block_size");
HOMI_ASSERT(offsetof(struct homi_extents_header, generation) == 24, "place of homi_extents_header.generation");
HOMI_ASSERT(offsetof(struct homi_extents_header, file_size) == 32, "place of homi_extents_header.file_size");
HOMI_ASSERT(offsetof(struct homi_extents_header, volume_start) == 40, "place of homi_extents_header.volume_start");
HOMI_ASSERT(offsetof(struct homi_extents_header, total) == 48, "place of homi_extents_header.total");
HOMI_ASSERT(offsetof(struct homi_extents_header, first) == 56, "place of homi_extents_header.first");
HOMI_ASSERT(offsetof(struct homi_extents_header, entries) == 64, "place of homi_extents_header.entries");
#undef HOMI_ASSERT

/* A contiguous piece of the file. */
struct homi_extent {
    /* First byte within the file. */
    uint64_t logical;
    /* First byte on the volume. */
    uint64_t physical;
    /* Length in bytes, not 0. */
    uint64_t length;
    /* HOMI_EXTENT_*; 0 is written data that lies on the media as the file has it. */
    uint32_t flags;
    /* 0. */
    uint32_t reserved;
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HOMI_ASSERT static_assert
#else
#define HOMI_ASSERT _Static_assert
#endif
HOMI_ASSERT(sizeof(struct homi_extent) == 32, "size of homi_extent");
HOMI_ASSERT(offsetof(struct homi_extent, logical) == 0, "place of homi_extent.logical");
HOMI_ASSERT(offsetof(struct homi_extent, physical) == 8, "place of homi_extent.physical");
HOMI_ASSERT(offsetof(struct homi_extent, length) == 16, "place of homi_extent.length");
HOMI_ASSERT(offsetof(struct homi_extent, flags) == 24, "place of homi_extent.flags");
HOMI_ASSERT(offsetof(struct homi_extent, reserved) == 28, "place of homi_extent.reserved");
#undef HOMI_ASSERT

#endif
