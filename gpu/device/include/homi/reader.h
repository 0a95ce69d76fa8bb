/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Bytes of files, any range, to any place: what kernels call.
 *
 * A reader is a queue pair and some registered memory that one group has for itself. Commands bring blocks into that
 * memory; the whole group then copies the bytes on. The memory is used in two halves: while one is copied, commands for
 * the other are in flight. One member polls for all, so a line of completions never has more than one poller; what it
 * found is taken by all.
 *
 *     homi::block_group const group;
 *     homi::result const got = homi::homi_read(group, reader, file, offset, length, target);
 */
#ifndef HOMI_READER_H
#define HOMI_READER_H

#include "copy.h"
#include "file.h"

namespace homi {

/* Most commands of one half. */
constexpr uint32_t READER_BATCH = 64;

/* Commands of one half: none, or in flight. */
struct batch {
    /* Number of the first, as queue_pair::tail counts, and how many there are. */
    uint32_t first;
    uint32_t count;
    transfer transfers[READER_BATCH];
};

/* In memory that all members reach; the accelerator's own. */
struct reader {
    queue_pair queue;
    /* This reader's part of the registered memory, as commands name it and as this processor reaches it. */
    buffer staging;
    const uint8_t *memory;
    limits bounds;
    /* Longest piece of a file that one command brings: a power of two. */
    uint64_t piece;
    batch halves[2];
    /* For members to tell each other something. */
    uint32_t shared;
    /* Not 0 after a command was not answered in time: its memory may still be written to, so nothing is read again. */
    uint32_t broken;
    /* Commands that were answered. */
    uint64_t commands;
};

/* Bytes of a file, and where they go. With a null target they stay in the registered memory. */
struct request {
    file source;
    uint64_t offset;
    uint64_t length;
    uint8_t *target;
};

/* What a read came to: the first status that was no success, and the bytes that were asked for and lie in the file. All
 * of them are there where the status is success; after a failure some may be. */
struct result {
    status_t status;
    uint64_t bytes;
};

/* What one command brings. */
struct piece {
    file source;
    uint64_t offset;
    uint64_t length;
    uint8_t *target;
};

/* Prepares a reader whose queue has been prepared: its part of the registered memory holds two blocks at least. False
 * where it does not, or where the queue is too short for two halves. */
HOMI_FN bool reader_init(reader *r, buffer staging, const uint8_t *memory, limits bounds)
{
    uint64_t const half = staging.length / 2 & ~511ull;
    uint64_t piece = 512;
    if (staging.lists != 0 && bounds.max_transfer > PRP_LONGEST)
        bounds.max_transfer = PRP_LONGEST;
    while (piece * 2 <= half && piece * 2 <= bounds.max_transfer)
        piece *= 2;
    r->staging = {staging.iova, half * 2, staging.lists};
    r->memory = memory;
    r->bounds = bounds;
    r->piece = piece;
    r->halves[0].count = r->halves[1].count = 0;
    r->shared = r->broken = 0;
    r->commands = 0;
    return half >= 512 && bounds.max_transfer >= 512 && r->queue.entries >= 4;
}

/* Whether a piece's blocks can be asked for by one command of this reader. */
HOMI_FN bool fits(const reader *r, const piece &p)
{
    uint64_t const mask = (1ull << p.source.block_shift) - 1;
    uint64_t const half = r->staging.length / 2;
    if (p.source.block_shift < 9 || p.source.block_shift > 31 || p.length == 0 || p.length > half ||
        p.offset + p.length < p.offset)
        return false;
    uint64_t const length = ((p.offset & mask) + p.length + mask) & ~mask;
    return length <= half && length <= r->bounds.max_transfer;
}

/*
 * Issues what `source` gives, as much as a half holds; all members alike. `source.peek(piece *)` says whether there is
 * more and what, `source.next()` goes on to what comes after.
 */
template <typename Group, typename Source>
HOMI_FN status_t issue(const Group &group, reader *r, uint32_t half, Source *source)
{
    batch *b = r->halves + half;
    uint32_t const all = (r->queue.entries - 1) / 2;
    uint32_t const most = all < READER_BATCH ? all : READER_BATCH;
    uint64_t const room = r->staging.length / 2, start = half * room;
    uint64_t used = 0;
    uint32_t made = 0;
    status_t outcome = NVME_SUCCESS;
    piece p;
    while (made < most && source->peek(&p)) {
        if (!fits(r, p)) {
            outcome = HOMI_INVALID;
            break;
        }
        uint64_t const mask = (1ull << p.source.block_shift) - 1;
        uint64_t const skip = p.offset & mask;
        uint64_t const length = (skip + p.length + mask) & ~mask;
        /* A command's memory begins where blocks do, so that equal offsets are equally aligned. */
        uint64_t const at = (used + mask) & ~mask;
        if (at + length > room) {
            if (made == 0)
                outcome = HOMI_INVALID;
            break;
        }
        if (made % group.size() == group.rank()) {
            queue_write(&r->queue, made, NVME_READ, p.source.nsid, p.offset >> p.source.block_shift,
                        static_cast<uint32_t>(length >> p.source.block_shift),
                        pointer_to(r->staging, start + at, static_cast<uint32_t>(length)));
            b->transfers[made] = {p.target, r->memory + start + at + skip, p.length};
        }
        used = at + length;
        made++;
        source->next();
    }
    group.sync();
    if (group.rank() == 0) {
        b->first = r->queue.tail;
        b->count = made;
        if (made > 0)
            queue_ring(&r->queue, made);
    }
    group.sync();
    return outcome;
}

/* Takes completions until all commands of a half have completed; false where one was not answered in time. All members
 * alike. */
template <typename Group>
HOMI_FN bool settle(const Group &group, reader *r, const batch *b)
{
    uint64_t const start = clock_now();
    while (true) {
        if (group.rank() == 0)
            r->shared = queue_await(&r->queue, b->first, b->count, start, r->bounds.patience);
        group.sync();
        uint32_t const there = r->shared;
        if (there == 0 || there == QUEUE_LATE)
            return there == 0;
        for (uint32_t n = group.rank(); n < there; n += group.size())
            queue_take(&r->queue, n);
        group.sync();
        if (group.rank() == 0)
            queue_taken(&r->queue, there);
    }
}

/* Waits for all commands of a half; the first status that was no success, the same for all members. */
template <typename Group>
HOMI_FN status_t wait(const Group &group, reader *r, uint32_t half)
{
    constexpr uint32_t NONE = ~0u;
    batch *b = r->halves + half;
    bool const settled = settle(group, r, b);
    group.sync();
    if (group.rank() == 0) {
        r->broken |= !settled;
        r->shared = NONE;
        r->commands += settled ? b->count : 0;
    }
    group.sync();
    if (!settled)
        return HOMI_TIMED_OUT;
    for (uint32_t n = group.rank(); n < b->count; n += group.size()) {
        status_t const status = queue_release(&r->queue, b->first + n);
        if (status != NVME_SUCCESS)
            lower_to(&r->shared, n << 16 | status);
    }
    group.sync();
    uint32_t const first = r->shared;
    group.sync();
    return first == NONE ? static_cast<status_t>(NVME_SUCCESS) : static_cast<status_t>(first & 0xffff);
}

/* Reads all that `source` gives, both halves in turn. Nothing is in flight afterwards, unless the time was over. */
template <typename Group, typename Source>
HOMI_FN status_t read_all(const Group &group, reader *r, Source *source)
{
    group.sync();
    if (r->broken != 0)
        return HOMI_TIMED_OUT;
    status_t outcome = issue(group, r, 0, source);
    uint32_t half = 0;
    while (true) {
        uint32_t const count = r->halves[half].count;
        if (count == 0)
            return outcome;
        if (outcome == NVME_SUCCESS) {
            outcome = issue(group, r, half ^ 1, source);
        } else {
            if (group.rank() == 0)
                r->halves[half ^ 1].count = 0;
            group.sync();
        }
        status_t const status = wait(group, r, half);
        if (status == HOMI_TIMED_OUT)
            return status;
        if (status == NVME_SUCCESS)
            copy_all(group, r->halves[half].transfers, count);
        group.sync();
        if (status != NVME_SUCCESS && outcome == NVME_SUCCESS) {
            /* What the other half has in flight is waited for, so that its memory is free. */
            status_t const rest = wait(group, r, half ^ 1);
            return rest == HOMI_TIMED_OUT ? rest : status;
        }
        half ^= 1;
    }
}

/* The pieces of a list of requests that fall to one of many groups: piece c of request i to group i + c. */
struct gather_source {
    const request *requests;
    uint64_t count;
    uint32_t groups;
    uint64_t longest;
    /* Where we are: a request, a piece of it, how many it has, and the piece that we have of the next. */
    uint64_t at;
    uint64_t within;
    uint64_t pieces;
    uint32_t phase;
    uint64_t bytes;

