/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the programs that measure have in common: their arguments, tables, and how they end. Status 77 means skipped, and
 * standard output says why.
 */
#ifndef HOMI_MEASURE_H
#define HOMI_MEASURE_H

#include "homi/readers.h"

#include <cstdio>
#include <cstdlib>

namespace measure {

struct skipped : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct arguments {
    const char *path = nullptr;
    const char *title = "";
    /* The image that the mount is of. */
    const char *image = nullptr;
    bool quick = false;
    /* Queue pairs to measure with; none for those that the program chooses. */
    std::vector<uint32_t> pairs;
    /* Bytes of a read; none for those that the program chooses. */
    std::vector<uint32_t> bytes;
    /* Reads of a pair that are sent together; 0 for what the program chooses. */
    uint32_t batch = 0;
    /* Threads; none for those that the program chooses. */
    std::vector<uint32_t> threads;
    /* How long one figure may be measured for. */
    double seconds() const { return quick || !HOMI_ACCELERATOR ? 0.1 : 0.3; }
};

/* "32,64" as numbers. */
inline std::vector<uint32_t> read_numbers(const char *text, uint32_t most)
{
    std::vector<uint32_t> numbers;
    for (const char *at = text; *at != '\0';) {
        char *end = nullptr;
        unsigned long const number = std::strtoul(at, &end, 10);
        if (end == at || number == 0 || number > most)
            throw homi::failure(std::string(text) + " is no list of numbers from 1 to " + std::to_string(most) + ", like 32,64");
        numbers.push_back(static_cast<uint32_t>(number));
        at = *end == ',' ? end + 1 : end;
    }
    return numbers;
}

inline uint32_t read_number(const char *text, uint32_t most)
{
    std::vector<uint32_t> const numbers = read_numbers(text, most);
    if (numbers.size() != 1)
        throw homi::failure(std::string(text) + " is not one number");
    return numbers[0];
}

inline arguments read_arguments(int argc, char **argv)
{
    arguments a;
    for (int n = 1; n < argc; n++) {
        std::string const one = argv[n];
        if (one == "--quick")
            a.quick = true;
        else if (one == "--pairs" && n + 1 < argc)
            a.pairs = read_numbers(argv[++n], 4096);
        else if (one == "--bytes" && n + 1 < argc)
            a.bytes = read_numbers(argv[++n], 1 << 20);
        else if (one == "--batch" && n + 1 < argc)
            a.batch = read_number(argv[++n], homi::READER_BATCH);
        else if (one == "--threads" && n + 1 < argc)
            a.threads = read_numbers(argv[++n], 1024);
        else if (one == "--title" && n + 1 < argc)
            a.title = argv[++n];
        else if (one == "--image" && n + 1 < argc)
            a.image = argv[++n];
        else
            a.path = argv[n];
    }
    if (a.path == nullptr)
        throw homi::failure("name a file on a mount of homifs, mounted with -o clients=N");
    return a;
}

inline homi::descriptor open_file(const char *path, int flags)
{
    homi::descriptor file(open(path, O_RDONLY | O_CLOEXEC | flags));
    if (file.get() < 0)
        homi::fail_by_errno(std::string("open ") + path);
    return file;
}

/* 4 KiB, 1 MiB, 512 B. */
inline std::string in_words(uint64_t bytes)
{
    if (bytes >= 1u << 20)
        return std::to_string(bytes >> 20) + " MiB";
    return bytes >= 1u << 10 ? std::to_string(bytes >> 10) + " KiB" : std::to_string(bytes) + " B";
}

/* A number that looks like any other, from a number. */
#if HOMI_ACCELERATOR
__host__ __device__
#endif
    inline uint64_t
    scattered(uint64_t n)
{
    n = (n + 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;
    n = (n ^ (n >> 27)) * 0x94d049bb133111ebull;
    return n ^ (n >> 31);
}

/* The value below which `share` of the values lie. They are put in order. */
inline uint64_t quantile(std::vector<uint64_t> *values, double share)
{
    if (values->empty())
        return 0;
    std::sort(values->begin(), values->end());
    return (*values)[static_cast<size_t>(share * static_cast<double>(values->size() - 1))];
}

/* GB a second that a plain copy from pinned memory reaches; 0 without an accelerator. */
inline double link_speed()
{
#if HOMI_ACCELERATOR
    size_t const bytes = 256u << 20;
    void *here;
    homi::check(cudaMallocHost(&here, bytes), "allocate pinned memory");
    std::memset(here, 1, bytes);
    homi::device_array<uint8_t> there(bytes);
    double best = 0;
    for (int round = 0; round < 6; round++) {
        auto const start = std::chrono::steady_clock::now();
        homi::check(cudaMemcpy(there.get(), here, bytes, cudaMemcpyHostToDevice), "copy to the accelerator");
        homi::check(cudaDeviceSynchronize(), "wait for the copy");
        double const seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        best = std::max(best, static_cast<double>(bytes) / seconds / 1e9);
    }
    homi::check(cudaFreeHost(here), "free pinned memory");
    return best;
#else
    return 0;
#endif
}

/* The last cell of a row: what share of the link a speed in GB a second is, where there is a link. */
inline void end_row(double speed, double link)
{
    if (link > 0)
        std::printf("%.0f %% |\n", 100 * speed / link);
    else
        std::printf("- |\n");
    std::fflush(stdout);
}

/* Runs a program that measures: its exit status. */
template <typename Program>
int run(int argc, char **argv, Program program)
{
    try {
        program(read_arguments(argc, argv));
        return 0;
    } catch (const skipped &why) {
        std::printf("skipped: %s\n", why.what());
        return 77;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}

} // namespace measure

#endif
