/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reads a file by commands of its own: as many groups as there are queue pairs, each a warp of an accelerator or, with a
 * host compiler, a thread. Every byte is compared with what read(2) gives; then random reads of some sizes are timed.
 *
 * The example `device_read` of the client library starts it, with the session's memory as descriptors and all places as
 * arguments:
 *
 *     nvcc -O3 -std=c++17 -arch=native -I gpu/device/include gpu/device/tests/read_file.cu -o read_file
 *     g++ -O2 -std=c++17 -pthread -x c++ -I gpu/device/include gpu/device/tests/read_file.cu -o read_file
 *     cargo run --release -p homi-client --example device_read -- ./read_file FILE [PAIRS [ENTRIES]]
 */
#include "homi/file.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

#if HOMI_ACCELERATOR
#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        cudaError_t const error_ = (call);                                                                             \
        if (error_ != cudaSuccess) {                                                                                   \
            std::fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error_));                                       \
            std::exit(2);                                                                                              \
        }                                                                                                              \
    } while (0)
#define KERNEL __global__
#else
#define KERNEL
#endif

namespace {

/* Where everything is: in the order of the arguments. */
struct places {
    uint64_t nsid, block_shift, size;
    uint64_t iova, buffer_length;
    uint64_t pairs, entries, stride, submissions, completions, length;
    uint64_t doorbell_stride, tail_doorbell, head_doorbell, doorbells_length;
    uint64_t max_transfer;
    uint64_t queues_fd, doorbells_fd, buffer_fd;
};

/* One group's own. */
struct state {
    homi::queue_pair queue;
    uint64_t commands;
    uint32_t shared;
    uint32_t failed;
};

/* What all groups see; pointers are this processor's. */
struct world {
    homi::file file;
    homi::buffer buffer;
    homi::limits limits;
    const uint8_t *staging;
    /* Memory of each group's in the buffer. */
    uint64_t share;
    /* Where the file's bytes go: memory of the accelerator. */
    uint8_t *target;
    uint32_t groups;
    uint64_t patience;
};

/* Copies with all members of a group, sixteen bytes at a time; both are aligned to that. */
template <typename Group>
HOMI_FN void copy(const Group &group, uint8_t *to, const uint8_t *from, uint64_t length)
{
    struct alignas(16) part {
        uint64_t words[2];
    };
    part *out = reinterpret_cast<part *>(to);
    const part *in = reinterpret_cast<const part *>(from);
    for (uint64_t n = group.rank(); n < length / sizeof(part); n += group.size())
        out[n] = in[n];
}

/* The whole file, its parts dealt out to the groups. */
template <typename Group>
HOMI_FN void read_all(const Group &group, state *own, const world *w, uint32_t number)
{
    uint64_t const blocks = (w->file.size + (1ull << w->file.block_shift) - 1) >> w->file.block_shift;
    uint64_t const all = blocks << w->file.block_shift;
    for (uint64_t at = number * w->share; at < all; at += w->groups * w->share) {
        homi::range const one = {w->file, at, all - at < w->share ? all - at : w->share, number * w->share};
        homi::status_t const status = homi::gather(group, &own->queue, &one, 1, &w->buffer, &w->limits, &own->shared);
        if (status != homi::NVME_SUCCESS) {
            if (group.rank() == 0)
                own->failed = status | 1u << 16;
            return;
        }
        copy(group, w->target + at, w->staging + one.target, one.length);
        group.sync();
    }
}

/* Random reads of `length` bytes, `depth` in flight, `rounds` times; into the accelerator's memory where `bring`. */
template <typename Group>
HOMI_FN void read_randomly(const Group &group, state *own, const world *w, uint32_t number, uint32_t length,
                           uint32_t depth, uint64_t rounds, bool bring)
{
    uint64_t const places = w->file.size / length;
    uint64_t random = number * 0x9e3779b97f4a7c15ull + 1;
    uint64_t const mine = number * w->share;
    homi::queue_pair *queue = &own->queue;
    for (uint64_t round = 0; round < rounds; round++) {
        group.sync();
        uint32_t const first = queue->tail;
        for (uint32_t n = group.rank(); n < depth; n += group.size()) {
            uint64_t draw = (random + round * depth + n) * 0xbf58476d1ce4e5b9ull;
            draw ^= draw >> 31;
            uint64_t const offset = draw % places * length;
            homi::queue_write(queue, n, homi::NVME_READ, w->file.nsid, offset >> w->file.block_shift,
                              length >> w->file.block_shift,
                              homi::sgl_block(w->buffer.iova + mine + static_cast<uint64_t>(n) * length, length));
        }
        group.sync();
        if (group.rank() == 0) {
            homi::queue_ring(queue, depth);
            for (uint32_t n = 0; n < depth; n++) {
                homi::status_t const status = homi::queue_wait(queue, first + n, w->patience);
                if (status != homi::NVME_SUCCESS)
                    own->failed = status | 1u << 16;
            }
            own->commands += depth;
        }
        group.sync();
        if (bring)
            copy(group, w->target + mine, w->staging + mine, static_cast<uint64_t>(depth) * length);
    }
}

#if HOMI_ACCELERATOR
KERNEL void connect(state *states, places p, uint8_t *queues, uint8_t *doorbells, uint32_t *flags)
{
    uint32_t const n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= p.pairs)
        return;
    uint8_t *pair = queues + n * p.stride, *bells = doorbells + n * p.doorbell_stride;
    homi::queue_init(&states[n].queue, reinterpret_cast<uint64_t *>(pair + p.submissions),
                     reinterpret_cast<uint64_t *>(pair + p.completions),
                     reinterpret_cast<uint32_t *>(bells + p.tail_doorbell),
                     reinterpret_cast<uint32_t *>(bells + p.head_doorbell), flags + n * p.entries,
                     static_cast<uint32_t>(p.entries));
}

