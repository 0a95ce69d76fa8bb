/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An accelerator that checksums a file which it reads itself: the host opens the file and starts the kernel, no more.
 *
 *     nvcc -O3 -std=c++17 -arch=native -I gpu/device/include -I gpu/abi/include gpu/device/examples/checksum.cu -o checksum
 *     ./checksum FILE        # on a mount of homifs, mounted with -o clients=N
 *
 * The sum adds up every byte times a number that its place gives, so neither a wrong byte nor a wrong place goes unseen.
 * The host then does the same by read(2), to compare.
 */
#include "homi/readers.h"

#include <cstdio>
#include <cstdlib>

namespace {

/* How much each group reads at a time. */
constexpr uint64_t PART = 1 << 20;

#if HOMI_ACCELERATOR
__host__ __device__
#endif
    inline uint64_t
    weighed(uint8_t byte, uint64_t place)
{
    uint64_t const factor = (place + 1) * 0x9e3779b97f4a7c15ull;
    return (byte + 1ull) * (factor ^ (factor >> 29));
}

HOMI_FN void add(uint64_t *sum, uint64_t more)
{
#if HOMI_ACCELERATOR
    atomicAdd(reinterpret_cast<unsigned long long *>(sum), static_cast<unsigned long long>(more));
#else
    __atomic_fetch_add(sum, more, __ATOMIC_RELAXED);
#endif
}

struct checksum {
    homi::file source;
    uint32_t groups;
    /* PART bytes for each group. */
    uint8_t *memory;
    uint64_t *sum;
    uint32_t *failed;

    template <typename Group>
    HOMI_FN void operator()(const Group &group, homi::reader *r, uint32_t number) const
    {
        uint8_t *const part = memory + number * PART;
        uint64_t mine = 0;
        for (uint64_t at = number * PART; at < source.size; at += groups * PART) {
            homi::result const got = homi::homi_read(group, r, source, at, PART, part);
            if (got.status != homi::NVME_SUCCESS) {
                if (group.rank() == 0)
                    *failed = got.status;
                return;
            }
            for (uint64_t n = group.rank(); n < got.bytes; n += group.size())
                mine += weighed(part[n], at + n);
            /* The next read overwrites what others may still be adding up. */
            group.sync();
        }
        add(sum, mine);
    }
};

uint64_t by_read(int file)
{
    std::vector<uint8_t> bytes(PART);
    uint64_t sum = 0, at = 0;
    while (true) {
        ssize_t const now = pread(file, bytes.data(), bytes.size(), static_cast<off_t>(at));
        if (now < 0)
            homi::fail_by_errno("read the file");
        if (now == 0)
            return sum;
        for (ssize_t n = 0; n < now; n++)
            sum += weighed(bytes[static_cast<size_t>(n)], at + static_cast<uint64_t>(n));
        at += static_cast<uint64_t>(now);
    }
}

int run(const char *path)
{
    homi::descriptor const file(open(path, O_RDONLY | O_CLOEXEC));
    if (file.get() < 0)
        homi::fail_by_errno(std::string("open ") + path);
    homi::session from(file.get());
    homi::file const source = homi::as_source(from.open(file.get()));
    uint32_t const groups = HOMI_ACCELERATOR ? 64 : 2;
    homi::readers all(&from, {groups, 64, 512 << 10, 64 << 10, 30});
    homi::device_array<uint8_t> memory(groups * PART);
    homi::device_array<uint64_t> sum(1);
    homi::device_array<uint32_t> failed(1);
    double const seconds = all.run(homi::members::block, groups,
                                   checksum{source, groups, memory.get(), sum.get(), failed.get()});
    uint64_t ours = 0;
    uint32_t status = 0;
    sum.take(&ours, 1);
    failed.take(&status, 1);
    if (status != 0) {
        std::fprintf(stderr, "%s: a command failed with status %#x\n", path, status);
        return 1;
    }
    uint64_t const theirs = by_read(file.get());
    std::printf("%s: %llu bytes, %.2f GB/s, checksum %016llx; by read(2) %016llx\n", path,
                static_cast<unsigned long long>(source.size), static_cast<double>(source.size) / seconds / 1e9,
                static_cast<unsigned long long>(ours), static_cast<unsigned long long>(theirs));
    return ours == theirs ? 0 : 1;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::fprintf(stderr, "checksum FILE, on a mount of homifs that was mounted with -o clients=N\n");
        return 2;
    }
    try {
        return run(argv[1]);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
}
