/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reads a whole tree through one snapshot, with no call for any file: the groups find each path in the arena by its hash,
 * gather all files from the one namespace of the snapshot, and every byte is compared with read(2). Paths come from a walk
 * through the directory, not from the arena. Then the same is done again for the time that it takes.
 *
 *     nvcc -O3 -std=c++17 -arch=native -I gpu/device/include -I gpu/abi/include gpu/device/tests/snapshot.cu -o snapshot
 *     g++ -O2 -std=c++17 -pthread -x c++ -I gpu/device/include -I gpu/abi/include gpu/device/tests/snapshot.cu -o snapshot
 *     ./snapshot [--prp] PAIRS DIRECTORY
 *
 * Of files of more than 8 MiB only the beginning is read. Exits with 1 where a file is missing or a byte differs.
 */
#include "homi/readers.h"
#include "homi/snapshot.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace {

using homi::members;

constexpr uint64_t MOST = 8 << 20;
/* What targets are multiples of. */
constexpr uint64_t TARGETS = 128;
/* How often the time is measured; the median counts. */
constexpr size_t REPETITIONS = 3;

/* A path among all paths, and the place in the target that its file is read to. */
struct wanted {
    uint64_t path_at;
    uint64_t path_length;
    uint64_t place;
};

/* Answers of all groups, in memory of the accelerator. */
struct answers {
    /* The arena is none. */
    uint32_t no_arena;
    /* The number, from 1 on, of some path that is not in it. */
    uint32_t missing;
    /* Of some command that failed. */
    uint32_t status;
    /* The lease word of the snapshot: 1 held, 2 not. */
    uint32_t lease;
};

/* Each member finds the paths whose turn it is, and writes down what has to be read for them. */
struct find_work {
    const uint8_t *arena;
    uint64_t arena_length;
    homi::file all;
    const char *paths;
    const wanted *files;
    uint64_t count;
    uint8_t *target;
    homi::request *requests;
    uint32_t groups;
    answers *said;

    template <typename Group>
    HOMI_FN void operator()(const Group &group, homi::reader *, uint32_t number) const
    {
        homi::snapshot s;
        if (!homi::snapshot_open(&s, arena, arena_length)) {
            said->no_arena = 1;
            return;
        }
        if (group.rank() == 0 && number == 0)
            said->lease = homi::lease_held(all) ? 1 : 2;
        uint64_t const step = static_cast<uint64_t>(groups) * group.size();
        for (uint64_t n = static_cast<uint64_t>(number) * group.size() + group.rank(); n < count; n += step) {
            wanted const one = files[n];
            const homi_snapshot_file *const found =
                homi::snapshot_lookup(&s, paths + one.path_at, static_cast<uint32_t>(one.path_length));
            homi::request made = {all, 0, 0, nullptr};
            if (found == nullptr) {
                said->missing = static_cast<uint32_t>(n) + 1;
            } else {
                made.offset = homi::start_of(&s, found);
                made.length = found->size < MOST ? found->size : MOST;
                made.target = target + one.place;
            }
            requests[n] = made;
        }
    }
};

/* All groups take files of the list that was made as they come to them. */
struct gather_work {
    const homi::request *requests;
    uint64_t count;
    uint32_t groups;
    answers *said;
    uint32_t *taken;

    template <typename Group>
    HOMI_FN void operator()(const Group &group, homi::reader *r, uint32_t) const
    {
        homi::result const got = homi::homi_gather_shared(group, r, requests, count, groups, taken);
        if (got.status != homi::NVME_SUCCESS && group.rank() == 0)
            said->status = got.status;
    }
};

/* What the walk found. */
struct tree {
    std::string paths;
    std::vector<wanted> files;
    std::vector<uint64_t> sizes;
    uint64_t bytes = 0;
    uint64_t target_bytes = 0;

    explicit tree(const std::string &directory)
    {
        using walk = std::filesystem::recursive_directory_iterator;
        for (const std::filesystem::directory_entry &one : walk(directory)) {
            if (one.is_symlink() || !one.is_regular_file())
                continue;
            std::string const path = one.path().lexically_relative(directory).string();
            uint64_t const size = std::min<uint64_t>(one.file_size(), MOST);
            files.push_back({paths.size(), path.size(), target_bytes});
            sizes.push_back(size);
            paths += path;
            bytes += size;
            target_bytes += (size + TARGETS - 1) / TARGETS * TARGETS + TARGETS;
        }
        if (files.empty())
            throw homi::failure(directory + " has no files");
    }

    std::string path_of(size_t n) const { return paths.substr(files[n].path_at, files[n].path_length); }
};

/* Whether a file is as it was read, and nothing was written behind it. */
bool same(const std::string &path, const uint8_t *ours, uint64_t size)
{
    homi::descriptor const file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0)
        homi::fail_by_errno("open " + path);
    std::vector<uint8_t> theirs(size);
    uint64_t done = 0;
    while (done < size) {
        ssize_t const now = pread(file.get(), theirs.data() + done, size - done, static_cast<off_t>(done));
        if (now <= 0)
            homi::fail_by_errno("read " + path);
        done += static_cast<uint64_t>(now);
    }
    bool const clean = std::all_of(ours + size, ours + size + TARGETS, [](uint8_t byte) { return byte == 0; });
    return clean && std::memcmp(ours, theirs.data(), size) == 0;
}

