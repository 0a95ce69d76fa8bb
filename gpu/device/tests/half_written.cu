/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Does a controller ever see half of a command?
 *
 * Groups fill queues as fast as they can; controller threads of this process fetch each entry, compare all eight words
 * with what they must be, and poison the place afterwards, so that a word that arrives late shows. Prints the count of
 * entries and of those half-written, the clocks from the first word of an entry to the doorbell, and how many commands
 * a second went through. Exits with 1 where one was half-written or a completion was lost.
 *
 *     nvcc -O3 -std=c++17 -arch=native -I gpu/device/include gpu/device/tests/half_written.cu -o half_written
 *     g++ -O2 -std=c++17 -pthread -x c++ -I gpu/device/include gpu/device/tests/half_written.cu -o half_written
 *     ./half_written [MILLIONS [QUEUES [CONTROLLER_THREADS]]]
 *
 * -DHOMI_BATCH=1 rings for each command instead of every 32.
 * With -DHOMI_WITHOUT_RELEASE the doorbell is rung without a release, to show that the test can fail. That needs a
 * processor whose stores overtake each other; with -DHOMI_UNFINISHED the last entry of each batch is left half written,
 * which must show on any.
 */
#include "homi/queue.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
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
#define ON_BOTH __host__ __device__
#define KERNEL __global__
#else
#define ON_BOTH
#define KERNEL
#endif

#ifndef HOMI_BATCH
#define HOMI_BATCH 32
#endif

namespace {

constexpr uint32_t ENTRIES = 64;
constexpr uint32_t BATCH = HOMI_BATCH;
constexpr uint64_t POISON = 0xdeaddeaddeaddeadull;
constexpr uint64_t PATIENCE = 20ull * 1000 * 1000 * 1000;

/* Shared with the controller; every line that somebody polls stands alone in its 128 bytes. */
struct alignas(128) lines {
    uint64_t submissions[ENTRIES * 8];
    uint64_t completions[ENTRIES * 2];
    alignas(128) uint32_t tail;
    alignas(128) uint32_t head;
};

/* The accelerator's own. */
struct state {
    homi::queue_pair queue;
    uint32_t places[ENTRIES];
    uint64_t clocks_ringing;
    uint64_t rings;
    uint64_t failures;
};

/* What the words of a command say about it: any mixture of two commands differs from both. */
ON_BOTH uint64_t mark_of(uint32_t queue, uint64_t number)
{
    return (number * 0x9e3779b97f4a7c15ull ^ queue) & 0x3fffffffffffffffull;
}

template <typename Group>
HOMI_FN void fill(const Group &group, state *own, uint32_t queue_number, uint64_t commands)
{
    homi::queue_pair *queue = &own->queue;
    for (uint64_t sent = 0; sent < commands; sent += BATCH) {
        group.sync();
        uint64_t const start = homi::clock_now();
        for (uint32_t ahead = group.rank(); ahead < BATCH; ahead += group.size()) {
            uint64_t const mark = mark_of(queue_number, sent + ahead);
            homi::queue_write(queue, ahead, homi::NVME_READ, static_cast<uint32_t>(mark), mark, 1, {mark, ~mark, true});
        }
        group.sync();
        if (group.rank() == 0) {
            uint32_t const first = queue->tail;
#if defined(HOMI_UNFINISHED) /* Only for the test that shows that this can fail. */
            homi::store_pair(queue->submissions + ((first + BATCH - 1) & (ENTRIES - 1)) * 8 + 4, POISON, POISON);
#endif
            homi::queue_ring(queue, BATCH);
            own->clocks_ringing += homi::clock_now() - start;
            own->rings++;
            for (uint32_t n = 0; n < BATCH; n++)
                if (homi::queue_wait(queue, first + n, PATIENCE) != homi::NVME_SUCCESS)
                    own->failures++;
        }
        group.sync();
    }
}

/* One controller thread: plain loops over the queues that it owns. */
struct controller {
    std::vector<lines *> queues;
    std::vector<uint32_t> heads, tails, phases;
    std::vector<uint64_t> seen;
    uint32_t first, step;
    uint64_t half_written = 0, fetched = 0;

    void serve(const std::atomic<bool> &stop)
    {
        while (!stop.load(std::memory_order_relaxed))
            for (size_t n = 0; n < queues.size(); n++)
                serve_one(n);
    }

    void serve_one(size_t n)
    {
        lines *q = queues[n];
        uint32_t const tail = __atomic_load_n(&q->tail, __ATOMIC_ACQUIRE) % ENTRIES;
        uint32_t const queue_number = first + static_cast<uint32_t>(n) * step;
        while (heads[n] != tail) {
            uint64_t *entry = q->submissions + heads[n] * 8;
            uint64_t words[8];
            for (int w = 0; w < 8; w++)
                words[w] = __atomic_load_n(entry + w, __ATOMIC_RELAXED);
            uint64_t const mark = mark_of(queue_number, seen[n]);
            uint64_t const opcode = homi::NVME_READ | 1u << 14 | static_cast<uint64_t>(heads[n]) << 16;
            uint64_t const wanted[8] = {opcode | mark << 32, 0, 0, mark, ~mark, mark, 0, 0};
            half_written += std::memcmp(words, wanted, sizeof words) != 0;
            for (int w = 0; w < 8; w++)
                __atomic_store_n(entry + w, POISON, __ATOMIC_RELAXED);
            uint64_t const done = heads[n] | static_cast<uint64_t>(heads[n]) << 32 | static_cast<uint64_t>(phases[n]) << 48;
            uint64_t *completion = q->completions + tails[n] * 2;
            __atomic_store_n(completion, uint64_t{0}, __ATOMIC_RELAXED);
            __atomic_store_n(completion + 1, done, __ATOMIC_RELEASE);
            heads[n] = (heads[n] + 1) % ENTRIES;
            tails[n] = (tails[n] + 1) % ENTRIES;
            if (tails[n] == 0)
                phases[n] ^= 1;
            seen[n]++;
            fetched++;
        }
    }
};

#if HOMI_ACCELERATOR
KERNEL void fill_all(state *states, uint32_t queues, uint64_t commands)
{
    uint32_t const warp = (blockIdx.x * blockDim.x + threadIdx.x) / warpSize;
    if (warp < queues)
        fill(homi::warp_group{}, states + warp, warp, commands);
}

KERNEL void connect(state *states, lines *shared, uint32_t queues)
{
    uint32_t const n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n < queues)
        homi::queue_init(&states[n].queue, shared[n].submissions, shared[n].completions, &shared[n].tail,
                         &shared[n].head, states[n].places, ENTRIES);
}
#endif

