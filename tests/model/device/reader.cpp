/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The accelerator's sources on this processor, told line by line what to read: number and block size (in bits) of a
 * namespace, bytes of the file, first byte and length. The answer is the status; the bytes are at the buffer's start.
 */
#include "homi/file.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <vector>

namespace {

/* In the order of the arguments. */
struct places {
    uint64_t iova, buffer_length;
    uint64_t entries, submissions, completions, length;
    uint64_t tail_doorbell, head_doorbell, doorbells_length;
    uint64_t max_transfer;
    uint64_t queues_fd, doorbells_fd;
};

uint8_t *map(uint64_t fd, uint64_t length)
{
    void *memory = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, static_cast<int>(fd), 0);
    if (memory == MAP_FAILED) {
        std::perror("mmap");
        std::exit(2);
    }
    return static_cast<uint8_t *>(memory);
}

} // namespace

int main(int argc, char **argv)
{
    places p{};
    size_t const wanted = sizeof(places) / sizeof(uint64_t);
    if (argc != static_cast<int>(wanted) + 1) {
        std::fprintf(stderr, "started by the model checker, not by hand\n");
        return 2;
    }
    for (size_t n = 0; n < wanted; n++)
        reinterpret_cast<uint64_t *>(&p)[n] = std::strtoull(argv[n + 1], nullptr, 10);
    uint8_t *queues = map(p.queues_fd, p.length), *bells = map(p.doorbells_fd, p.doorbells_length);
    std::vector<uint32_t> flags(p.entries);
    homi::queue_pair queue{};
    homi::queue_init(&queue, reinterpret_cast<uint64_t *>(queues + p.submissions),
                     reinterpret_cast<uint64_t *>(queues + p.completions),
                     reinterpret_cast<uint32_t *>(bells + p.tail_doorbell),
                     reinterpret_cast<uint32_t *>(bells + p.head_doorbell), flags.data(),
                     static_cast<uint32_t>(p.entries));
    homi::buffer const buffer = {p.iova, p.buffer_length, 0};
    homi::limits const limits = {static_cast<uint32_t>(p.max_transfer), 30000000000ull};
    unsigned long long nsid, shift, size, offset, length;
    uint32_t shared = 0;
    while (std::scanf("%llu %llu %llu %llu %llu", &nsid, &shift, &size, &offset, &length) == 5) {
        homi::file const file = {static_cast<uint32_t>(nsid), static_cast<uint32_t>(shift), size, nullptr};
        homi::status_t const status =
            homi::read(homi::thread_group{}, &queue, file, offset, length, &buffer, &limits, &shared);
        std::printf("%u\n", static_cast<unsigned>(status));
        std::fflush(stdout);
    }
    return queue.strays == 0 ? 0 : 1;
}
