/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Memory of the accelerator's own as the target of commands, by a dma-buf: exports some, registers it with the daemon,
 * reads a file's beginning there with no copy by the accelerator, and compares every byte with read(2). Says which memory
 * commands wrote to; where the driver exports none, or the daemon cannot write there, it says that and ends with 77.
 *
 *     dma_buf FILE
 */
#include "measure.h"

#if defined(__CUDACC__) && !defined(__HIP__)
#include <cuda.h>
#include <dlfcn.h>
#if CUDA_VERSION >= 11070
#define HOMI_WITH_DMA_BUF 1
#endif
#endif

namespace {

#if defined(HOMI_WITH_DMA_BUF)

constexpr uint64_t LENGTH = 4 << 20;

/* Reads to the start of a buffer, by commands alone. */
struct read_there {
    homi::file source;
    uint64_t length;
    homi::buffer target;
    uint32_t *status;

    template <typename Group>
    HOMI_FN void operator()(const Group &group, homi::reader *r, uint32_t) const
    {
        homi::status_t const came =
            homi::read(group, &r->queue, source, 0, length, &target, &r->bounds, &r->shared);
        if (group.rank() == 0)
            *status = came;
    }
};

/* A descriptor of memory of the accelerator. */
homi::descriptor exported(void *memory)
{
    void *const driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == nullptr)
        throw measure::skipped(std::string("no libcuda: ") + dlerror());
    auto const get = reinterpret_cast<decltype(&cuMemGetHandleForAddressRange)>(
        dlsym(driver, "cuMemGetHandleForAddressRange"));
    if (get == nullptr)
        throw measure::skipped("the driver has no cuMemGetHandleForAddressRange");
    int number = -1;
    CUresult const said = get(&number, reinterpret_cast<CUdeviceptr>(memory), LENGTH,
                              CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0);
    if (said != CUDA_SUCCESS)
        throw measure::skipped("the driver exports no dma-buf of its memory: CUresult " +
                               std::to_string(static_cast<int>(said)));
    return homi::descriptor(number);
}

void read_into_exported(const measure::arguments &a)
{
    homi::descriptor const file = measure::open_file(a.path, 0);
    homi::session from(file.get());
    homi_file const about = from.open(file.get());
    if (from.by_prp())
        throw measure::skipped("the daemon knows no SGLs, and a dma-buf has no PRP lists");
    homi::device_array<uint8_t> memory(LENGTH);
    homi::descriptor const dma_buf = exported(memory.get());
    homi_buffer registered;
    try {
        registered = from.register_dma_buf(dma_buf.get(), LENGTH);
    } catch (const homi::failure &why) {
        if (std::string(why.what()).rfind("the daemon refused", 0) != 0)
            throw;
        throw measure::skipped(std::string("the driver exports a dma-buf; ") + why.what() +
                               "; commands write to host memory and kernels copy on");
    }
    uint64_t const block = about.block_size;
    uint64_t const length = std::min<uint64_t>(LENGTH, (about.size + block - 1) / block * block);
    if (length == 0)
        throw homi::failure("the file is empty");
    homi::readers all(&from, {1, 64, 64 << 10, 0, 20});
    homi::device_array<uint32_t> status(1);
    double const seconds =
        all.run(homi::members::warp, 1,
                read_there{homi::as_source(about), length, {registered.iova, registered.length, 0}, status.get()});
    uint32_t came = 0;
    status.take(&came, 1);
    if (came != homi::NVME_SUCCESS)
        throw homi::failure("a command failed with status " + std::to_string(came));
    std::vector<uint8_t> ours(std::min(length, about.size)), theirs(ours.size());
    memory.take(ours.data(), ours.size());
    if (pread(file.get(), theirs.data(), theirs.size(), 0) != static_cast<ssize_t>(theirs.size()))
        homi::fail_by_errno("read the file");
    if (ours != theirs)
        throw homi::failure("the accelerator's memory is not what read(2) gives");
    std::printf("dma-buf: commands wrote to %s: %zu bytes alike, %.2f GB/s\n",
                registered.kind == HOMI_BUFFER_DMABUF ? "the accelerator's own memory" : "host memory", ours.size(),
                static_cast<double>(length) / seconds / 1e9);
    from.release(registered);
}

#elif HOMI_ACCELERATOR

void read_into_exported(const measure::arguments &)
{
    throw measure::skipped("the compiler's toolkit has no dma-bufs of the accelerator's memory (CUDA 11.7 and later has)");
}

#else

void read_into_exported(const measure::arguments &) { throw measure::skipped("no accelerator whose memory there is"); }

#endif

} // namespace

int main(int argc, char **argv) { return measure::run(argc, argv, read_into_exported); }
