/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What differs between CUDA, HIP and a host compiler; everything else is written once.
 *
 * Memory here is shared with a controller on the other side of a bus. A word that the other side may write is only
 * read through load_acquire, a word that it polls only written through store_release; both at system scope. Words
 * between two such points are plain.
 */
#ifndef HOMI_PLATFORM_H
#define HOMI_PLATFORM_H

#include <stdint.h>

#include "runtime.h"

#if defined(__CUDACC__) || defined(__HIP__)
#define HOMI_FN __device__ __forceinline__
#define HOMI_ACCELERATOR 1
#else
#include <atomic>
#include <chrono>
#include <thread>
#define HOMI_FN inline
#define HOMI_ACCELERATOR 0
#endif

namespace homi {

#if defined(__CUDA_ARCH__)

HOMI_FN uint64_t load_acquire(const uint64_t *word)
{
    uint64_t value;
    asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
    return value;
}

HOMI_FN uint32_t load_acquire(const uint32_t *word)
{
    uint32_t value;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
    return value;
}

/* Everything that the calling thread, and those it has synchronised with, wrote before is seen by whoever sees this. */
HOMI_FN void store_release(uint32_t *word, uint32_t value)
{
#if defined(HOMI_WITHOUT_RELEASE) /* Only for the test that shows what the release is for. */
    asm volatile("st.relaxed.sys.global.u32 [%0], %1;" : : "l"(word), "r"(value) : "memory");
#else
    asm volatile("st.release.sys.global.u32 [%0], %1;" : : "l"(word), "r"(value) : "memory");
#endif
}

/* Sixteen bytes in one store, of memory that is aligned to them. */
HOMI_FN void store_pair(uint64_t *words, uint64_t first, uint64_t second)
{
    asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" : : "l"(words), "l"(first), "l"(second) : "memory");
}

/* Sixteen bytes of memory that is aligned to them, read once and not kept in a cache. */
HOMI_FN void load_pair(uint64_t (&words)[2], const uint8_t *from)
{
    asm volatile("ld.global.cs.v2.u64 {%0, %1}, [%2];" : "=l"(words[0]), "=l"(words[1]) : "l"(from) : "memory");
}

/* A clock of this processor that only moves forward. */
HOMI_FN uint64_t clock_now() { return static_cast<uint64_t>(clock64()); }

HOMI_FN void pause_briefly() { __nanosleep(64); }

#elif defined(__HIP_DEVICE_COMPILE__)

HOMI_FN uint64_t load_acquire(const uint64_t *word)
{
    return __hip_atomic_load(const_cast<uint64_t *>(word), __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_SYSTEM);
}

HOMI_FN uint32_t load_acquire(const uint32_t *word)
{
    return __hip_atomic_load(const_cast<uint32_t *>(word), __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_SYSTEM);
}

HOMI_FN void store_release(uint32_t *word, uint32_t value)
{
    __hip_atomic_store(word, value, __ATOMIC_RELEASE, __HIP_MEMORY_SCOPE_SYSTEM);
}

HOMI_FN void store_pair(uint64_t *words, uint64_t first, uint64_t second)
{
    __hip_atomic_store(words, first, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
    __hip_atomic_store(words + 1, second, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
}

HOMI_FN void load_pair(uint64_t (&words)[2], const uint8_t *from)
{
    words[0] = __builtin_nontemporal_load(reinterpret_cast<const uint64_t *>(from));
    words[1] = __builtin_nontemporal_load(reinterpret_cast<const uint64_t *>(from) + 1);
}

HOMI_FN uint64_t clock_now() { return static_cast<uint64_t>(clock64()); }

HOMI_FN void pause_briefly() { __builtin_amdgcn_s_sleep(1); }

#elif HOMI_ACCELERATOR

/* What the host's pass of a compiler for two processors sees; it never runs. */
HOMI_FN uint64_t load_acquire(const uint64_t *word) { return *word; }
HOMI_FN uint32_t load_acquire(const uint32_t *word) { return *word; }
HOMI_FN void store_release(uint32_t *word, uint32_t value) { *word = value; }
HOMI_FN void store_pair(uint64_t *words, uint64_t first, uint64_t second) { words[0] = first, words[1] = second; }
HOMI_FN void load_pair(uint64_t (&words)[2], const uint8_t *) { words[0] = words[1] = 0; }
HOMI_FN uint64_t clock_now() { return 0; }
HOMI_FN void pause_briefly() {}

#else

HOMI_FN uint64_t load_acquire(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

HOMI_FN uint32_t load_acquire(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

HOMI_FN void store_release(uint32_t *word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

HOMI_FN void store_pair(uint64_t *words, uint64_t first, uint64_t second)
{
    __atomic_store_n(words, first, __ATOMIC_RELAXED);
    __atomic_store_n(words + 1, second, __ATOMIC_RELAXED);
}

HOMI_FN void load_pair(uint64_t (&words)[2], const uint8_t *from)
{
    words[0] = __atomic_load_n(reinterpret_cast<const uint64_t *>(from), __ATOMIC_RELAXED);
    words[1] = __atomic_load_n(reinterpret_cast<const uint64_t *>(from) + 1, __ATOMIC_RELAXED);
}

/* Nanoseconds. */
HOMI_FN uint64_t clock_now()
{
    using namespace std::chrono;
    return static_cast<uint64_t>(duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count());
}

HOMI_FN void pause_briefly() { std::this_thread::yield(); }

#endif

/* Takes a number that no other group of this kernel gets: the word's, which is one more from then on. By this, groups share
 * work out as they come to it, so that those whose queues are answered slower take less of it. */
#if HOMI_ACCELERATOR
HOMI_FN uint32_t take_number(uint32_t *word) { return atomicAdd(word, 1u); }
#else
HOMI_FN uint32_t take_number(uint32_t *word) { return __atomic_fetch_add(word, 1u, __ATOMIC_RELAXED); }
#endif

/* What members of one group do to a word of theirs at the same time; nobody else reaches it. On a host a group is one
 * thread. */
#if HOMI_ACCELERATOR

/* Whether it was `expected`; then it is `value` now. */
HOMI_FN bool replace_if(uint32_t *word, uint32_t expected, uint32_t value)
{
    return atomicCAS(word, expected, value) == expected;
}

HOMI_FN void add_to(uint32_t *word, uint32_t value) { atomicAdd(word, value); }

/* Makes it `value` where that is less. */
HOMI_FN void lower_to(uint32_t *word, uint32_t value) { atomicMin(word, value); }

#else

HOMI_FN bool replace_if(uint32_t *word, uint32_t expected, uint32_t value)
{
    if (*word != expected)
        return false;
    *word = value;
    return true;
}

HOMI_FN void add_to(uint32_t *word, uint32_t value) { *word += value; }

HOMI_FN void lower_to(uint32_t *word, uint32_t value) { *word = value < *word ? value : *word; }

#endif

} // namespace homi

#endif