KERNEL void all_kernel(state *states, const world *w)
{
    uint32_t const warp = (blockIdx.x * blockDim.x + threadIdx.x) / warpSize;
    if (warp < w->groups)
        read_all(homi::warp_group{}, states + warp, w, warp);
}

KERNEL void random_kernel(state *states, const world *w, uint32_t length, uint32_t depth, uint64_t rounds, bool bring)
{
    uint32_t const warp = (blockIdx.x * blockDim.x + threadIdx.x) / warpSize;
    if (warp < w->groups)
        read_randomly(homi::warp_group{}, states + warp, w, warp, length, depth, rounds, bring);
}
#endif

/* Everything in the accelerator's reach, or just in this process. */
struct machine {
    places p;
    uint8_t *queues, *doorbells, *staging;
    std::vector<state> states;
    std::vector<uint32_t> flags;
    std::vector<uint8_t> target;
    world w;
#if HOMI_ACCELERATOR
    state *states_there;
    world *world_there;
#endif
};

uint8_t *map(uint64_t fd, uint64_t length)
{
    void *memory = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, static_cast<int>(fd), 0);
    if (memory == MAP_FAILED) {
        std::perror("mmap");
        std::exit(2);
    }
#if HOMI_ACCELERATOR
    CHECK(cudaHostRegister(memory, length, cudaHostRegisterMapped));
#endif
    return static_cast<uint8_t *>(memory);
}

#if HOMI_ACCELERATOR
template <typename T>
T *seen_there(T *memory)
{
    void *there;
    CHECK(cudaHostGetDevicePointer(&there, memory, 0));
    return static_cast<T *>(there);
}
#endif

