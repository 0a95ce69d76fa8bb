/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reads files by queues in every way that there is, and compares every byte with read(2): whole files and odd ranges, by
 * a thread, a warp and a block, by many groups at once (gather, shared out evenly or as they come to it), and
 * asynchronously. With a host compiler, groups are threads. Exits with 1 where a byte differs.
 *
 *     nvcc -O3 -std=c++17 -arch=native -I gpu/device/include -I gpu/abi/include gpu/device/tests/compare.cu -o compare
 *     g++ -O2 -std=c++17 -pthread -x c++ -I gpu/device/include -I gpu/abi/include gpu/device/tests/compare.cu -o compare
 *     ./compare [--prp] PAIRS FILE...
 *
 * With --prp commands name memory by PRPs although the daemon knows SGLs. Lease words are looked at by the groups, too: a
 * file is held while it is open, and not afterwards.
 */
#include "homi/readers.h"

#include <cstdio>
#include <cstdlib>

namespace {

using homi::members;

/* Most bytes of one file that are read: what is longer has its beginning, its middle and its end read. */
constexpr uint64_t MOST = 8 << 20;

/* Answers of all groups, in memory of the accelerator. */
struct answers {
    uint32_t failed;
    uint32_t status;
};

template <typename Group>
HOMI_FN void note(const Group &group, answers *a, homi::status_t status)
{
    if (status != homi::NVME_SUCCESS && group.rank() == 0) {
        a->failed = 1;
        a->status = status;
    }
}

/* What all ways of reading a list are given. */
struct listed {
    const homi::request *requests;
    uint64_t count;
    uint32_t groups;
    answers *said;
    uint32_t *taken;
};

/* All groups share one list. */
struct gather_work : listed {
    template <typename Group>
    HOMI_FN void operator()(const Group &group, homi::reader *r, uint32_t number) const
    {
        note(group, said, homi::homi_gather(group, r, requests, count, number, groups).status);
    }
};

/* All groups take requests of one list as they come to them. */
struct shared_work : listed {
    template <typename Group>
    HOMI_FN void operator()(const Group &group, homi::reader *r, uint32_t) const
    {
        note(group, said, homi::homi_gather_shared(group, r, requests, count, groups, taken).status);
    }
};

/* Each group reads the requests whose number is its own, one after another. */
struct read_work : listed {
    template <typename Group>
    HOMI_FN void operator()(const Group &group, homi::reader *r, uint32_t number) const
    {
        for (uint64_t n = number; n < count; n += groups) {
            homi::request const &one = requests[n];
            homi::result const got = homi::homi_read(group, r, one.source, one.offset, one.length, one.target);
            note(group, said, got.status);
            if (got.bytes != homi::gather_source::there(one))
                note(group, said, homi::HOMI_INVALID);
        }
    }
};

/* The same, a piece at a time, with the next one under way while the last is waited for. */
struct async_work : listed {
    template <typename Group>
    HOMI_FN void operator()(const Group &group, homi::reader *r, uint32_t number) const
    {
        for (uint64_t n = number; n < count; n += groups) {
            homi::request const &one = requests[n];
            uint64_t const length = homi::gather_source::there(one), step = r->piece / 2;
            homi::pending last = {0, homi::NVME_SUCCESS, 0};
            bool under_way = false;
            uint32_t half = 0;
            for (uint64_t at = 0; at < length; at += step) {
                uint64_t const now = length - at < step ? length - at : step;
                homi::pending const next = homi::homi_issue(group, r, half, one.source, one.offset + at, now, one.target + at);
                if (under_way)
                    note(group, said, homi::homi_wait(group, r, last).status);
                last = next;
                under_way = true;
                half ^= 1;
            }
            if (under_way)
                note(group, said, homi::homi_wait(group, r, last).status);
        }
    }
};

/* What a file's lease word says: 1 that it is held, 2 that it is not. */
struct look_work {
    homi::file source;
    uint32_t *held;

