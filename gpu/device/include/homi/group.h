/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Who works together on one queue pair: a thread, a warp or a block. A group has a size, each member a rank, and
 * sync() makes what one member wrote before seen by the others after.
 *
 * Members that run in step stand in one team (a warp): teams share out what there is to copy, and the members of a team
 * copy side by side.
 */
#ifndef HOMI_GROUP_H
#define HOMI_GROUP_H

#include "platform.h"

namespace homi {

/* One thread, on any processor. */
struct thread_group {
    HOMI_FN uint32_t size() const { return 1; }
    HOMI_FN uint32_t rank() const { return 0; }
    HOMI_FN uint32_t team_size() const { return 1; }
    HOMI_FN void sync() const {}
};

#if HOMI_ACCELERATOR

/* The threads of one warp, all of them (a wavefront, where HIP has 64). */
struct warp_group {
    HOMI_FN uint32_t size() const { return warpSize; }
    HOMI_FN uint32_t rank() const { return flat_thread() % warpSize; }
    HOMI_FN uint32_t team_size() const { return warpSize; }
    HOMI_FN void sync() const
    {
#if defined(__CUDA_ARCH__)
        __syncwarp();
#else
        __threadfence_block();
#endif
    }

  private:
    HOMI_FN static uint32_t flat_thread()
    {
        return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    }
};

/* The threads of one block, all of them: whole warps. */
struct block_group {
    HOMI_FN uint32_t size() const { return blockDim.x * blockDim.y * blockDim.z; }
    HOMI_FN uint32_t rank() const { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
    HOMI_FN uint32_t team_size() const { return warpSize; }
    HOMI_FN void sync() const { __syncthreads(); }
};

#endif

} // namespace homi

#endif
