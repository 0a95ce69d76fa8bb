/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Readers for many groups at once, set up from the host: a session's queues and memory, made visible to the accelerator
 * (CUDA), or used by threads of this process (any other compiler). See examples/checksum.cu for how little is left.
 */
#ifndef HOMI_READERS_H
#define HOMI_READERS_H

#include "reader.h"
#include "session.h"

#include <algorithm>
#include <chrono>
#include <memory>

namespace homi {

#if HOMI_ACCELERATOR

#define HOMI_KERNEL __global__

inline void check(cudaError_t error, const char *what)
{
    if (error != cudaSuccess)
        throw failure(std::string("CUDA: ") + what + ": " + cudaGetErrorString(error));
}

/* Clocks of the accelerator in a second, for deadlines. The highest rate: a deadline may come later, never earlier. */
inline uint64_t clocks_a_second()
{
    int kilohertz = 0;
    check(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, 0), "ask for the clock rate");
    return static_cast<uint64_t>(kilohertz) * 1000;
}

/* Threads that run in step. */
inline uint32_t warp_threads()
{
    int threads = 0;
    check(cudaDeviceGetAttribute(&threads, cudaDevAttrWarpSize, 0), "ask for the warps' size");
    return static_cast<uint32_t>(threads);
}

/* Memory of the accelerator. */
template <typename T>
class device_array {
  public:
    explicit device_array(size_t count) : count_(count)
    {
        check(cudaMalloc(&start_, std::max<size_t>(count, 1) * sizeof(T)), "allocate memory of the accelerator");
        check(cudaMemset(start_, 0, std::max<size_t>(count, 1) * sizeof(T)), "clear memory of the accelerator");
    }
    device_array(const device_array &) = delete;
    device_array &operator=(const device_array &) = delete;
    ~device_array() { static_cast<void>(cudaFree(start_)); }
    T *get() const { return start_; }
    void put(const T *from, size_t count, size_t at = 0)
    {
        check(cudaMemcpy(start_ + at, from, count * sizeof(T), cudaMemcpyHostToDevice), "copy to the accelerator");
    }
    void take(T *to, size_t count, size_t at = 0) const
    {
        check(cudaMemcpy(to, start_ + at, count * sizeof(T), cudaMemcpyDeviceToHost), "copy from the accelerator");
    }
    size_t count() const { return count_; }

  private:
    T *start_ = nullptr;
    size_t count_;
};

/* Shows memory of this process to the accelerator for as long as it lives. */
class shown_memory {
  public:
    explicit shown_memory(const shared_memory &memory) : host_(memory.start())
    {
        check(cudaHostRegister(host_, memory.length(), cudaHostRegisterMapped), "register shared memory");
        void *there;
        check(cudaHostGetDevicePointer(&there, host_, 0), "find shared memory");
        there_ = static_cast<uint8_t *>(there);
    }
    shown_memory(const shown_memory &) = delete;
    shown_memory &operator=(const shown_memory &) = delete;
    ~shown_memory() { static_cast<void>(cudaHostUnregister(host_)); }
    uint8_t *get() const { return there_; }

  private:
    uint8_t *host_, *there_;
};

/* Shows memory to the accelerator that can only be read. Not every driver takes such: then there is nothing to see. */
class shown_reading {
  public:
    explicit shown_reading(const shared_memory &memory) : host_(memory.start())
    {
        cudaError_t const error =
            cudaHostRegister(host_, memory.length(), cudaHostRegisterMapped | cudaHostRegisterReadOnly);
        void *there = nullptr;
        if (error == cudaSuccess) {
            registered_ = true;
            check(cudaHostGetDevicePointer(&there, host_, 0), "find shared memory");
        } else {
            why_ = std::string("the driver does not show memory that can only be read: ") + cudaGetErrorString(error);
            /* Or who starts the next kernel takes it for an error of his own. */
            static_cast<void>(cudaGetLastError());
        }
        there_ = static_cast<const uint8_t *>(there);
    }
    shown_reading(const shown_reading &) = delete;
    shown_reading &operator=(const shown_reading &) = delete;
    ~shown_reading()
    {
        if (registered_)
            static_cast<void>(cudaHostUnregister(host_));
    }
    /* Null where the accelerator does not see it. */
    const uint8_t *get() const { return there_; }
    const std::string &why() const { return why_; }

  private:
    uint8_t *host_;
    const uint8_t *there_ = nullptr;
    bool registered_ = false;
    std::string why_;
};

#else

#define HOMI_KERNEL

inline uint64_t clocks_a_second() { return 1000000000; }

