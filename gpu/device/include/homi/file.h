/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reading files by commands of one's own: for a thread, a warp or a block, one range or many.
 */
#ifndef HOMI_FILE_H
#define HOMI_FILE_H

#include "prp.h"
#include "queue.h"

namespace homi {

/* Bits of a lease word that say what it is, and what they say while the blocks are the file's: HOMI_LEASE_* of
 * homi_session.h. */
constexpr uint64_t LEASE_STATE = 255;
constexpr uint64_t LEASE_HELD = 1;

/* A file as a namespace: its block n is the file's block n. */
struct file {
    uint32_t nsid;
    /* Bits of the block size. */
    uint32_t block_shift;
    /* Bytes; what lies between it and the end of the last block reads as zeros. */
    uint64_t size;
    /* Changes when the file's blocks are taken away; null where nobody looks. */
    const uint64_t *lease;
};

/*
 * Whether a file's blocks are still its own, so that what was read of it before may be kept; true where nobody looks.
 * Words of many files share a line, and each look goes over the bus: one member of one group now and then, never in a
 * loop that waits. Reads need no look: of a file that was taken back they answer Namespace Not Ready.
 */
HOMI_FN bool lease_held(const file &source)
{
    return source.lease == nullptr || (load_acquire(source.lease) & LEASE_STATE) == LEASE_HELD;
}

/* How commands are made on a queue pair. */
struct limits {
    /* Longest command in bytes, a multiple of every file's block size; at most PRP_LONGEST where memory has PRP lists. */
    uint32_t max_transfer;
    /* Clocks (of clock_now) that one command may take. */
    uint64_t patience;
};

/* One range of a file, and where in the buffer it goes. Offset and length are multiples of the block size. */
struct range {
    file source;
    uint64_t offset;
    uint64_t length;
    uint64_t target;
};

HOMI_FN bool is_aligned(const range *r)
{
    uint64_t const mask = (1ull << r->source.block_shift) - 1;
    return ((r->offset | r->length) & mask) == 0 && r->length != 0 && r->offset + r->length >= r->offset;
}

/* How many commands a range takes. */
HOMI_FN uint64_t commands_of(const range *r, const limits *l)
{
    return (r->length + l->max_transfer - 1) / l->max_transfer;
}

/* Writes command number `n` of a range, `ahead` places after the tail. */
HOMI_FN void write_command(queue_pair *queue, uint32_t ahead, const range *r, uint64_t n, const buffer *target,
                           const limits *l)
{
    uint64_t const done = n * l->max_transfer;
    uint64_t const left = r->length - done;
    uint32_t const length = left < l->max_transfer ? static_cast<uint32_t>(left) : l->max_transfer;
    queue_write(queue, ahead, NVME_READ, r->source.nsid, (r->offset + done) >> r->source.block_shift,
                length >> r->source.block_shift, pointer_to(*target, r->target + done, length));
}

/*
 * Reads `count` ranges, all members of the group together. `shared` is a word that all members see, for this call
 * alone. The answer, the same for all members, is the first status that was not success, and success where all is
 * there; after a failure other ranges may have arrived or not, and nothing is in flight unless it was the time that was
 * over.
 */
template <typename Group>
HOMI_FN status_t gather(const Group &group, queue_pair *queue, const range *ranges, uint64_t count,
                        const buffer *target, const limits *l, uint32_t *shared)
{
    status_t outcome = NVME_SUCCESS;
    /* Command number `sent` is command `within` of range `at`; the same in all members. */
    uint64_t at = 0, within = 0;
    uint32_t oldest = queue->tail, in_flight = 0;
    group.sync();
    while (true) {
        /* As many commands as there is room for, one for each member at a time. */
        while (outcome == NVME_SUCCESS && at < count) {
            if (group.rank() == 0)
                *shared = queue_room(queue, group.size());
            group.sync();
            uint32_t const room = *shared;
            group.sync();
            if (room == 0)
                break;
            uint32_t made = 0;
            while (made < room && at < count && outcome == NVME_SUCCESS) {
                const range *r = ranges + at;
                if (!is_aligned(r) || r->target + r->length > target->length || r->target + r->length < r->target) {
                    outcome = HOMI_INVALID;
                    break;
                }
                uint64_t const all = commands_of(r, l);
                while (made < room && within < all) {
                    if (made == group.rank())
                        write_command(queue, made, r, within, target, l);
                    made++;
                    within++;
                }
                if (within == all) {
                    at++;
                    within = 0;
                }
            }
            group.sync();
            if (group.rank() == 0 && made > 0)
                queue_ring(queue, made);
            in_flight += made;
            group.sync();
        }
        if (in_flight == 0)
            break;
        /* The oldest command first; those that completed meanwhile are noted on the way. */
        if (group.rank() == 0)
            *shared = queue_wait(queue, oldest, l->patience);
        group.sync();
        status_t const status = static_cast<status_t>(*shared);
        group.sync();
        if (status == HOMI_TIMED_OUT)
            return status;
        if (status != NVME_SUCCESS && outcome == NVME_SUCCESS)
            outcome = status;
        oldest++;
        in_flight--;
    }
    return outcome;
}

/* Reads one range of a file to the start of `target`. As gather. */
template <typename Group>
HOMI_FN status_t read(const Group &group, queue_pair *queue, const file &source, uint64_t offset, uint64_t length,
                      const buffer *target, const limits *l, uint32_t *shared)
{
    range const one = {source, offset, length, 0};
    return gather(group, queue, &one, 1, target, l, shared);
}

} // namespace homi

#endif