    template <typename Group>
    HOMI_FN void operator()(const Group &group, homi::reader *, uint32_t) const
    {
        if (group.rank() == 0)
            *held = homi::lease_held(source) ? 1 : 2;
    }
};

struct opened_file {
    std::string path;
    homi::descriptor file;
    homi_file about;
};

class comparison {
  public:
    comparison(homi::session *from, uint32_t pairs)
        : readers_(from, {pairs, 32, 256 << 10, 64 << 10, 30}), said_(1), taken_(1), leases_(*from), held_(1)
    {
        if (!leases_.why().empty())
            std::printf("lease words are not looked at: %s\n", leases_.why().c_str());
    }

    /* Whether the groups see that a file is held, or that it is not; false, and a word about it, where they do not. */
    bool lease_is(bool held, const opened_file &f)
    {
        homi::file const source = homi::as_source(f.about, leases_);
        if (source.lease == nullptr)
            return true;
        readers_.run(members::warp, 1, look_work{source, held_.get()});
        uint32_t seen = 0;
        held_.take(&seen, 1);
        if (seen == (held ? 1u : 2u))
            return true;
        std::fprintf(stderr, "%s: its lease is%s held\n", f.path.c_str(), held ? " not" : " still");
        return false;
    }

    /* Reads these ranges of a file in one way; false, and a word about it, where a byte differs. */
    template <typename Work>
    bool same(const char *way, members who, const opened_file &f, const std::vector<homi::request> &ranges)
    {
        uint64_t all = 0;
        for (const homi::request &r : ranges)
            all += r.length + 64;
        homi::device_array<uint8_t> target(all);
        homi::device_array<homi::request> list(ranges.size());
        std::vector<homi::request> placed = ranges;
        /* Targets of any alignment. */
        uint64_t at = 0;
        for (size_t n = 0; n < placed.size(); n++) {
            placed[n].target = target.get() + at + n % 17;
            at += placed[n].length + 64;
        }
        list.put(placed.data(), placed.size());
        answers said = {0, 0};
        said_.put(&said, 1);
        uint32_t const none = 0;
        taken_.put(&none, 1);
        readers_.run(who, readers_.count(), Work{{list.get(), placed.size(), readers_.count(), said_.get(), taken_.get()}});
        said_.take(&said, 1);
        if (said.failed != 0 || readers_.strays() != 0) {
            std::fprintf(stderr, "%s: %s: a command failed with status %#x\n", f.path.c_str(), way, said.status);
            return false;
        }
        std::vector<uint8_t> here(all), wanted;
        target.take(here.data(), all);
        at = 0;
        for (size_t n = 0; n < placed.size(); n++) {
            /* What was not asked for stays as it was: zero. */
            std::vector<uint8_t> expected(placed[n].length + 64);
            if (!read_there(f, placed[n], expected.data() + n % 17))
                return false;
            if (!std::equal(expected.begin(), expected.end(), here.begin() + static_cast<ptrdiff_t>(at))) {
                std::fprintf(stderr, "%s: %s: %llu bytes at %llu differ from read(2)\n", f.path.c_str(), way,
                             static_cast<unsigned long long>(placed[n].length),
                             static_cast<unsigned long long>(placed[n].offset));
                return false;
            }
            at += expected.size();
            bytes_ += placed[n].length;
        }
        return true;
    }

    uint64_t bytes() const { return bytes_; }
    uint64_t commands() const { return readers_.commands(); }

  private:
    static bool read_there(const opened_file &f, const homi::request &r, uint8_t *to)
    {
        uint64_t const wanted = r.offset < f.about.size ? std::min(r.length, f.about.size - r.offset) : 0;
        uint64_t done = 0;
        while (done < wanted) {
            ssize_t const now = pread(f.file.get(), to + done, wanted - done, static_cast<off_t>(r.offset + done));
            if (now <= 0) {
                std::perror(f.path.c_str());
                return false;
            }
            done += static_cast<uint64_t>(now);
        }
        return true;
    }