template <typename T>
class device_array {
  public:
    explicit device_array(size_t count) : count_(count)
    {
        size_t const bytes = (std::max<size_t>(count, 1) * sizeof(T) + 4095) / 4096 * 4096;
        start_ = static_cast<T *>(std::aligned_alloc(4096, bytes));
        if (start_ == nullptr)
            throw failure("no memory");
        std::memset(static_cast<void *>(start_), 0, bytes);
    }
    device_array(const device_array &) = delete;
    device_array &operator=(const device_array &) = delete;
    ~device_array() { std::free(start_); }
    T *get() const { return start_; }
    void put(const T *from, size_t count, size_t at = 0)
    {
        std::memcpy(static_cast<void *>(start_ + at), from, count * sizeof(T));
    }
    void take(T *to, size_t count, size_t at = 0) const
    {
        std::memcpy(static_cast<void *>(to), start_ + at, count * sizeof(T));
    }
    size_t count() const { return count_; }

  private:
    T *start_;
    size_t count_;
};

class shown_memory {
  public:
    explicit shown_memory(const shared_memory &memory) : there_(memory.start()) {}
    uint8_t *get() const { return there_; }

  private:
    uint8_t *there_;
};

class shown_reading {
  public:
    explicit shown_reading(const shared_memory &memory) : there_(memory.start()) {}
    const uint8_t *get() const { return there_; }
    const std::string &why() const { return why_; }

  private:
    const uint8_t *there_;
    std::string why_;
};

#endif

/* What a set of readers is made of. */
struct shape {
    uint32_t readers;
    /* Of each queue: a power of two, 4 at least. */
    uint32_t entries;
    /* Registered memory of each reader. */
    uint64_t staging;
    /* Longest command; 0 for as long as the daemon allows. */
    uint32_t transfer;
    /* How long a command may take. */
    uint32_t seconds;
};

/* Where each reader's parts are, for the function that prepares them. */
struct layout {
    homi_queues places;
    uint8_t *queues, *doorbells, *staging;
    uint32_t *flags;
    /* Each reader's share of the registered memory: so many bytes for data, and the lists of those where `by_prp`. */
    uint64_t iova, share, data;
    bool by_prp;
    limits bounds;
};

HOMI_FN void prepare(reader *all, const layout &l, uint32_t n)
{
    uint8_t *const pair = l.queues + n * l.places.stride;
    uint8_t *const bells = l.doorbells + n * l.places.doorbell_stride;
    queue_init(&all[n].queue, reinterpret_cast<uint64_t *>(pair + l.places.submissions),
               reinterpret_cast<uint64_t *>(pair + l.places.completions),
               reinterpret_cast<uint32_t *>(bells + l.places.tail_doorbell),
               reinterpret_cast<uint32_t *>(bells + l.places.head_doorbell), l.flags + n * l.places.entries,
               l.places.entries);
    uint64_t const iova = l.iova + n * l.share;
    uint8_t *const memory = l.staging + n * l.share;
    if (l.by_prp)
        prp_write_lists(reinterpret_cast<uint64_t *>(memory + l.data), iova, l.data, 0, 1);
    if (!reader_init(all + n, {iova, l.data, l.by_prp ? iova + l.data : 0}, memory, l.bounds))
        all[n].broken = 1;
}

#if HOMI_ACCELERATOR

HOMI_KERNEL void prepare_kernel(reader *all, layout l)
{
    uint32_t const n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n < l.places.count)
        prepare(all, l, n);
}

/* The work of each block, warp or thread, with a reader of its own. */
template <typename Work>
HOMI_KERNEL void by_blocks(reader *all, Work work)
{
    work(block_group{}, all + blockIdx.x, blockIdx.x);
}

template <typename Work>
HOMI_KERNEL void by_warps(reader *all, uint32_t count, Work work)
{
    uint32_t const n = (blockIdx.x * blockDim.x + threadIdx.x) / warpSize;
    if (n < count)
        work(warp_group{}, all + n, n);
}

template <typename Work>
HOMI_KERNEL void by_threads(reader *all, uint32_t count, Work work)
{
    uint32_t const n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n < count)
        work(thread_group{}, all + n, n);
}

#endif

/* Who has a reader: one thread, one warp, or one block. On a host they are all threads. */
enum class members { thread, warp, block };

/* Threads of a block that shares one reader. */
constexpr uint32_t BLOCK_THREADS = 256;

class readers {
  public:
    readers(session *from, const shape &wanted)
        : shape_(wanted), memory_(from->queues(wanted.readers, wanted.entries)),
          data_(from->buffer(wanted.readers * share(*from, wanted))), queues_(memory_.queues),
          doorbells_(memory_.doorbells), staging_(data_.memory),
          flags_(static_cast<size_t>(wanted.readers) * wanted.entries), all_(wanted.readers)
    {
        uint32_t const most = from->allowed().max_transfer;
        uint32_t const transfer = wanted.transfer == 0 ? most : std::min(most, wanted.transfer);
        if (from->by_prp() && data_.iova % PRP_PAGE != 0)
            throw failure("the daemon's answer makes no sense: memory that begins within a page");
        layout const l = {memory_.places,
                          queues_.get(),
                          doorbells_.get(),
                          staging_.get(),
                          flags_.get(),
                          data_.iova,
                          share(*from, wanted),
                          rounded(wanted.staging),
                          from->by_prp(),
                          {transfer, wanted.seconds * clocks_a_second()}};
#if HOMI_ACCELERATOR
        prepare_kernel<<<(wanted.readers + 127) / 128, 128>>>(all_.get(), l);
        check(cudaDeviceSynchronize(), "prepare readers");
#else
        for (uint32_t n = 0; n < wanted.readers; n++)
            prepare(all_.get(), l, n);
#endif
        if (first().broken != 0)
            throw failure("readers of this shape cannot be: too little memory, or queues of fewer than 4 entries");
    }

