/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Finding files in a dataset snapshot: an arena that the host mapped, checked (homi_abi::snapshot::View does, or
 * snapshot_open for what can be told at once) and made visible to this processor. Read-only, so any number of threads
 * look things up side by side, each its own path; nothing here waits or allocates.
 */
#ifndef HOMI_SNAPSHOT_DEVICE_H
#define HOMI_SNAPSHOT_DEVICE_H

#include "homi_snapshot.h"
#include "file.h"
#include "platform.h"

namespace homi {

/* An arena as this processor reaches it. */
struct snapshot {
    const unsigned char *arena;
    const homi_snapshot_file *files;
    const uint32_t *index;
    const homi_extent *extents;
    uint64_t count;
    uint64_t extent_count;
    /* Blocks of all files together. */
    uint64_t blocks;
    /* Bits of the block size, and by how many bits a hash is shifted for the index. */
    uint32_t block_shift;
    uint32_t index_shift;
};

/*
 * Takes an arena of `length` bytes (of a mapping: as much as is mapped). False where it is none of version 1 or its
 * sections do not lie within it; what single files say is not looked at.
 */
HOMI_FN bool snapshot_open(snapshot *opened, const void *arena, uint64_t length)
{
    const char magic[8] = {'h', 'o', 'm', 'i', 's', 'n', 'a', 'p'};
    const homi_snapshot_header *header = static_cast<const homi_snapshot_header *>(arena);
    if (length < sizeof(homi_snapshot_header))
        return false;
    for (int i = 0; i < 8; i++)
        if (header->magic[i] != static_cast<uint8_t>(magic[i]))
            return false;
    if (header->version != HOMI_SNAPSHOT_VERSION || header->header_length != sizeof(homi_snapshot_header) ||
        header->file_length != sizeof(homi_snapshot_file) || header->extent_length != sizeof(homi_extent) ||
        header->hash != HOMI_SNAPSHOT_HASH_FNV1A_MIXED || header->length > length)
        return false;
    if (header->index_bits < 1 || header->index_bits > 31 || header->block_size < 512 ||
        (header->block_size & (header->block_size - 1)) != 0)
        return false;
    uint64_t const places[4] = {header->files_at, header->index_at, header->extents_at, header->strings_at};
    uint64_t const counts[4] = {header->files, (1ull << header->index_bits) + 1, header->extents, header->strings};
    uint64_t const sizes[4] = {sizeof(homi_snapshot_file), sizeof(uint32_t), sizeof(homi_extent), 1};
    for (int i = 0; i < 4; i++)
        if (places[i] % HOMI_SNAPSHOT_ALIGNMENT != 0 || places[i] > header->length ||
            counts[i] > (header->length - places[i]) / sizes[i])
            return false;
    uint32_t shift = 0;
    while ((1u << shift) < header->block_size)
        shift++;
    opened->arena = static_cast<const unsigned char *>(arena);
    opened->files = reinterpret_cast<const homi_snapshot_file *>(opened->arena + header->files_at);
    opened->index = reinterpret_cast<const uint32_t *>(opened->arena + header->index_at);
    opened->extents = reinterpret_cast<const homi_extent *>(opened->arena + header->extents_at);
    opened->count = header->files;
    opened->extent_count = header->extents;
    opened->blocks = header->blocks;
    opened->block_shift = shift;
    opened->index_shift = 64 - header->index_bits;
    return true;
}

/* Of nothing yet. What many paths begin with can be hashed once: hash_add(hash_add(hash_begin(), ..), ..). */
HOMI_FN uint64_t hash_begin() { return HOMI_SNAPSHOT_HASH_BASIS; }

HOMI_FN uint64_t hash_add(uint64_t state, const char *bytes, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        state = (state ^ static_cast<unsigned char>(bytes[i])) * HOMI_SNAPSHOT_HASH_PRIME;
    return state;
}

HOMI_FN uint64_t hash_end(uint64_t state)
{
    state = (state ^ (state >> 33)) * HOMI_SNAPSHOT_HASH_MIX_1;
    state = (state ^ (state >> 33)) * HOMI_SNAPSHOT_HASH_MIX_2;
    return state ^ (state >> 33);
}

/* The hash of a path. */
HOMI_FN uint64_t hash_path(const char *path, uint32_t length) { return hash_end(hash_add(hash_begin(), path, length)); }

/* The path of a file, relative to the snapshot's root; a NUL follows its path_length bytes. */
HOMI_FN const char *path_of(const snapshot *s, const homi_snapshot_file *file)
{
    return reinterpret_cast<const char *>(s->arena + file->path_at);
}

/* Below, at or above 0: how a file's hash and path compare with those given. */
HOMI_FN int compare_file(const snapshot *s, const homi_snapshot_file *file, uint64_t hash, const char *path,
                         uint32_t length)
{
    if (file->hash != hash)
        return file->hash < hash ? -1 : 1;
    const char *other = path_of(s, file);
    uint32_t const shorter = file->path_length < length ? file->path_length : length;
    for (uint32_t i = 0; i < shorter; i++) {
        unsigned char const ours = static_cast<unsigned char>(other[i]), theirs = static_cast<unsigned char>(path[i]);
        if (ours != theirs)
            return ours < theirs ? -1 : 1;
    }
    return file->path_length == length ? 0 : file->path_length < length ? -1 : 1;
}

/* The file with this path, whose hash is known; null where there is none. Takes a probe or two. */
HOMI_FN const homi_snapshot_file *snapshot_find(const snapshot *s, uint64_t hash, const char *path, uint32_t length)
{
    uint64_t const bucket = hash >> s->index_shift;
    uint64_t first = s->index[bucket], end = s->index[bucket + 1];
    if (end > s->count)
        return nullptr;
    while (first < end) {
        uint64_t const middle = first + (end - first) / 2;
        int const order = compare_file(s, s->files + middle, hash, path, length);
        if (order == 0)
            return s->files + middle;
        if (order < 0)
            first = middle + 1;
        else
            end = middle;
    }
    return nullptr;
}

/* The file with this path, relative to the snapshot's root; null where there is none. */
HOMI_FN const homi_snapshot_file *snapshot_lookup(const snapshot *s, const char *path, uint32_t length)
{
    return snapshot_find(s, hash_path(path, length), path, length);
}

/* How many blocks a file has in the namespace of all files. */
HOMI_FN uint64_t blocks_of(const snapshot *s, const homi_snapshot_file *file)
{
    uint64_t const mask = (1ull << s->block_shift) - 1;
    return (file->size >> s->block_shift) + ((file->size & mask) != 0);
}

/*
 * Where a file begins in the namespace of all files, in bytes: a range of file.h that starts there, with the namespace as
 * its source, reads the file. What lies between the file's end and that of its last block reads as zeros.
 */
HOMI_FN uint64_t start_of(const snapshot *s, const homi_snapshot_file *file)
{
    return file->first_block << s->block_shift;
}

/* The namespace of all files (homi_snapshot_reply.nsid), whose blocks have 1 << block_shift bytes. */
HOMI_FN file snapshot_namespace(const snapshot *s, uint32_t nsid, uint32_t block_shift)
{
    file const all = {nsid, block_shift, s->blocks << s->block_shift, nullptr};
    return all;
}

/* The file that a block of the namespace of all files belongs to; null behind the last. */
HOMI_FN const homi_snapshot_file *snapshot_at_block(const snapshot *s, uint64_t block)
{
    if (block >= s->blocks)
        return nullptr;
    /* The last file that begins at the block or before; of those that begin at one block all others are empty. */
    uint64_t first = 0, end = s->count;
    while (first < end) {
        uint64_t const middle = first + (end - first) / 2;
        if (s->files[middle].first_block <= block)
            first = middle + 1;
        else
            end = middle;
    }
    return first == 0 ? nullptr : s->files + (first - 1);
}

/* The extents of a file; null where they are not within the arena. */
HOMI_FN const homi_extent *extents_of(const snapshot *s, const homi_snapshot_file *file)
{
    if (file->first_extent > s->extent_count || file->extents > s->extent_count - file->first_extent)
        return nullptr;
    return s->extents + file->first_extent;
}

/* The extent that holds byte `offset` of a file; null in a hole. */
HOMI_FN const homi_extent *extent_at(const snapshot *s, const homi_snapshot_file *file, uint64_t offset)
{
    const homi_extent *extents = extents_of(s, file);
    uint64_t first = 0, end = extents == nullptr ? 0 : file->extents;
    while (first < end) {
        uint64_t const middle = first + (end - first) / 2;
        if (extents[middle].logical <= offset)
            first = middle + 1;
        else
            end = middle;
    }
    if (first == 0 || offset - extents[first - 1].logical >= extents[first - 1].length)
        return nullptr;
    return extents + (first - 1);
}

/* Whether what a file's extents name on the device is the file: true too of holes and of blocks that others share. */
HOMI_FN bool is_plain(const homi_snapshot_file *file) { return (file->flags & ~HOMI_EXTENT_SHARED) == 0; }

} // namespace homi

#endif
