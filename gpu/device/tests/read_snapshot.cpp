/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reads every file of a dataset snapshot by the code that accelerators run: as many groups as there are queue pairs,
 * here threads, each of which looks files up by their paths, gathers some of them by one call from the one namespace that
 * has them all, and compares every byte with what read(2) gives below ROOT.
 *
 *     g++ -O2 -std=c++17 -pthread -I gpu/abi/include -I gpu/device/include gpu/device/tests/read_snapshot.cpp -o read
 *     ./read ROOT NSID BLOCK_SHIFT ARENA_BYTES IOVA BUFFER_BYTES PAIRS ENTRIES STRIDE SUBMISSIONS COMPLETIONS LENGTH \
 *            DOORBELL_STRIDE TAIL HEAD DOORBELLS_LENGTH MAX_TRANSFER QUEUES_FD DOORBELLS_FD BUFFER_FD ARENA_FD
 *
 * Prints how many files and bytes were compared. Exits with 1 where something differs, with 2 where it cannot work.
 */
#include "homi/file.h"
#include "homi/snapshot.h"

#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

/* In the order of the arguments after ROOT. */
struct places {
    uint64_t nsid, block_shift, arena_length, iova, buffer_length, pairs, entries, stride, submissions, completions,
        length, doorbell_stride, tail_doorbell, head_doorbell, doorbells_length, max_transfer, queues_fd, doorbells_fd,
        buffer_fd, arena_fd;
};

/* Most files of one call. */
constexpr uint64_t AT_ONCE = 8;

std::atomic<uint64_t> files_compared, bytes_compared, failures;

uint8_t *map(uint64_t fd, uint64_t length, int access, int kind)
{
    void *memory = mmap(nullptr, length, access, kind, static_cast<int>(fd), 0);
    if (memory == MAP_FAILED) {
        std::perror("mmap");
        std::exit(2);
    }
    return static_cast<uint8_t *>(memory);
}

bool same(const std::string &root, const char *path, const uint8_t *bytes, uint64_t length)
{
    std::vector<uint8_t> wanted(length + 1);
    int const fd = open((root + "/" + path).c_str(), O_RDONLY);
    uint64_t done = 0;
    ssize_t now = 0;
    while (fd >= 0 && (now = pread(fd, wanted.data() + done, wanted.size() - done, static_cast<off_t>(done))) > 0)
        done += static_cast<uint64_t>(now);
    if (fd >= 0)
        close(fd);
    return done == length && std::memcmp(wanted.data(), bytes, length) == 0;
}

void work(const places &p, const std::string &root, const homi::snapshot &s, uint8_t *queues, uint8_t *doorbells,
          const uint8_t *staging, uint64_t number)
{
    homi::queue_pair queue;
    std::memset(static_cast<void *>(&queue), 0, sizeof(queue));
    std::vector<uint32_t> flags(p.entries);
    uint8_t *pair = queues + number * p.stride, *bells = doorbells + number * p.doorbell_stride;
    homi::queue_init(&queue, reinterpret_cast<uint64_t *>(pair + p.submissions),
                     reinterpret_cast<uint64_t *>(pair + p.completions),
                     reinterpret_cast<uint32_t *>(bells + p.tail_doorbell),
                     reinterpret_cast<uint32_t *>(bells + p.head_doorbell), flags.data(),
                     static_cast<uint32_t>(p.entries));
    homi::file const all = homi::snapshot_namespace(&s, static_cast<uint32_t>(p.nsid), static_cast<uint32_t>(p.block_shift));
    homi::buffer const target = {p.iova, p.buffer_length, 0};
    homi::limits const limits = {static_cast<uint32_t>(p.max_transfer), 30000000000ull};
    uint64_t const room = p.buffer_length / p.pairs >> s.block_shift << s.block_shift, mine = number * room;
    uint32_t shared = 0;
    for (uint64_t place = number * AT_ONCE; place < s.count; place += p.pairs * AT_ONCE) {
        homi::range ranges[AT_ONCE];
        const homi_snapshot_file *files[AT_ONCE];
        uint64_t count = 0, used = 0;
        for (uint64_t n = place; n < s.count && n < place + AT_ONCE; n++) {
            const homi_snapshot_file *named = s.files + n;
            const homi_snapshot_file *file =
                homi::snapshot_lookup(&s, homi::path_of(&s, named), static_cast<uint32_t>(named->path_length));
            uint64_t const length = file == nullptr ? 0 : homi::blocks_of(&s, file) << s.block_shift;
            if (file != named || used + length > room) {
                failures++;
                return;
            }
            if (length == 0) {
                failures += same(root, homi::path_of(&s, file), staging, 0) ? 0 : 1;
                files_compared++;
                continue;
            }
            ranges[count] = {all, homi::start_of(&s, file), length, mine + used};
            files[count++] = file;
            used += length;
        }
        if (homi::gather(homi::thread_group{}, &queue, ranges, count, &target, &limits, &shared) != homi::NVME_SUCCESS) {
            failures++;
            return;
        }
        for (uint64_t n = 0; n < count; n++) {
            const uint8_t *bytes = staging + ranges[n].target;
            uint64_t const size = files[n]->size;
            bool zeros = true;
            for (uint64_t at = size; at < ranges[n].length; at++)
                zeros = zeros && bytes[at] == 0;
            if (!zeros || !same(root, homi::path_of(&s, files[n]), bytes, size)) {
                std::fprintf(stderr, "%s differs\n", homi::path_of(&s, files[n]));
                failures++;
            }
            files_compared++;
            bytes_compared += size;
        }
    }
}

} // namespace

int main(int argc, char **argv)
{
    places p;
    static_assert(sizeof(p) == 20 * sizeof(uint64_t), "all are numbers");
    if (argc != 22) {
        std::fprintf(stderr, "21 arguments are needed; see the beginning of the source\n");
        return 2;
    }
    uint64_t *fields = &p.nsid;
    for (int n = 0; n < 20; n++)
        fields[n] = std::strtoull(argv[n + 2], nullptr, 10);
    int const both = PROT_READ | PROT_WRITE;
    uint8_t *queues = map(p.queues_fd, p.length, both, MAP_SHARED);
    uint8_t *doorbells = map(p.doorbells_fd, p.doorbells_length, both, MAP_SHARED);
    uint8_t *staging = map(p.buffer_fd, p.buffer_length, both, MAP_SHARED);
    /* Sealed against writing, which kernels before 6.7 let nobody share. */
    uint8_t *arena = map(p.arena_fd, p.arena_length, PROT_READ, MAP_PRIVATE);
    homi::snapshot s;
    if (!homi::snapshot_open(&s, arena, p.arena_length)) {
        std::fprintf(stderr, "the arena is none\n");
        return 2;
    }
    std::vector<std::thread> threads;
    for (uint64_t n = 0; n < p.pairs; n++)
        threads.emplace_back([&, n] { work(p, argv[1], s, queues, doorbells, staging, n); });
    for (std::thread &thread : threads)
        thread.join();
    std::printf("%" PRIu64 " files, %" PRIu64 " bytes\n", files_compared.load(), bytes_compared.load());
    return failures == 0 && files_compared == s.count ? 0 : 1;
}