void set_up(machine *m)
{
    places const &p = m->p;
    m->queues = map(p.queues_fd, p.length);
    m->doorbells = map(p.doorbells_fd, p.doorbells_length);
    m->staging = map(p.buffer_fd, p.buffer_length);
    m->states.resize(p.pairs);
    std::memset(static_cast<void *>(m->states.data()), 0, sizeof(state) * p.pairs);
    uint64_t const room = p.buffer_length / p.pairs / p.max_transfer * p.max_transfer;
    uint64_t const needed = (p.size + p.max_transfer) / p.max_transfer * p.max_transfer + p.buffer_length;
    m->w = {{static_cast<uint32_t>(p.nsid), static_cast<uint32_t>(p.block_shift), p.size, nullptr},
            {p.iova, p.buffer_length, 0},
            {static_cast<uint32_t>(p.max_transfer), HOMI_ACCELERATOR ? 60000000000ull : 30000000000ull},
            m->staging,
            room,
            nullptr,
            static_cast<uint32_t>(p.pairs),
            HOMI_ACCELERATOR ? 60000000000ull : 30000000000ull};
#if HOMI_ACCELERATOR
    m->w.staging = seen_there(m->staging);
    CHECK(cudaMalloc(&m->w.target, needed));
    CHECK(cudaMalloc(&m->states_there, sizeof(state) * p.pairs));
    CHECK(cudaMemset(m->states_there, 0, sizeof(state) * p.pairs));
    uint32_t *flags;
    CHECK(cudaMalloc(&flags, sizeof(uint32_t) * p.pairs * p.entries));
    CHECK(cudaMemset(flags, 0, sizeof(uint32_t) * p.pairs * p.entries));
    CHECK(cudaMalloc(&m->world_there, sizeof(world)));
    CHECK(cudaMemcpy(m->world_there, &m->w, sizeof(world), cudaMemcpyHostToDevice));
    connect<<<static_cast<unsigned>((p.pairs + 127) / 128), 128>>>(m->states_there, p, seen_there(m->queues),
                                                                   seen_there(m->doorbells), flags);
    CHECK(cudaDeviceSynchronize());
#else
    m->flags.resize(p.pairs * p.entries);
    m->target.resize(needed + 16);
    m->w.target = m->target.data() + (16 - reinterpret_cast<uintptr_t>(m->target.data()) % 16) % 16;
    for (uint64_t n = 0; n < p.pairs; n++) {
        uint8_t *pair = m->queues + n * p.stride, *bells = m->doorbells + n * p.doorbell_stride;
        homi::queue_init(&m->states[n].queue, reinterpret_cast<uint64_t *>(pair + p.submissions),
                         reinterpret_cast<uint64_t *>(pair + p.completions),
                         reinterpret_cast<uint32_t *>(bells + p.tail_doorbell),
                         reinterpret_cast<uint32_t *>(bells + p.head_doorbell), m->flags.data() + n * p.entries,
                         static_cast<uint32_t>(p.entries));
    }
#endif
}

/* Runs all groups; the seconds that it took. */
template <typename Work>
double run(machine *m, Work work)
{
    auto const start = std::chrono::steady_clock::now();
#if HOMI_ACCELERATOR
    work(static_cast<unsigned>((m->p.pairs + 3) / 4), 128u);
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaMemcpy(m->states.data(), m->states_there, sizeof(state) * m->p.pairs, cudaMemcpyDeviceToHost));
#else
    std::vector<std::thread> threads;
    for (uint32_t n = 0; n < m->p.pairs; n++)
        threads.emplace_back([work, n] { work(n, 0); });
    for (std::thread &thread : threads)
        thread.join();
#endif
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool failed(const machine &m)
{
    for (const state &s : m.states)
        if (s.failed != 0 || s.queue.strays != 0) {
            std::fprintf(stderr, "a command failed with status %#x, %u strays\n", s.failed & 0xffff, s.queue.strays);
            return true;
        }
    return false;
}

