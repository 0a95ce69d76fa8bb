/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The same file by cuFile in compatibility mode, from several threads with a registered buffer each, for comparison. The
 * library is looked for when this runs, its header when this is compiled.
 *
 *     cufile [--quick] FILE
 */
#include "measure.h"

#include <atomic>
#include <thread>

#if HOMI_ACCELERATOR && defined(__has_include)
#if __has_include(<cufile.h>)
#include <cufile.h>
#include <dlfcn.h>
#define HOMI_WITH_CUFILE 1
#endif
#endif

namespace {

#if defined(HOMI_WITH_CUFILE)

/* What is used of the library. */
struct library {
    decltype(&cuFileDriverOpen) driver_open;
    decltype(&cuFileHandleRegister) handle_register;
    decltype(&cuFileHandleDeregister) handle_deregister;
    decltype(&cuFileBufRegister) buffer_register;
    decltype(&cuFileBufDeregister) buffer_deregister;
    decltype(&cuFileRead) read;

    library()
    {
        void *const loaded = dlopen("libcufile.so.0", RTLD_NOW);
        if (loaded == nullptr)
            throw measure::skipped(std::string("no libcufile: ") + dlerror());
        find(loaded, "cuFileDriverOpen", &driver_open);
        find(loaded, "cuFileHandleRegister", &handle_register);
        find(loaded, "cuFileHandleDeregister", &handle_deregister);
        find(loaded, "cuFileBufRegister", &buffer_register);
        find(loaded, "cuFileBufDeregister", &buffer_deregister);
        find(loaded, "cuFileRead", &read);
    }

    template <typename Function>
    static void find(void *loaded, const char *name, Function *function)
    {
        void *const place = dlsym(loaded, name);
        if (place == nullptr)
            throw measure::skipped(std::string("libcufile has no ") + name);
        *function = reinterpret_cast<Function>(place);
    }
};

uint64_t read_on(const library &l, CUfileHandle_t handle, uint64_t size, uint64_t length, uint64_t number,
                 const std::atomic<bool> &stop)
{
    homi::device_array<uint8_t> target(length);
    bool const registered = l.buffer_register(target.get(), length, 0).err == CU_FILE_SUCCESS;
    uint64_t done = 0;
    for (; !stop.load(std::memory_order_relaxed); done++) {
        uint64_t const offset = measure::scattered(number << 40 | done) % (size / length) * length;
        ssize_t const got = l.read(handle, target.get(), length, static_cast<off_t>(offset), 0);
        if (got != static_cast<ssize_t>(length))
            throw homi::failure("cuFileRead gave " + std::to_string(got));
    }
    if (registered)
        l.buffer_deregister(target.get());
    return done;
}

void measure_all(const measure::arguments &a)
{
    setenv("CUFILE_ALLOW_COMPAT_MODE", "true", 0);
    setenv("CUFILE_FORCE_COMPAT_MODE", "true", 0);
    homi::check(cudaFree(nullptr), "start CUDA");
    library const l;
    CUfileError_t const opened = l.driver_open();
    if (opened.err != CU_FILE_SUCCESS)
        throw measure::skipped("cuFileDriverOpen gave " + std::to_string(opened.err));
    int flags = O_DIRECT;
    homi::descriptor const file = measure::open_file(a.path, flags);
    CUfileDescr_t about{};
    about.handle.fd = file.get();
    about.type = CU_FILE_HANDLE_TYPE_OPAQUE_FD;
    CUfileHandle_t handle;
    CUfileError_t const taken = l.handle_register(&handle, &about);
    if (taken.err != CU_FILE_SUCCESS)
        throw measure::skipped("cuFileHandleRegister of a file on this mount gave " + std::to_string(taken.err));
    struct stat status;
    fstat(file.get(), &status);
    std::printf("cuFile in compatibility mode\n\n| bytes | threads | reads/s | GB/s |\n|---:|---:|---:|---:|\n");
    for (uint64_t length : {4096ull, 65536ull, 1048576ull})
        for (uint64_t count : {1, 8, 16}) {
            std::atomic<bool> stop{false};
            std::atomic<uint64_t> all{0};
            std::vector<std::thread> threads;
            std::vector<std::string> failures(count);
            auto const start = std::chrono::steady_clock::now();
            for (uint64_t n = 0; n < count; n++)
                threads.emplace_back([&, n] {
                    try {
                        all += read_on(l, handle, static_cast<uint64_t>(status.st_size), length, n, stop);
                    } catch (const std::exception &error) {
                        failures[n] = error.what();
                    }
                });
            std::this_thread::sleep_for(std::chrono::duration<double>(a.seconds()));
            stop = true;
            for (std::thread &thread : threads)
                thread.join();
            for (const std::string &why : failures)
                if (!why.empty())
                    throw homi::failure(why);
            double const took = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
            double const rate = static_cast<double>(all.load()) / took;
            std::printf("| %s | %llu | %.0f | %.2f |\n", measure::in_words(length).c_str(),
                        static_cast<unsigned long long>(count), rate, rate * static_cast<double>(length) / 1e9);
            std::fflush(stdout);
        }
    l.handle_deregister(handle);
}

#elif HOMI_ACCELERATOR

void measure_all(const measure::arguments &) { throw measure::skipped("there was no cufile.h to compile this with"); }

#else

void measure_all(const measure::arguments &) { throw measure::skipped("no accelerator to read into"); }

#endif

} // namespace

int main(int argc, char **argv) { return measure::run(argc, argv, measure_all); }
