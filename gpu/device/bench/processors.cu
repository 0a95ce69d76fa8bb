/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What processors can copy at most: threads that copy pieces of 4 KiB of an image in memory to small memory of their own,
 * and do nothing else. Mediators do that and more, so the accelerator's rate of reads is compared with this.
 *
 *     processors [--threads N[,N...]] IMAGE
 */
#include "measure.h"

#include <atomic>
#include <sys/mman.h>
#include <sys/stat.h>
#include <thread>

namespace {

constexpr uint64_t PIECE = 4096;
/* What a mediator's clients have in flight is about as large; it stays in a processor's second cache. */
constexpr uint64_t TARGET = 1 << 20;
constexpr size_t REPETITIONS = 5;

/* A file in memory. */
class image {
  public:
    explicit image(const char *path)
    {
        homi::descriptor const file = measure::open_file(path, 0);
        struct stat about;
        if (fstat(file.get(), &about) != 0)
            homi::fail_by_errno(std::string("size of ") + path);
        length_ = static_cast<size_t>(about.st_size);
        if (length_ < PIECE)
            throw homi::failure(std::string(path) + " is shorter than a piece of 4 KiB");
        start_ = mmap(nullptr, length_, PROT_READ, MAP_SHARED | MAP_POPULATE, file.get(), 0);
        if (start_ == MAP_FAILED)
            homi::fail_by_errno(std::string("map ") + path);
    }
    image(const image &) = delete;
    image &operator=(const image &) = delete;
    ~image() { munmap(start_, length_); }

    const uint8_t *piece(uint64_t number) const
    {
        return static_cast<const uint8_t *>(start_) + measure::scattered(number) % (length_ / PIECE) * PIECE;
    }

  private:
    void *start_;
    size_t length_;
};

/* Pieces a second by so many threads. */
double a_second(const image &from, uint32_t threads, double seconds)
{
    std::atomic<bool> end(false);
    std::atomic<uint64_t> copied(0);
    std::vector<std::thread> all;
    auto const start = std::chrono::steady_clock::now();
    for (uint64_t n = 0; n < threads; n++)
        all.emplace_back([&from, &end, &copied, n] {
            std::vector<uint8_t> target(TARGET);
            uint64_t count = 0;
            while (!end.load(std::memory_order_relaxed)) {
                std::memcpy(target.data() + count * PIECE % TARGET, from.piece((n << 40) + count), PIECE);
                count++;
            }
            copied += count;
        });
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    end = true;
    double const took = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (std::thread &thread : all)
        thread.join();
    return static_cast<double>(copied.load()) / took;
}

void measure_all(const measure::arguments &a)
{
    image const from(a.path);
    double const link = measure::link_speed();
    std::printf("copies of 4 KiB of the image by processors; medians of %zu\n\n", REPETITIONS);
    std::printf("| threads | copies/s | GB/s | share of the link |\n|---:|---:|---:|---:|\n");
    for (uint32_t threads : a.threads.empty() ? std::vector<uint32_t>{1, 4, 8} : a.threads) {
        std::vector<double> rates;
        while (rates.size() < REPETITIONS)
            rates.push_back(a_second(from, threads, a.seconds()));
        std::sort(rates.begin(), rates.end());
        double const rate = rates[REPETITIONS / 2], speed = rate * PIECE / 1e9;
        std::printf("| %u | %.0f | %.2f | ", threads, rate, speed);
        measure::end_row(speed, link);
    }
}

} // namespace

int main(int argc, char **argv) { return measure::run(argc, argv, measure_all); }
