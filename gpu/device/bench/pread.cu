/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The usual way, for comparison: threads of the host read the same file by pread(2) into pinned memory and copy it on by
 * cudaMemcpyAsync, each on a stream of its own with two halves of memory in turn.
 *
 *     pread [--quick] FILE
 */
#include "measure.h"

#include <atomic>
#include <thread>

namespace {

#if HOMI_ACCELERATOR

/* Reads of one thread until the time is over; how many there were. */
uint64_t read_on(int file, uint64_t size, uint64_t length, uint64_t number, const std::atomic<bool> &stop)
{
    uint64_t const batch = length <= 4096 ? 32 : length <= 65536 ? 8 : 2;
    void *memory;
    homi::check(cudaMallocHost(&memory, 2 * batch * length), "allocate pinned memory");
    homi::device_array<uint8_t> target(2 * batch * length);
    cudaStream_t stream;
    cudaEvent_t copied[2];
    homi::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "make a stream");
    for (cudaEvent_t &event : copied)
        homi::check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "make an event");
    uint64_t done = 0;
    for (uint64_t half = 0; !stop.load(std::memory_order_relaxed); half ^= 1) {
        homi::check(cudaEventSynchronize(copied[half]), "wait for a copy");
        for (uint64_t n = 0; n < batch; n++, done++) {
            uint64_t const at = (half * batch + n) * length;
            uint64_t const offset = measure::scattered(number << 40 | done) % (size / length) * length;
            uint8_t *const place = static_cast<uint8_t *>(memory) + at;
            if (pread(file, place, length, static_cast<off_t>(offset)) != static_cast<ssize_t>(length))
                homi::fail_by_errno("read the file");
            homi::check(cudaMemcpyAsync(target.get() + at, place, length, cudaMemcpyHostToDevice, stream), "start a copy");
        }
        homi::check(cudaEventRecord(copied[half], stream), "record an event");
    }
    homi::check(cudaStreamSynchronize(stream), "wait for copies");
    for (cudaEvent_t event : copied)
        homi::check(cudaEventDestroy(event), "end an event");
    homi::check(cudaStreamDestroy(stream), "end a stream");
    homi::check(cudaFreeHost(memory), "free pinned memory");
    return done;
}

void measure_all(const measure::arguments &a)
{
    std::printf("pread(2) and cudaMemcpyAsync\n\n| bytes | page cache | threads | reads/s | GB/s |\n|---:|---|---:|---:|---:|\n");
    for (int flags : {O_DIRECT, 0}) {
        homi::descriptor const file = measure::open_file(a.path, flags);
        struct stat status;
        fstat(file.get(), &status);
        uint64_t const size = static_cast<uint64_t>(status.st_size);
        for (uint64_t length : {4096ull, 65536ull, 1048576ull})
            for (uint64_t count : {1, 8, 16}) {
                std::atomic<bool> stop{false};
                std::atomic<uint64_t> all{0};
                std::vector<std::thread> threads;
                std::vector<std::string> failures(count);
                auto const start = std::chrono::steady_clock::now();
                for (uint64_t n = 0; n < count; n++)
                    threads.emplace_back([&, n] {
                        try {
                            all += read_on(file.get(), size, length, n, stop);
                        } catch (const std::exception &error) {
                            failures[n] = error.what();
                        }
                    });
                std::this_thread::sleep_for(std::chrono::duration<double>(a.seconds()));
                stop = true;
                for (std::thread &thread : threads)
                    thread.join();
                for (const std::string &why : failures)
                    if (!why.empty())
                        throw homi::failure(why);
                double const took = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
                double const rate = static_cast<double>(all.load()) / took;
                std::printf("| %s | %s | %llu | %.0f | %.2f |\n", measure::in_words(length).c_str(),
                            flags == 0 ? "yes" : "no, O_DIRECT", static_cast<unsigned long long>(count), rate,
                            rate * static_cast<double>(length) / 1e9);
                std::fflush(stdout);
            }
    }
}

#else

void measure_all(const measure::arguments &) { throw measure::skipped("no accelerator to copy to"); }

#endif

} // namespace

int main(int argc, char **argv) { return measure::run(argc, argv, measure_all); }
