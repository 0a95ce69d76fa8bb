/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Naming memory by Physical Region Pages, for a daemon that knows no SGLs (Base, section 4.3.1).
 *
 * A command of more than two pages needs a list of those after the first, in memory that the controller reads. Registered
 * memory is contiguous on the bus, so its lists are written once: a command then only points to the place in them where
 * its second page stands. A list ends where its own page does, so each page of lists repeats the second half of the one
 * before, and every command of up to PRP_LONGEST bytes finds all its pages within one.
 */
#ifndef HOMI_PRP_H
#define HOMI_PRP_H

#include "nvme.h"

namespace homi {

constexpr uint64_t PRP_PAGE = 4096;
/* Entries that a page of lists has, and by how many it is ahead of the one before. */
constexpr uint64_t PRP_ENTRIES = PRP_PAGE / 8;
constexpr uint64_t PRP_STEP = PRP_ENTRIES / 2;
/* Longest command. */
constexpr uint32_t PRP_LONGEST = static_cast<uint32_t>(PRP_STEP * PRP_PAGE);

/* Memory that commands write to: where the controller sees it. */
struct buffer {
    uint64_t iova;
    uint64_t length;
    /* Where the controller sees its PRP lists, a multiple of PRP_PAGE; 0 where commands name it by SGL descriptors. With
     * lists iova is a multiple of PRP_PAGE, too. */
    uint64_t lists;
};

/* Bytes that the lists of `length` bytes of memory take. */
#if HOMI_ACCELERATOR
__host__ __device__
#endif
    constexpr uint64_t
    prp_list_bytes(uint64_t length)
{
    return ((length + PRP_PAGE - 1) / PRP_PAGE / PRP_STEP + 1) * PRP_PAGE;
}

/* Writes the lists of memory that begins at `iova` to `lists`, prp_list_bytes(length) bytes: one member of `all` writes
 * every entry whose turn it is. */
HOMI_FN void prp_write_lists(uint64_t *lists, uint64_t iova, uint64_t length, uint64_t member, uint64_t all)
{
    uint64_t const count = prp_list_bytes(length) / 8;
    for (uint64_t n = member; n < count; n += all)
        lists[n] = iova + (n / PRP_ENTRIES * PRP_STEP + n % PRP_ENTRIES) * PRP_PAGE;
}

/* How a command names `length` bytes of the memory from byte `at` on; at most PRP_LONGEST where there are lists. */
HOMI_FN data_pointer pointer_to(const buffer &memory, uint64_t at, uint32_t length)
{
    uint64_t const first = memory.iova + at;
    if (memory.lists == 0)
        return sgl_block(first, length);
    uint64_t const part = PRP_PAGE - (first & (PRP_PAGE - 1));
    if (length <= part)
        return prp_entries(first, 0);
    uint64_t const second = at / PRP_PAGE + 1;
    if (length - part <= PRP_PAGE)
        return prp_entries(first, memory.iova + second * PRP_PAGE);
    return prp_entries(first, memory.lists + second / PRP_STEP * PRP_PAGE + second % PRP_STEP * 8);
}

} // namespace homi

#endif
