/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Looks paths up in a dataset snapshot by the code that accelerators run, and prints what it finds: one line for each,
 * "absent", or place, inode, size, first block, generation, flags and extents. Checks on the way that every file of
 * the table is found by its hash and path, that every block of the namespace of all files leads to its file, and that
 * every extent is found by its bytes.
 *
 *     g++ -O2 -std=c++17 -I gpu/abi/include -I gpu/device/include gpu/device/tests/snapshot_lookup.cpp -o lookup
 *     ./lookup ARENA PATHS        (PATHS: a file of paths, each ended by a NUL)
 *
 * Exits with 1 where a check fails, with 2 where the files cannot be read.
 */
#include "homi/snapshot.h"

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

/* 128-byte aligned, as a mapping is. */
struct bytes {
    unsigned char *data;
    uint64_t length;
};

bytes read_whole(const char *path)
{
    FILE *file = std::fopen(path, "rb");
    if (file == nullptr || std::fseek(file, 0, SEEK_END) != 0) {
        std::perror(path);
        std::exit(2);
    }
    uint64_t const length = static_cast<uint64_t>(std::ftell(file));
    std::rewind(file);
    void *data = std::aligned_alloc(128, (length / 128 + 1) * 128);
    if (data == nullptr || std::fread(data, 1, length, file) != length) {
        std::perror(path);
        std::exit(2);
    }
    std::fclose(file);
    return {static_cast<unsigned char *>(data), length};
}

void require(bool holds, const char *what, uint64_t place)
{
    if (!holds) {
        std::fprintf(stderr, "file %" PRIu64 ": %s\n", place, what);
        std::exit(1);
    }
}

void check(const homi::snapshot &s)
{
    for (uint64_t place = 0; place < s.count; place++) {
        const homi_snapshot_file *file = s.files + place;
        require(homi::snapshot_find(&s, file->hash, homi::path_of(&s, file), file->path_length) == file,
                "not found by its hash and path", place);
        uint64_t const blocks = homi::blocks_of(&s, file);
        if (blocks > 0) {
            require(homi::snapshot_at_block(&s, file->first_block) == file, "not found by its first block", place);
            require(homi::snapshot_at_block(&s, file->first_block + blocks - 1) == file,
                    "not found by its last block", place);
        }
        const homi_extent *extents = homi::extents_of(&s, file);
        require(extents != nullptr, "its extents are not there", place);
        uint64_t end = 0;
        for (uint32_t i = 0; i < file->extents; i++) {
            const homi_extent *extent = extents + i;
            require(homi::extent_at(&s, file, extent->logical) == extent, "an extent's first byte", place);
            require(homi::extent_at(&s, file, extent->logical + extent->length - 1) == extent,
                    "an extent's last byte", place);
            require(extent->logical == end || homi::extent_at(&s, file, end) == nullptr, "a hole", place);
            end = extent->logical + extent->length;
        }
        require(homi::extent_at(&s, file, end) == nullptr, "the end", place);
    }
    require(homi::snapshot_at_block(&s, s.blocks) == nullptr, "something is behind the last block", s.count);
}

} // namespace

int main(int count, char **arguments)
{
    if (count != 3) {
        std::fprintf(stderr, "usage: %s ARENA PATHS\n", arguments[0]);
        return 2;
    }
    bytes const arena = read_whole(arguments[1]), paths = read_whole(arguments[2]);
    homi::snapshot s;
    if (!homi::snapshot_open(&s, arena.data, arena.length)) {
        std::fprintf(stderr, "%s is no snapshot\n", arguments[1]);
        return 1;
    }
    require(!homi::snapshot_open(&s, arena.data, arena.length - 1), "a cut arena was taken", 0);
    require(homi::snapshot_open(&s, arena.data, arena.length), "the arena was not taken again", 0);
    check(s);
    for (uint64_t at = 0; at < paths.length;) {
        const char *path = reinterpret_cast<const char *>(paths.data + at);
        uint32_t const length = static_cast<uint32_t>(strnlen(path, paths.length - at));
        at += length + 1;
        const homi_snapshot_file *file = homi::snapshot_lookup(&s, path, length);
        if (file == nullptr) {
            std::puts("absent");
            continue;
        }
        std::printf("%td %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu32 " %" PRIu32, file - s.files, file->inode,
                    file->size, file->first_block, file->generation, file->flags);
        const homi_extent *extents = homi::extents_of(&s, file);
        for (uint32_t i = 0; i < file->extents; i++)
            std::printf(" %" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu32, extents[i].logical, extents[i].physical,
                        extents[i].length, extents[i].flags);
        std::putchar('\n');
    }
    return 0;
}
