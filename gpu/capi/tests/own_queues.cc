/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reads a file by commands of its own, through the queues and the memory that libhomifs gives addresses of, as a CUDA
 * program does after cuMemHostRegister:
 *
 *     own_queues FILE PAIRS
 */
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <homi/file.h>
#include <homifs.h>

namespace {

constexpr uint64_t PATIENCE = 30000000000ull;

bool fine(bool well, const char *what)
{
    if (!well)
        std::fprintf(stderr, "%s: %s\n", what, homifs_last_error()->message);
    return well;
}

/* One thread's share: parts number, number + pairs, ... of the file, each as long as a transfer. */
bool read_share(const homifs_description &what, const homifs_queue_memory &q, const homifs_buffer_memory &memory,
                uint32_t number, uint32_t transfer, uint8_t *target)
{
    std::vector<uint32_t> places(q.entries, 0);
    uint8_t *pair = static_cast<uint8_t *>(q.queues) + number * q.stride;
    uint8_t *bells = static_cast<uint8_t *>(q.doorbells) + number * q.doorbell_stride;
    homi::queue_pair queue;
    homi::queue_init(&queue, reinterpret_cast<uint64_t *>(pair + q.submissions),
                     reinterpret_cast<uint64_t *>(pair + q.completions),
                     reinterpret_cast<uint32_t *>(bells + q.tail_doorbell),
                     reinterpret_cast<uint32_t *>(bells + q.head_doorbell), places.data(), q.entries);
    uint64_t const mine = static_cast<uint64_t>(number) * transfer;
    uint64_t const block = what.block_size;
    for (uint64_t at = mine; at < what.size; at += static_cast<uint64_t>(transfer) * q.pairs) {
        uint64_t const there = std::min<uint64_t>(transfer, what.size - at);
        uint64_t const length = (there + block - 1) / block * block;
        uint32_t const place = queue.tail;
        homi::queue_write(&queue, 0, homi::NVME_READ, what.nsid, at >> what.block_shift,
                          static_cast<uint32_t>(length >> what.block_shift),
                          homi::pointer_to({memory.iova, memory.length, 0}, mine, static_cast<uint32_t>(length)));
        homi::queue_ring(&queue, 1);
        homi::status_t const status = homi::queue_wait(&queue, place, PATIENCE);
        if (status != homi::NVME_SUCCESS || queue.strays != 0) {
            std::fprintf(stderr, "byte %llu: status %#x\n", static_cast<unsigned long long>(at), unsigned(status));
            return false;
        }
        std::memcpy(target + at, static_cast<uint8_t *>(memory.address) + mine, there);
    }
    return true;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    uint32_t const pairs = static_cast<uint32_t>(std::atoi(argv[2]));
    homifs_session *session = nullptr;
    homifs_file *file = nullptr;
    homifs_queues *queues = nullptr;
    homifs_buffer *buffer = nullptr;
    homifs_limits limits;
    homifs_description what;
    homifs_queue_memory q;
    homifs_buffer_memory memory;
    if (!fine(homifs_session_open(argv[1], 0, &session) == 0, "session") ||
        !fine(homifs_session_limits(session, &limits) == 0, "limits") ||
        !fine(homifs_open(session, argv[1], &file) == 0, "file") ||
        !fine(homifs_describe(file, &what) == 0, "describe") ||
        !fine(homifs_queues_new(session, pairs, 8, &queues, &q) == 0, "queues") ||
        !fine(homifs_buffer_new(session, uint64_t(limits.transfer) * pairs, &buffer, &memory) == 0, "buffer"))
        return 1;
    if (!homi::lease_held({what.nsid, what.block_shift, what.size, what.lease})) {
        std::fprintf(stderr, "%s: its lease is not held\n", argv[1]);
        return 1;
    }
    std::vector<uint8_t> ours(what.size), theirs(what.size);
    std::vector<char> well(pairs, 0);
    std::vector<std::thread> threads;
    for (uint32_t n = 0; n < pairs; n++)
        threads.emplace_back([&, n] { well[n] = read_share(what, q, memory, n, limits.transfer, ours.data()); });
    for (std::thread &thread : threads)
        thread.join();
    int const fd = open(argv[1], O_RDONLY);
    uint64_t done = 0;
    while (fd >= 0 && done < what.size) {
        ssize_t const now = pread(fd, theirs.data() + done, what.size - done, static_cast<off_t>(done));
        if (now <= 0)
            break;
        done += static_cast<uint64_t>(now);
    }
    bool const same = done == what.size && ours == theirs && std::count(well.begin(), well.end(), 0) == 0;
    homifs_buffer_release(buffer);
    homifs_queues_release(queues);
    homifs_close(file);
    homifs_session_close(session);
    if (same)
        std::printf("%llu bytes\n", static_cast<unsigned long long>(done));
    else
        std::fprintf(stderr, "%s: not what pread gives\n", argv[1]);
    return same ? 0 : 1;
}
