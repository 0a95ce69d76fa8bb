/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * How many random reads a second, and how many bytes, into host memory and on into the accelerator's: against what a
 * plain copy over the link gives.
 *
 *     throughput [--quick] [--pairs N[,N...]] [--bytes N[,N...]] [--batch N] [--title TEXT] FILE
 */
#include "measure.h"

namespace {

using homi::members;

/* What is read in a run, and who takes what of it: groups take portions as they come to them, since a run in which each had
 * its part from the beginning would last as long as the slowest of them. */
struct portions {
    uint32_t *taken;
    uint32_t count;
    /* Pieces of each. */
    uint32_t size;
};

constexpr uint32_t SLOTS = 32;

/* Random pieces of one length of a file; targets go round in SLOTS places. */
template <typename Group>
struct random_source {
    const Group &group;
    homi::file source;
    uint64_t length;
    uint64_t places;
    portions all;
    homi::reader *reader;
    uint8_t *target;
    uint64_t at;
    uint32_t left;

    HOMI_FN void take()
    {
        uint32_t const mine = homi::take_together(group, reader, all.taken);
        at = static_cast<uint64_t>(mine) * all.size;
        left = mine < all.count ? all.size : 0;
    }

    HOMI_FN bool peek(homi::piece *p) const
    {
        if (left == 0)
            return false;
        p->source = source;
        p->offset = measure::scattered(at) % places * length;
        p->length = length;
        p->target = target == nullptr ? nullptr : target + at % SLOTS * length;
        return true;
    }

    HOMI_FN void next()
    {
        at++;
        if (--left == 0)
            take();
    }
};

struct read_randomly {
    homi::file source;
    uint64_t length;
    portions all;
    /* Null for host memory. */
    uint8_t *target;
    uint32_t *failed;

    template <typename Group>
    HOMI_FN void operator()(const Group &group, homi::reader *r, uint32_t number) const
    {
        uint8_t *const mine = target == nullptr ? nullptr : target + number * SLOTS * length;
        random_source<Group> pieces = {group, source, length, source.size / length, all, r, mine, 0, 0};
        pieces.take();
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

/* Memory that commands of all pairs have, about: what processors write here, and the accelerator reads, stays in their
 * caches. */
constexpr uint64_t NEAR = 12 << 20;

/* Commands that each of so many pairs sends together; twice as many are under way. */
uint64_t batch_of(uint32_t pairs, uint64_t length)
{
    uint64_t const fits = NEAR / (2 * pairs * length), least = length <= 65536 ? 4 : 1;
    return std::min<uint64_t>(std::max(fits, least), 64);
}

/* How often each row is measured; machines are noisy, so it shows the median. */
constexpr size_t REPETITIONS = 3;

/* Pieces of work a second by all readers: from `least` on more and more until it takes long enough, then as often as rows are
 * measured. The median. */
template <typename Make>
double a_second(homi::readers *all, uint32_t least, double seconds, Make make)
{
    uint32_t count = least;
    double took = all->run(members::block, all->count(), make(count));
    while (took < seconds / 2 && count < (1u << 30)) {
        double const more = seconds / std::max(took, 1e-4);
        count = static_cast<uint32_t>(std::min(count * std::min(std::max(more, 2.0), 64.0), 1.0 * (1u << 30)));
        took = all->run(members::block, all->count(), make(count));
    }
    std::vector<double> all_took = {took};
    while (all_took.size() < REPETITIONS)
        all_took.push_back(all->run(members::block, all->count(), make(count)));
    std::sort(all_took.begin(), all_took.end());
    return count / all_took[REPETITIONS / 2];
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
            uint64_t const batch = a.batch == 0 ? batch_of(count, std::max(length, block)) : a.batch;
            homi::readers all(&from, {count, 256, std::max(length, block) * batch * 2, 0, 20});
            homi::device_array<uint8_t> target(count * SLOTS * length);
            homi::device_array<uint32_t> taken(1);
            uint32_t const size = static_cast<uint32_t>(std::min<uint64_t>(std::max<uint64_t>((1 << 20) / length, 4), 256));
            for (bool bring : {false, true}) {
                uint8_t *const to = bring ? target.get() : nullptr;
                double const rate = size * a_second(&all, count, a.seconds(), [&](uint32_t number) {
                    uint32_t const none = 0;
                    taken.put(&none, 1);
                    return read_randomly{source, length, {taken.get(), number, size}, to, failed.get()};
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
        double const rate = count * a_second(&all, 8, a.seconds(), [&](uint32_t each) { return copy_only{each, target.get()}; });
        double const speed = rate * static_cast<double>(share) / 1e9;
        std::printf("| copying alone | accelerator | %u | - | %.2f | ", count, speed);
        measure::end_row(speed, link);
    }
}

} // namespace

int main(int argc, char **argv) { return measure::run(argc, argv, measure_all); }