    uint32_t count() const { return shape_.readers; }
    const homi_queues &places() const { return memory_.places; }

    /* Runs `work(group, reader, number)` for the first `count` readers; the seconds that it took. */
    template <typename Work>
    double run(members who, uint32_t count, Work work)
    {
        auto const start = std::chrono::steady_clock::now();
#if HOMI_ACCELERATOR
        if (who == members::block)
            by_blocks<<<count, BLOCK_THREADS>>>(all_.get(), work);
        else if (who == members::warp)
            by_warps<<<(count + 3) / 4, 4 * warp_threads()>>>(all_.get(), count, work);
        else
            by_threads<<<count, 1>>>(all_.get(), count, work);
        check(cudaGetLastError(), "start the kernel");
        check(cudaDeviceSynchronize(), "run the kernel");
#else
        static_cast<void>(who);
        std::vector<std::thread> threads;
        for (uint32_t n = 0; n < count; n++)
            threads.emplace_back([work, n, all = all_.get()] { work(thread_group{}, all + n, n); });
        for (std::thread &thread : threads)
            thread.join();
#endif
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

    /* Completions that fitted no command, all readers together: 0, or the daemon is not to be trusted. */
    uint64_t strays() const { return sum([](const reader &r) { return static_cast<uint64_t>(r.queue.strays); }); }
    /* Commands that were answered. */
    uint64_t commands() const { return sum([](const reader &r) { return r.commands; }); }

  private:
    static uint64_t rounded(uint64_t bytes) { return (bytes + 8191) / 8192 * 8192; }

    static uint64_t share(const session &from, const shape &wanted)
    {
        uint64_t const data = rounded(wanted.staging);
        return from.by_prp() ? data + prp_list_bytes(data) : data;
    }

    template <typename Field>
    uint64_t sum(Field field) const
    {
        std::unique_ptr<reader[]> here(new reader[shape_.readers]);
        all_.take(here.get(), shape_.readers);
        uint64_t all = 0;
        for (uint32_t n = 0; n < shape_.readers; n++)
            all += field(here[n]);
        return all;
    }

    reader first() const
    {
        reader one;
        all_.take(&one, 1);
        return one;
    }

    shape shape_;
    queue_memory memory_;
    data_memory data_;
    shown_memory queues_, doorbells_, staging_;
    device_array<uint32_t> flags_;
    device_array<reader> all_;
};

static_assert(LEASE_STATE == HOMI_LEASE_STATE && LEASE_HELD == HOMI_LEASE_HELD, "file.h says what the daemon says");

/* The lease words of a session's files as the accelerator sees them, for as long as this lives. */
class leases {
  public:
    explicit leases(const session &from) : from_(&from), shown_(from.status()) {}

    /* The word of a file or of a snapshot; null where the accelerator cannot see them, and then why() says why. */
    const uint64_t *word(uint32_t slot) const
    {
        uint64_t const at = from_->lease_at(slot);
        return shown_.get() == nullptr ? nullptr : reinterpret_cast<const uint64_t *>(shown_.get() + at);
    }
    const std::string &why() const { return shown_.why(); }

  private:
    const session *from_;
    shown_reading shown_;
};

/* Bits of a block size. */
inline uint32_t shift_of(uint32_t block_size)
{
    uint32_t shift = 0;
    while ((1u << shift) < block_size)
        shift++;
    return shift;
}

/* A file as device code names it; lease_held always says yes of it. */
inline file as_source(const homi_file &opened)
{
    return {opened.nsid, shift_of(opened.block_size), opened.size, nullptr};
}

/* The same, with its lease word. */
inline file as_source(const homi_file &opened, const leases &seen)
{
    return {opened.nsid, shift_of(opened.block_size), opened.size, seen.word(opened.lease_slot)};
}

/* The namespace of all files of a snapshot as device code names it. */
inline file as_source(const snapshot_memory &taken, const leases &seen)
{
    homi_snapshot_reply const &reply = taken.reply;
    if (reply.blocks == 0)
        return {0, 12, 0, nullptr};
    return {reply.nsid, shift_of(reply.block_size), reply.blocks * reply.block_size, seen.word(reply.lease_slot)};
}

} // namespace homi

#endif