    homi::readers readers_;
    homi::device_array<answers> said_;
    homi::device_array<uint32_t> taken_;
    homi::leases leases_;
    homi::device_array<uint32_t> held_;
    uint64_t bytes_ = 0;
};

std::vector<homi::request> whole(const opened_file &f)
{
    homi::file const source = homi::as_source(f.about);
    uint64_t const size = f.about.size;
    if (size <= MOST)
        return {{source, 0, size, nullptr}};
    return {{source, 0, MOST / 4, nullptr}, {source, size / 2, MOST / 4, nullptr}, {source, size - MOST / 4, MOST / 4, nullptr}};
}

/* Ranges that begin and end anywhere, some past the file's end. */
std::vector<homi::request> odd(const opened_file &f, uint64_t count)
{
    homi::file const source = homi::as_source(f.about);
    std::vector<homi::request> ranges;
    uint64_t random = f.about.inode * 0x9e3779b97f4a7c15ull + 1;
    auto draw = [&random](uint64_t below) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        return random % below;
    };
    for (uint64_t n = 0; n < count; n++)
        ranges.push_back({source, draw(f.about.size + 100), 1 + draw(n % 4 == 0 ? 200000 : 9000), nullptr});
    ranges.push_back({source, f.about.size - std::min<uint64_t>(f.about.size, 1), 5000, nullptr});
    ranges.push_back({source, f.about.size, 1, nullptr});
    return ranges;
}

int compare(bool by_prp, uint32_t pairs, char **paths, int count)
{
    std::vector<opened_file> files;
    for (int n = 0; n < count; n++) {
        homi::descriptor file(open(paths[n], O_RDONLY | O_CLOEXEC));
        if (file.get() < 0)
            homi::fail_by_errno(std::string("open ") + paths[n]);
        files.push_back({paths[n], std::move(file), {}});
    }
    homi::session from(files.at(0).file.get());
    if (by_prp)
        from.use_prp();
    comparison c(&from, pairs);
    bool good = true;
    for (opened_file &f : files) {
        f.about = from.open(f.file.get());
        std::vector<homi::request> const all = whole(f), some = odd(f, 40);
        good &= c.lease_is(true, f);
        good &= c.same<gather_work>("gather by blocks", members::block, f, all);
        good &= c.same<gather_work>("gather of ranges by blocks", members::block, f, some);
        good &= c.same<shared_work>("gather of ranges by blocks that take them", members::block, f, some);
        good &= c.same<shared_work>("gather by blocks that take files", members::block, f, all);
        good &= c.same<read_work>("read by blocks", members::block, f, some);
        good &= c.same<async_work>("issue and wait by blocks", members::block, f, some);
        if (HOMI_ACCELERATOR) {
            good &= c.same<gather_work>("gather by warps", members::warp, f, all);
            good &= c.same<shared_work>("gather of ranges by warps that take them", members::warp, f, some);
            good &= c.same<read_work>("read by warps", members::warp, f, some);
            good &= c.same<read_work>("read by threads", members::thread, f, some);
            good &= c.same<async_work>("issue and wait by threads", members::thread, f, some);
        }
        from.close_file(f.about);
        good &= c.lease_is(false, f);
    }
    std::printf("%s: %d files, %llu bytes by %llu commands with %s of %u pairs: %s\n",
                HOMI_ACCELERATOR ? "accelerator" : "host", count, static_cast<unsigned long long>(c.bytes()),
                static_cast<unsigned long long>(c.commands()), from.by_prp() ? "PRPs" : "SGLs", pairs,
                good ? "alike" : "DIFFERENT");
    return good ? 0 : 1;
}

} // namespace

int main(int argc, char **argv)
{
    bool const by_prp = argc > 1 && std::string(argv[1]) == "--prp";
    if (by_prp) {
        argc--;
        argv++;
    }
    if (argc < 3) {
        std::fprintf(stderr, "compare [--prp] PAIRS FILE...: files of one mount of homifs, mounted with -o clients=N\n");
        return 2;
    }
    try {
        return compare(by_prp, static_cast<uint32_t>(std::strtoul(argv[1], nullptr, 10)), argv + 2, argc - 2);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
}