    HOMI_FN void begin(const reader *r, const request *list, uint64_t length, uint32_t number, uint32_t all)
    {
        requests = list;
        count = length;
        groups = all;
        longest = r->piece;
        at = 0;
        phase = number % all;
        bytes = 0;
        enter();
    }

    /* How much of a request lies in its file. */
    HOMI_FN static uint64_t there(const request &one)
    {
        uint64_t const rest = one.offset < one.source.size ? one.source.size - one.offset : 0;
        return one.length < rest ? one.length : rest;
    }

    HOMI_FN void enter()
    {
        while (at < count) {
            request const &one = requests[at];
            uint64_t const length = there(one);
            /* Pieces end at multiples of their length in the file. */
            pieces = length == 0 ? 0 : (one.offset + length - 1) / longest - one.offset / longest + 1;
            within = phase;
            if (within < pieces)
                return;
            leave();
        }
    }

    HOMI_FN void leave()
    {
        at++;
        phase = phase == 0 ? groups - 1 : phase - 1;
    }

    HOMI_FN bool peek(piece *p) const
    {
        if (at >= count)
            return false;
        request const &one = requests[at];
        uint64_t const end = one.offset + there(one);
        uint64_t const first = (one.offset / longest + within) * longest;
        uint64_t const from = first > one.offset ? first : one.offset;
        uint64_t const to = first + longest < end ? first + longest : end;
        p->source = one.source;
        p->offset = from;
        p->length = to - from;
        p->target = one.target == nullptr ? nullptr : one.target + (from - one.offset);
        return true;
    }