std::vector<state> run(lines *shared, uint32_t queues, uint64_t commands)
{
    std::vector<state> states(queues);
#if HOMI_ACCELERATOR
    state *on_device;
    lines *seen_there;
    CHECK(cudaMalloc(&on_device, sizeof(state) * queues));
    CHECK(cudaMemset(on_device, 0, sizeof(state) * queues));
    CHECK(cudaHostGetDevicePointer(reinterpret_cast<void **>(&seen_there), shared, 0));
    connect<<<(queues + 127) / 128, 128>>>(on_device, seen_there, queues);
    fill_all<<<(queues + 3) / 4, 128>>>(on_device, queues, commands);
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaMemcpy(states.data(), on_device, sizeof(state) * queues, cudaMemcpyDeviceToHost));
    CHECK(cudaFree(on_device));
#else
    std::vector<std::thread> threads;
    for (uint32_t n = 0; n < queues; n++) {
        std::memset(static_cast<void *>(&states[n]), 0, sizeof(state));
        homi::queue_init(&states[n].queue, shared[n].submissions, shared[n].completions, &shared[n].tail,
                         &shared[n].head, states[n].places, ENTRIES);
        threads.emplace_back([&states, n, commands] { fill(homi::thread_group{}, &states[n], n, commands); });
    }
    for (std::thread &thread : threads)
        thread.join();
#endif
    return states;
}

lines *allocate(uint32_t queues)
{
#if HOMI_ACCELERATOR
    void *memory;
    CHECK(cudaHostAlloc(&memory, sizeof(lines) * queues, cudaHostAllocMapped));
#else
    void *memory = std::aligned_alloc(4096, (sizeof(lines) * queues + 4095) / 4096 * 4096);
#endif
    std::memset(memory, 0, sizeof(lines) * queues);
    return static_cast<lines *>(memory);
}

uint64_t argument(int argc, char **argv, int place, uint64_t otherwise)
{
    return argc > place ? std::strtoull(argv[place], nullptr, 10) : otherwise;
}

} // namespace

int main(int argc, char **argv)
{
    uint64_t const millions = argument(argc, argv, 1, HOMI_ACCELERATOR ? 1000 : 2);
    uint32_t const queues = static_cast<uint32_t>(argument(argc, argv, 2, HOMI_ACCELERATOR ? 132 : 2));
    uint32_t const workers = static_cast<uint32_t>(argument(argc, argv, 3, HOMI_ACCELERATOR ? 8 : 1));
    uint64_t const commands = std::max<uint64_t>(millions * 1000000 / queues / BATCH, 1) * BATCH;

    lines *shared = allocate(queues);
    std::atomic<bool> stop{false};
    std::vector<controller> controllers(workers);
    std::vector<std::thread> threads;
    for (uint32_t w = 0; w < workers; w++) {
        controller &c = controllers[w];
        c.first = w;
        c.step = workers;
        for (uint32_t n = w; n < queues; n += workers)
            c.queues.push_back(shared + n);
        c.heads.resize(c.queues.size());
        c.tails.resize(c.queues.size());
        c.phases.resize(c.queues.size(), 1);
        c.seen.resize(c.queues.size());
        threads.emplace_back([&c, &stop] { c.serve(stop); });
    }
    auto const start = std::chrono::steady_clock::now();
    std::vector<state> const states = run(shared, queues, commands);
    double const seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    stop = true;
    for (std::thread &thread : threads)
        thread.join();

    uint64_t fetched = 0, half_written = 0, failures = 0, strays = 0, clocks = 0, rings = 0;
    for (const controller &c : controllers) {
        fetched += c.fetched;
        half_written += c.half_written;
    }
    for (const state &s : states) {
        failures += s.failures;
        strays += s.queue.strays;
        clocks += s.clocks_ringing;
        rings += s.rings;
    }
    std::printf("%s: %llu entries by %u queues to %u controller threads: %llu half-written, %llu failed, %llu strays; "
                "%.1f M/s; %llu clocks from the first word of %u entries to the doorbell\n",
                HOMI_ACCELERATOR ? "accelerator" : "host", static_cast<unsigned long long>(fetched), queues, workers,
                static_cast<unsigned long long>(half_written), static_cast<unsigned long long>(failures),
                static_cast<unsigned long long>(strays), static_cast<double>(fetched) / seconds / 1e6,
                static_cast<unsigned long long>(clocks / std::max<uint64_t>(rings, 1)), BATCH);
    return half_written + failures + strays == 0 && fetched == commands * queues ? 0 : 1;
}