bool same(const machine &m, const char *path)
{
    std::vector<uint8_t> there(m.p.size), wanted(m.p.size);
#if HOMI_ACCELERATOR
    CHECK(cudaMemcpy(there.data(), m.w.target, m.p.size, cudaMemcpyDeviceToHost));
#else
    std::memcpy(there.data(), m.w.target, m.p.size);
#endif
    int const fd = open(path, O_RDONLY);
    uint64_t done = 0;
    while (fd >= 0 && done < wanted.size()) {
        ssize_t const now = pread(fd, wanted.data() + done, wanted.size() - done, static_cast<off_t>(done));
        if (now <= 0)
            break;
        done += static_cast<uint64_t>(now);
    }
    return done == wanted.size() && there == wanted;
}

void time_reads(machine *m, uint32_t length, uint32_t depth, uint64_t rounds, bool bring)
{
    if (static_cast<uint64_t>(length) * depth > m->w.share || m->p.size < length)
        return;
    for (state &s : m->states)
        s.commands = 0;
#if HOMI_ACCELERATOR
    CHECK(cudaMemcpy(m->states_there, m->states.data(), sizeof(state) * m->p.pairs, cudaMemcpyHostToDevice));
    double const seconds = run(m, [=](unsigned blocks, unsigned threads) {
        random_kernel<<<blocks, threads>>>(m->states_there, m->world_there, length, depth, rounds, bring);
    });
#else
    double const seconds = run(m, [=](uint32_t n, uint32_t) {
        read_randomly(homi::thread_group{}, &m->states[n], &m->w, n, length, depth, rounds, bring);
    });
#endif
    uint64_t commands = 0;
    for (const state &s : m->states)
        commands += s.commands;
    double const each = static_cast<double>(commands) / seconds;
    std::printf("%8u bytes x %3u in flight x %4llu pairs %-8s %12.0f/s %8.2f GB/s %10.2f us each pair's round\n", length,
                depth, static_cast<unsigned long long>(m->p.pairs), bring ? "to HBM" : "", each,
                each * length / 1e9, seconds / static_cast<double>(rounds) * 1e6);
}

} // namespace

int main(int argc, char **argv)
{
    machine m{};
    size_t const wanted = sizeof(places) / sizeof(uint64_t);
    if (argc < static_cast<int>(wanted) + 2) {
        std::fprintf(stderr, "started by the example device_read, not by hand\n");
        return 2;
    }
    for (size_t n = 0; n < wanted; n++)
        reinterpret_cast<uint64_t *>(&m.p)[n] = std::strtoull(argv[n + 2], nullptr, 10);
    set_up(&m);
#if HOMI_ACCELERATOR
    double const seconds = run(&m, [&m](unsigned blocks, unsigned threads) {
        all_kernel<<<blocks, threads>>>(m.states_there, m.world_there);
    });
#else
    double const seconds = run(&m, [&m](uint32_t n, uint32_t) {
        read_all(homi::thread_group{}, &m.states[n], &m.w, n);
    });
#endif
    if (failed(m) || !same(m, argv[1])) {
        std::fprintf(stderr, "%s: not what read(2) gives\n", argv[1]);
        return 1;
    }
    std::printf("%s: %llu bytes alike, by %llu pairs, %.2f GB/s\n", argv[1], static_cast<unsigned long long>(m.p.size),
                static_cast<unsigned long long>(m.p.pairs), static_cast<double>(m.p.size) / seconds / 1e9);
    uint64_t const rounds = std::strtoull(argc > static_cast<int>(wanted) + 2 ? argv[wanted + 2] : "0", nullptr, 10);
    if (rounds > 0) {
        time_reads(&m, 4096, 1, rounds, false);
        for (uint32_t length : {512u, 4096u, 65536u, 1048576u})
            for (bool bring : {false, true})
                time_reads(&m, length, length > 65536 ? 4 : 32, std::max<uint64_t>(rounds / (length / 512), 4), bring);
    }
    return failed(m) ? 1 : 0;
}
