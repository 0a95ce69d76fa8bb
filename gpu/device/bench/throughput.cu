/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * How many random reads a second, and how many bytes, into host memory and on into the accelerator's: against what a
 * plain copy over the link gives.
 *
 *     throughput [--quick] [--pairs N[,N...]] [--bytes N[,N...]] [--title TEXT] FILE
 */
#include "measure.h"

namespace {

using homi::members;

/* Random pieces of one length of a file; targets go round in `slots` places. */
struct random_source {
    homi::file source;
    uint64_t length;
    uint64_t places;
    uint64_t left;
    uint64_t seed;
    uint8_t *target;
    uint32_t slots;

    HOMI_FN bool peek(homi::piece *p) const
    {
        if (left == 0)
            return false;
        p->source = source;
        p->offset = measure::scattered(seed + left) % places * length;
        p->length = length;
        p->target = target == nullptr ? nullptr : target + left % slots * length;
        return true;
    }

    HOMI_FN void next() { left--; }
};

constexpr uint32_t SLOTS = 32;

struct read_randomly {
    homi::file source;
    uint64_t length;
    uint64_t each;
    /* Null for host memory. */
    uint8_t *target;
    uint32_t *failed;

    template <typename Group>
    HOMI_FN void operator()(const Group &group, homi::reader *r, uint32_t number) const
    {
        uint8_t *const mine = target == nullptr ? nullptr : target + number * SLOTS * length;
        random_source pieces = {source, length, source.size / length, each, number * 0x100000000ull, mine, SLOTS};
        homi::status_t const status = homi::read_all(group, r, &pieces);
        if (status != homi::NVME_SUCCESS && group.rank() == 0)
            *failed = status;
    }
};

/* Copies the registered memory over and over, with no commands: what the copying alone can do. */
struct copy_only {
    uint64_t rounds;
    uint8_t *target;

    template <typename Group>
    HOMI_FN void operator()(const Group &group, homi::reader *r, uint32_t number) const
    {
        homi::transfer const all = {target + number * r->staging.length, r->memory, r->staging.length};
        for (uint64_t n = 0; n < rounds; n++) {
            homi::copy_all(group, &all, 1);
            group.sync();
        }
    }
};

/* How often each row is measured; machines are noisy, so it shows the median. */
constexpr size_t REPETITIONS = 3;

/* Pieces a second by all readers: work of `each` pieces for each, more and more until it takes long enough, then as
 * often as rows are measured. The median. */
template <typename Make>
double a_second(homi::readers *all, double seconds, Make make)
{
    uint64_t each = 8;
    double took = all->run(members::block, all->count(), make(each));
    while (took < seconds / 2 && each < (1ull << 40)) {
        double const more = seconds / std::max(took, 1e-4);
        each = static_cast<uint64_t>(static_cast<double>(each) * std::min(std::max(more, 2.0), 64.0));
        took = all->run(members::block, all->count(), make(each));
    }
    std::vector<double> all_took = {took};
    while (all_took.size() < REPETITIONS)
        all_took.push_back(all->run(members::block, all->count(), make(each)));
    std::sort(all_took.begin(), all_took.end());
    return static_cast<double>(each) * all->count() / all_took[REPETITIONS / 2];
}

void measure_all(const measure::arguments &a)
{
    homi::descriptor const file = measure::open_file(a.path, 0);
    uint64_t size, block;
    {
        homi::session from(file.get());
        homi_file const about = from.open(file.get());
        size = about.size;
        block = about.block_size;
    }
    double const link = measure::link_speed();
    std::vector<uint32_t> pairs = a.pairs;
    if (pairs.empty())
        pairs = !HOMI_ACCELERATOR ? std::vector<uint32_t>{2} : a.quick ? std::vector<uint32_t>{32} : std::vector<uint32_t>{32, 64};
    std::vector<uint32_t> lengths = a.bytes;
    if (lengths.empty())
        lengths = {512, 4096, 65536, 1048576};
    std::printf("%s; plain copy over the link: %.1f GB/s; medians of %zu\n\n", a.title, link, REPETITIONS);
    std::printf("| bytes | to | pairs | reads/s | GB/s | share of the link |\n|---:|---|---:|---:|---:|---:|\n");
    homi::device_array<uint32_t> failed(1);
    for (uint32_t count : pairs) {
        for (uint64_t length : lengths) {
            if (length % 512 != 0 || size < length * 16)
                continue;
            /* A session for each row: queues of an earlier one would cost the mediators' time. */
            homi::session from(file.get());
            homi::file const source = homi::as_source(from.open(file.get()));
            uint64_t const batch = length <= 4096 ? 64 : length <= 65536 ? 8 : 1;
            homi::readers all(&from, {count, 256, std::max(length, block) * batch * 2, 0, 20});
            homi::device_array<uint8_t> target(count * SLOTS * length);
            for (bool bring : {false, true}) {
                uint8_t *const to = bring ? target.get() : nullptr;
                double const rate = a_second(&all, a.seconds(), [&](uint64_t each) {
                    return read_randomly{source, length, each, to, failed.get()};
                });
                uint32_t status = 0;
                failed.take(&status, 1);
                if (status != 0 || all.strays() != 0)
                    throw homi::failure("a command failed with status " + std::to_string(status));
                double const speed = rate * static_cast<double>(length) / 1e9;
                std::printf("| %s | %s | %u | %.0f | %.2f | ", measure::in_words(length).c_str(),
                            bring ? "accelerator" : "host", count, rate, speed);
                measure::end_row(speed, link);
            }
        }
        uint64_t const share = 512 << 10;
        homi::session from(file.get());
        homi::readers all(&from, {count, 256, share, 0, 20});
        homi::device_array<uint8_t> target(count * share);
        double const rate = a_second(&all, a.seconds(), [&](uint64_t each) { return copy_only{each, target.get()}; });
        double const speed = rate * static_cast<double>(share) / 1e9;
        std::printf("| copying alone | accelerator | %u | - | %.2f | ", count, speed);
        measure::end_row(speed, link);
    }
}

} // namespace

int main(int argc, char **argv) { return measure::run(argc, argv, measure_all); }
