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

/*
 * How a command names `length` bytes of the memory from byte `at` on; at most PRP_LONGEST where there are lists. All ways are
 * computed and one is chosen, without a branch: a branch on `lists` would hold back the loads of whatever comes after it, and
 * a command would take half as long again to its doorbell.
 */
HOMI_FN data_pointer pointer_to(const buffer &memory, uint64_t at, uint32_t length)
{
    uint64_t const iova = memory.iova, lists = memory.lists;
    uint64_t const first = iova + at;
    uint64_t const part = PRP_PAGE - (first & (PRP_PAGE - 1));
    uint64_t const second = at / PRP_PAGE + 1;
    uint64_t const page = iova + second * PRP_PAGE;
    uint64_t const list = lists + second / PRP_STEP * PRP_PAGE + second % PRP_STEP * 8;
    uint64_t const entry = length <= part ? 0 : length - part <= PRP_PAGE ? page : list;
    return {first, lists == 0 ? length : entry, lists == 0};
}

} // namespace homi

#endif
