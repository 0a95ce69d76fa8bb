/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Clocks from the first word of a command to its doorbell and to its completion, and how long one read of 4 KiB takes:
 * one group, one command at a time, nothing else under way. Beside it what the engine below needs for as much: the host
 * reads the image that the mount is of.
 *
 *     doorbell [--quick] [--image IMAGE] FILE
 */
#include "measure.h"

namespace {

using homi::members;

constexpr uint64_t LENGTH = 4096;

/* Times of each command, in clocks. */
struct one_by_one {
    homi::file source;
    uint64_t rounds;
    uint64_t *to_doorbell;
    uint64_t *to_completion;
    uint32_t *failed;

    template <typename Group>
    HOMI_FN void operator()(const Group &group, homi::reader *r, uint32_t) const
    {
        if (group.rank() != 0)
            return;
        uint64_t const places = source.size / LENGTH;
        for (uint64_t n = 0; n < rounds; n++) {
            uint64_t const offset = measure::scattered(n) % places * LENGTH;
            uint64_t const start = homi::clock_now();
            homi::queue_write(&r->queue, 0, homi::NVME_READ, source.nsid, offset >> source.block_shift,
                              static_cast<uint32_t>(LENGTH >> source.block_shift),
                              homi::pointer_to(r->staging, 0, static_cast<uint32_t>(LENGTH)));
            uint32_t const place = r->queue.tail;
            homi::queue_ring(&r->queue, 1);
            uint64_t const rung = homi::clock_now();
            homi::status_t const status = homi::queue_wait(&r->queue, place, r->bounds.patience);
            to_doorbell[n] = rung - start;
            to_completion[n] = homi::clock_now() - start;
            if (status != homi::NVME_SUCCESS)
                *failed = status;
            if (status == homi::HOMI_TIMED_OUT)
                return;
        }
    }
};

/* The same by the call that programs use, on into the accelerator's memory. */
struct whole_call {
    homi::file source;
    uint64_t rounds;
    uint8_t *target;
    uint32_t *failed;

    template <typename Group>
    HOMI_FN void operator()(const Group &group, homi::reader *r, uint32_t) const
    {
        uint64_t const places = source.size / LENGTH;
        for (uint64_t n = 0; n < rounds; n++) {
            uint64_t const offset = measure::scattered(n) % places * LENGTH;
            homi::status_t const status = homi::homi_read(group, r, source, offset, LENGTH, target).status;
            if (status != homi::NVME_SUCCESS && group.rank() == 0)
                *failed = status;
        }
    }
};

/* Microseconds of one pread(2), median; with or without O_DIRECT. */
double pread_time(const char *path, int flags, uint64_t size, uint64_t rounds)
{
    homi::descriptor const file = measure::open_file(path, flags);
    std::unique_ptr<void, decltype(&std::free)> const memory(std::aligned_alloc(4096, LENGTH), &std::free);
    std::vector<uint64_t> times;
    for (uint64_t n = 0; n < rounds; n++) {
        uint64_t const offset = measure::scattered(n) % (size / LENGTH) * LENGTH;
        auto const start = std::chrono::steady_clock::now();
        if (pread(file.get(), memory.get(), LENGTH, static_cast<off_t>(offset)) != static_cast<ssize_t>(LENGTH))
            homi::fail_by_errno(std::string("read ") + path);
        auto const took = std::chrono::steady_clock::now() - start;
        times.push_back(static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(took).count()));
    }
    return static_cast<double>(measure::quantile(&times, 0.5)) / 1e3;
}

void measure_all(const measure::arguments &a)
{
    homi::descriptor const file = measure::open_file(a.path, 0);
    homi::session from(file.get());
    homi::file const source = homi::as_source(from.open(file.get()));
    if (source.block_shift > 12 || source.size < LENGTH)
        throw homi::failure("this needs a file of 4 KiB at least, in blocks of at most as much");
    uint64_t const rounds = HOMI_ACCELERATOR ? (a.quick ? 5000 : 20000) : 1000;
    homi::readers all(&from, {1, 64, 128 << 10, 0, 20});
    homi::device_array<uint64_t> rung(rounds), completed(rounds);
    homi::device_array<uint32_t> failed(1);
    homi::device_array<uint8_t> target(LENGTH);
    /* Once to wake everybody, once to measure. */
    for (uint64_t n : {rounds / 10, rounds})
        all.run(members::warp, 1, one_by_one{source, n, rung.get(), completed.get(), failed.get()});
    double const seconds =
        all.run(members::warp, 1, one_by_one{source, rounds, rung.get(), completed.get(), failed.get()});
    std::vector<uint64_t> to_doorbell(rounds), to_completion(rounds);
    rung.take(to_doorbell.data(), rounds);
    completed.take(to_completion.data(), rounds);
    double const by_warp = all.run(members::warp, 1, whole_call{source, rounds, target.get(), failed.get()});
    double const by_block = all.run(members::block, 1, whole_call{source, rounds, target.get(), failed.get()});
    uint32_t status = 0;
    failed.take(&status, 1);
    if (status != 0 || all.strays() != 0)
        throw homi::failure("a command failed with status " + std::to_string(status));
    auto const each = [rounds](double all_seconds) { return all_seconds / static_cast<double>(rounds) * 1e6; };
    std::printf("%s, %llu reads of 4 KiB, one at a time\n\n| what | median | 99 %% | mean |\n|---|---:|---:|---:|\n",
                HOMI_ACCELERATOR ? "clocks of the accelerator" : "nanoseconds", static_cast<unsigned long long>(rounds));
    std::printf("| clocks, first word to doorbell | %llu | %llu | |\n",
                static_cast<unsigned long long>(measure::quantile(&to_doorbell, 0.5)),
                static_cast<unsigned long long>(measure::quantile(&to_doorbell, 0.99)));
    std::printf("| clocks, first word to completion | %llu | %llu | |\n",
                static_cast<unsigned long long>(measure::quantile(&to_completion, 0.5)),
                static_cast<unsigned long long>(measure::quantile(&to_completion, 0.99)));
    std::printf("| us, into host memory | | | %.2f |\n", each(seconds));
    std::printf("| us, homi_read by a warp, into the accelerator's memory | | | %.2f |\n", each(by_warp));
    std::printf("| us, homi_read by a block | | | %.2f |\n", each(by_block));
    std::printf("| us, pread(2) of the same file with O_DIRECT | %.2f | | |\n",
                pread_time(a.path, O_DIRECT, source.size, 2000));
    if (a.image == nullptr)
        return;
    struct stat about;
    if (stat(a.image, &about) != 0)
        homi::fail_by_errno(std::string("look at ") + a.image);
    double const engine = pread_time(a.image, 0, static_cast<uint64_t>(about.st_size), 2000);
    std::printf("| us, pread(2) of the image itself: what the engine needs | %.2f | | |\n", engine);
    std::printf("| us more than the engine, into host memory (at most 8) | | | %.2f |\n", each(seconds) - engine);
    std::printf("| us more than the engine, homi_read by a warp | | | %.2f |\n", each(by_warp) - engine);
    std::printf("| us more than the engine, homi_read by a block | | | %.2f |\n", each(by_block) - engine);
}

} // namespace

int main(int argc, char **argv) { return measure::run(argc, argv, measure_all); }