class reading {
  public:
    reading(homi::session *from, const homi::snapshot_memory &taken, const tree &all, uint32_t pairs)
        : all_(all), leases_(*from), namespace_(homi::as_source(taken, leases_)),
          readers_(from, {pairs, 128, 2 << 20, 0, 30}), arena_(taken.arena.length()), paths_(all.paths.size()),
          files_(all.files.size()), requests_(all.files.size()), target_(all.target_bytes), said_(1), taken_(1)
    {
        /* Looking things up reads here and there: that wants memory of the accelerator's own. */
        arena_.put(taken.arena.start(), taken.arena.length());
        paths_.put(all.paths.data(), all.paths.size());
        files_.put(all.files.data(), all.files.size());
        if (!leases_.why().empty())
            std::printf("the lease word is not looked at: %s\n", leases_.why().c_str());
    }

    /* Finds all files; the seconds that it took. */
    double find(members who)
    {
        return readers_.run(who, readers_.count(),
                            find_work{arena_.get(), arena_.count(), namespace_, paths_.get(), files_.get(),
                                      files_.count(), target_.get(), requests_.get(), readers_.count(), said_.get()});
    }

    /* Reads what was found; the seconds that it took. */
    double gather(members who)
    {
        uint32_t const none = 0;
        taken_.put(&none, 1);
        return readers_.run(who, readers_.count(),
                            gather_work{requests_.get(), requests_.count(), readers_.count(), said_.get(), taken_.get()});
    }

    /* False, and a word about it, where something went wrong. */
    bool went_well(const char *way) const
    {
        answers said{};
        said_.take(&said, 1);
        if (said.no_arena != 0)
            std::fprintf(stderr, "%s: the arena is none\n", way);
        else if (said.missing != 0)
            std::fprintf(stderr, "%s: %s is not in the arena\n", way, all_.path_of(said.missing - 1).c_str());
        else if (said.lease != 1)
            std::fprintf(stderr, "%s: the snapshot is not held\n", way);
        else if (said.status != 0 || readers_.strays() != 0)
            std::fprintf(stderr, "%s: a command failed with status %#x\n", way, said.status);
        else
            return true;
        return false;
    }

    /* Finds and reads all, and compares every byte. */
    bool compare(const char *way, members who, const std::string &directory)
    {
        std::vector<uint8_t> here(all_.target_bytes, 0);
        target_.put(here.data(), here.size());
        find(who);
        gather(who);
        if (!went_well(way))
            return false;
        target_.take(here.data(), here.size());
        for (size_t n = 0; n < all_.files.size(); n++)
            if (!same(directory + "/" + all_.path_of(n), here.data() + all_.files[n].place, all_.sizes[n])) {
                std::fprintf(stderr, "%s: %s differs from read(2)\n", way, all_.path_of(n).c_str());
                return false;
            }
        return true;
    }

  private:
    const tree &all_;
    homi::leases leases_;
    homi::file namespace_;
    homi::readers readers_;
    homi::device_array<uint8_t> arena_;
    homi::device_array<char> paths_;
    homi::device_array<wanted> files_;
    homi::device_array<homi::request> requests_;
    homi::device_array<uint8_t> target_;
    homi::device_array<answers> said_;
    homi::device_array<uint32_t> taken_;
};

double median(std::vector<double> values)
{
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

int run(bool by_prp, uint32_t pairs, const std::string &directory)
{
    homi::descriptor const opened(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (opened.get() < 0)
        homi::fail_by_errno("open " + directory);
    tree const all(directory);
    homi::session from(opened.get());
    if (by_prp)
        from.use_prp();
    homi::snapshot_memory const taken = from.snapshot(opened.get());
    if (taken.reply.left_out == 0 && taken.reply.files != all.files.size()) {
        std::fprintf(stderr, "%llu files in the arena, %zu in the directory\n",
                     static_cast<unsigned long long>(taken.reply.files), all.files.size());
        return 1;
    }
    {
        reading r(&from, taken, all, pairs);
        bool good = r.compare("by blocks", members::block, directory);
        if (HOMI_ACCELERATOR)
            good &= r.compare("by warps", members::warp, directory);
        if (!good)
            return 1;
        std::vector<double> finding, gathering;
        for (size_t n = 0; n < REPETITIONS; n++) {
            finding.push_back(r.find(members::block));
            gathering.push_back(r.gather(members::block));
        }
        if (!r.went_well("once more"))
            return 1;
        double const files = static_cast<double>(all.files.size()), bytes = static_cast<double>(all.bytes);
        double const found = median(finding), gathered = median(gathering);
        std::printf("%s, %s, %u pairs, medians of %zu\n\n| files | mean size | found/s | files/s, found and read | GB/s |\n"
                    "|---:|---:|---:|---:|---:|\n| %.0f | %.0f B | %.0f | %.0f | %.2f |\n\n",
                    HOMI_ACCELERATOR ? "accelerator" : "host", from.by_prp() ? "PRPs" : "SGLs", pairs, REPETITIONS, files,
                    bytes / files, files / found, files / (found + gathered), bytes / (found + gathered) / 1e9);
    }
    from.close_snapshot(taken);
    std::printf("%zu files, %llu bytes through one namespace: alike\n", all.files.size(),
                static_cast<unsigned long long>(all.bytes));
    return 0;
}

} // namespace

int main(int argc, char **argv)
{
    bool const by_prp = argc > 1 && std::string(argv[1]) == "--prp";
    if (argc != (by_prp ? 4 : 3)) {
        std::fprintf(stderr, "snapshot [--prp] PAIRS DIRECTORY: on a mount of homifs, mounted with -o clients=N\n");
        return 2;
    }
    try {
        return run(by_prp, static_cast<uint32_t>(std::strtoul(argv[argc - 2], nullptr, 10)), argv[argc - 1]);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
}
