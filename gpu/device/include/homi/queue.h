/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A queue pair that one group has for itself.
 *
 * Sharing a pair among groups costs several times what a pair of one's own does (tickets to take, and all who poll one
 * line are served one at a time), so pairs are many and private: there is no lock here. Within a group, members write
 * submission entries side by side and take completions side by side; the member of rank 0 rings, polls and keeps count.
 *
 * A command's identifier is the place in the submission queue that it was written to, and a place is used again only
 * when its command has completed, so identifiers are never in use twice.
 */
#ifndef HOMI_QUEUE_H
#define HOMI_QUEUE_H

#include "group.h"
#include "nvme.h"

namespace homi {

/* What a place in the submission queue is doing: in `queue_pair::places`. Others than these are a status, shifted. */
enum : uint32_t {
    PLACE_FREE = 0,
    PLACE_IN_FLIGHT = 1,
    PLACE_DONE = 2,
    PLACE_STATUS_SHIFT = 8,
};

/*
 * A queue pair as its group sees it. The pointers are to memory that this processor reaches: the first four shared with
 * the controller, `places` and the pair itself the accelerator's own. All members see the same pair.
 */
struct queue_pair {
    /* `entries` times 64 bytes. */
    uint64_t *submissions;
    /* `entries` times 16 bytes. */
    uint64_t *completions;
    uint32_t *tail_doorbell;
    uint32_t *head_doorbell;
    /* One word for each entry, zero at first. */
    uint32_t *places;
    /* A power of two, at most 65536. */
    uint32_t entries;
    /* The next place to write to, and the next completion to look at; they run on past `entries`. */
    uint32_t tail;
    uint32_t head;
    /* The head that the controller was told of. */
    uint32_t head_told;
    /* Completions that fit no command in flight: the controller is not to be trusted. */
    uint32_t strays;
};

HOMI_FN void queue_init(queue_pair *queue, uint64_t *submissions, uint64_t *completions, uint32_t *tail_doorbell,
                        uint32_t *head_doorbell, uint32_t *places, uint32_t entries)
{
    *queue = {submissions, completions, tail_doorbell, head_doorbell, places, entries, 0, 0, 0, 0};
}

/*
 * How many commands can be issued now, at most `wanted`. The place after the last one stays free, or a full queue would
 * look like an empty one: n entries hold n - 1 commands (Base, section 3.3.1).
 */
HOMI_FN uint32_t queue_room(const queue_pair *queue, uint32_t wanted)
{
    uint32_t const mask = queue->entries - 1;
    uint32_t room = 0;
    while (room < wanted && room < mask && queue->places[(queue->tail + room) & mask] == PLACE_FREE &&
           queue->places[(queue->tail + room + 1) & mask] == PLACE_FREE)
        room++;
    return room;
}

/* Writes one command to the place `ahead` of the tail, which queue_room has found free. Any member, any place. */
HOMI_FN void queue_write(queue_pair *queue, uint32_t ahead, uint32_t opcode, uint32_t nsid, uint64_t lba,
                         uint32_t blocks, data_pointer data)
{
    uint32_t const place = (queue->tail + ahead) & (queue->entries - 1);
    /* Before the store, which the compiler must take for one that may change it: one wait for loads instead of two. */
    uint64_t *const entry = queue->submissions + place * 8;
    queue->places[place] = PLACE_IN_FLIGHT;
    write_entry(entry, opcode, static_cast<uint16_t>(place), nsid, lba, blocks, data);
}

/* Lets the controller see the next `count` commands, all written. One member, after the others have synchronised. */
HOMI_FN void queue_ring(queue_pair *queue, uint32_t count)
{
    queue->tail += count;
    store_release(queue->tail_doorbell, queue->tail & (queue->entries - 1));
}

/* Whether the completion `ahead` of the next one is there, and what it says. */
HOMI_FN bool completion_at(const queue_pair *queue, uint32_t ahead, completion *done)
{
    uint32_t const number = queue->head + ahead;
    *done = read_completion(load_acquire(queue->completions + (number & (queue->entries - 1)) * 2 + 1));
    /* The phase is 1 in the first round, 0 in the second, and so on (Base, section 4.2.3). */
    return done->phase == (((number / queue->entries) & 1) == 0);
}

/* What a place is once its command has completed. */
HOMI_FN uint32_t place_done(const completion &done)
{
    return PLACE_DONE | static_cast<uint32_t>(done.status) << PLACE_STATUS_SHIFT;
}

/* Takes the completion `ahead` of the next one, which is there. Any member, each another one. */
HOMI_FN void queue_take(queue_pair *queue, uint32_t ahead)
{
    completion done;
    if (!completion_at(queue, ahead, &done) || done.cid >= queue->entries ||
        !replace_if(queue->places + done.cid, PLACE_IN_FLIGHT, place_done(done)))
        add_to(&queue->strays, 1);
}

/* Goes on behind the next `count` completions, all taken. One member, after the others have synchronised. */
HOMI_FN void queue_taken(queue_pair *queue, uint32_t count)
{
    queue->head += count;
    /* The controller needs to know only when it would run out of room; a quarter of the queue is soon enough. */
    if (queue->head - queue->head_told >= (queue->entries + 3) / 4) {
        queue->head_told = queue->head;
        store_release(queue->head_doorbell, queue->head & (queue->entries - 1));
    }
}

/* Takes the completions that are there, at most `most`; how many there were. One member, for all. */
HOMI_FN uint32_t queue_poll(queue_pair *queue, uint32_t most)
{
    uint32_t found = 0;
    completion done;
    while (found < most && completion_at(queue, found, &done)) {
        /* Nobody else does this now, and an atomic operation would take longer than the rest. */
        if (done.cid < queue->entries && queue->places[done.cid] == PLACE_IN_FLIGHT)
            queue->places[done.cid] = place_done(done);
        else
            queue->strays++;
        found++;
    }
    queue_taken(queue, found);
    return found;
}

/* Not answered in time. */
constexpr uint32_t QUEUE_LATE = ~0u;

/*
 * Waits until as many completions are there as the `count` commands from `first` on still need, at least; how many. 0 once
 * all have completed, QUEUE_LATE where `clocks` have passed since `start`. One member.
 *
 * What is looked at is the last of them. A controller writes completions in order, so it is written when the others have
 * been: each look is a round trip over the bus, and disturbs who writes the same line.
 */
HOMI_FN uint32_t queue_await(const queue_pair *queue, uint32_t first, uint32_t count, uint64_t start, uint64_t clocks)
{
    uint32_t missing = 0;
    for (uint32_t n = 0; n < count; n++)
        missing += (queue->places[(first + n) & (queue->entries - 1)] & 0xff) != PLACE_DONE;
    completion done;
    while (missing > 0 && !completion_at(queue, missing - 1, &done)) {
        if (clock_now() - start > clocks)
            return QUEUE_LATE;
        pause_briefly();
    }
    return missing;
}

/* The status of the command at `place`, which has completed; the place is free then. Any member, each another one. */
HOMI_FN status_t queue_release(queue_pair *queue, uint32_t place)
{
    uint32_t *state = queue->places + (place & (queue->entries - 1));
    status_t const status = static_cast<status_t>(*state >> PLACE_STATUS_SHIFT);
    *state = PLACE_FREE;
    return status;
}

/*
 * Waits until the command at `place` (its number in the submission queue) has completed, or `clocks` have passed; its
 * status. The place is free then, unless the time was over: the command is still in flight and its memory not free.
 * One member.
 */
HOMI_FN status_t queue_wait(queue_pair *queue, uint32_t place, uint64_t clocks)
{
    const uint32_t *state = queue->places + (place & (queue->entries - 1));
    uint64_t const start = clock_now();
    while ((*state & 0xff) != PLACE_DONE) {
        if (queue_poll(queue, queue->entries) > 0)
            continue;
        if (clock_now() - start > clocks)
            return HOMI_TIMED_OUT;
        pause_briefly();
    }
    return queue_release(queue, place);
}

} // namespace homi

#endif