    HOMI_FN void next()
    {
        piece p;
        if (!peek(&p))
            return;
        bytes += p.length;
        within += groups;
        if (within >= pieces) {
            leave();
            enter();
        }
    }
};

/*
 * Reads this group's part of many requests: `number` of `groups` that are all given the same list, each with a reader
 * of its own. What lies past a file's end is left out; the bytes are those of this group.
 */
template <typename Group>
HOMI_FN result homi_gather(const Group &group, reader *r, const request *requests, uint64_t count, uint32_t number,
                           uint32_t groups)
{
    gather_source source;
    source.begin(r, requests, count, number, groups);
    status_t const status = read_all(group, r, &source);
    return {status, source.bytes};
}

/* A number that no other group gets, for all members of this one. */
template <typename Group>
HOMI_FN uint32_t take_together(const Group &group, reader *r, uint32_t *taken)
{
    group.sync();
    if (group.rank() == 0)
        r->shared = take_number(taken);
    group.sync();
    return r->shared;
}

/* The runs of a list of requests that one of many groups takes as it comes to them; whole requests. */
template <typename Group>
struct shared_source {
    const Group &group;
    reader *r;
    const request *requests;
    uint64_t count;
    /* Requests of a run, and how many runs were taken by all groups. */
    uint64_t run;
    uint32_t *taken;
    gather_source part;
    bool over;

    /* Goes to a run that has something to read, if there is one. */
    HOMI_FN void take()
    {
        piece p;
        do {
            uint64_t const first = take_together(group, r, taken) * run, before = part.bytes;
            over = first >= count;
            part.begin(r, requests + first, over ? 0 : count - first < run ? count - first : run, 0, 1);
            part.bytes = before;
        } while (!over && !part.peek(&p));
    }

    HOMI_FN bool peek(piece *p) const { return part.peek(p); }

    HOMI_FN void next()
    {
        piece p;
        part.next();
        if (!over && !part.peek(&p))
            take();
    }
};

/* Runs that each group gets in the middle: enough for those that are answered slower to take less, and few enough that
 * taking them costs nothing. */
constexpr uint64_t RUNS_EACH = 16;

/*
 * As homi_gather, but groups take requests as they come to them, so that what all read does not last as long as the
 * slowest queue's even part of it. Each request is read by one group: for few long ones use homi_gather. `*taken` is 0 before
 * the first group begins, in memory that all of them reach.
 */
template <typename Group>
HOMI_FN result homi_gather_shared(const Group &group, reader *r, const request *requests, uint64_t count, uint32_t groups,
                                  uint32_t *taken)
{
    uint64_t const even = count / groups / RUNS_EACH;
    uint64_t const run = even < 1 ? 1 : even > READER_BATCH ? READER_BATCH : even;
    shared_source<Group> source = {group, r, requests, count, run, taken, {}, false};
    source.take();
    status_t const status = read_all(group, r, &source);
    return {status, source.part.bytes};
}

/* Reads a range of a file with one group, to `target`. As read(2), it gives fewer bytes at the file's end. */
template <typename Group>
HOMI_FN result homi_read(const Group &group, reader *r, const file &source, uint64_t offset, uint64_t length,
                         uint8_t *target)
{
    request const one = {source, offset, length, target};
    return homi_gather(group, r, &one, 1, 0, 1);
}

/* A read that was started: one piece at most. */
struct pending {
    uint32_t half;
    status_t refused;
    uint64_t bytes;
};

/*
 * Starts a read of at most reader::piece bytes in one half (0 or 1) of the reader, and returns at once; the half must
 * have nothing in flight. homi_wait makes the bytes be there. Another read may run in the other half meanwhile.
 */
template <typename Group>
HOMI_FN pending homi_issue(const Group &group, reader *r, uint32_t half, const file &source, uint64_t offset,
                           uint64_t length, uint8_t *target)
{
    group.sync();
    if (r->broken != 0)
        return {half, HOMI_TIMED_OUT, 0};
    request const one = {source, offset, length, target};
    gather_source pieces;
    pieces.begin(r, &one, 1, 0, 1);
    status_t const status = issue(group, r, half, &pieces);
    return {half, status, pieces.bytes};
}

/* Waits for a read that was started, and copies what it brought. */
template <typename Group>
HOMI_FN result homi_wait(const Group &group, reader *r, const pending &started)
{
    status_t const status = wait(group, r, started.half);
    if (status == NVME_SUCCESS)
        copy_all(group, r->halves[started.half].transfers, r->halves[started.half].count);
    group.sync();
    if (group.rank() == 0)
        r->halves[started.half].count = 0;
    group.sync();
    return {status != NVME_SUCCESS ? status : started.refused, started.bytes};
}

} // namespace homi

#endif
