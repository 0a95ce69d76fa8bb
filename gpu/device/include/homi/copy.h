/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Copying what commands brought from registered host memory to where it is wanted.
 *
 * A link is filled by many loads under way at a time. So every member has several loads of 16 bytes out before it
 * stores the first, and all teams of a group copy at once.
 */
#ifndef HOMI_COPY_H
#define HOMI_COPY_H

#include "group.h"

namespace homi {

/* One contiguous copy; nothing where `to` is null. */
struct transfer {
    uint8_t *to;
    const uint8_t *from;
    uint64_t bytes;
};

/* Loads that one member has under way. */
constexpr uint32_t COPY_LOADS = 8;

/* Copies with the members of one team, `lane` of `lanes`. The addresses need no alignment, but it is fast only where
 * both are equally far from a multiple of 16. */
HOMI_FN void copy_by_team(uint32_t lane, uint32_t lanes, uint8_t *to, const uint8_t *from, uint64_t bytes)
{
    uint64_t const apart = reinterpret_cast<uintptr_t>(to) ^ reinterpret_cast<uintptr_t>(from);
    uint64_t front = (16 - (reinterpret_cast<uintptr_t>(to) & 15)) & 15;
    if ((apart & 15) != 0 || front > bytes)
        front = bytes;
    for (uint64_t at = lane; at < front; at += lanes)
        to[at] = static_cast<const volatile uint8_t *>(from)[at];
    uint64_t const pairs = (bytes - front) / 16;
    uint64_t const step = static_cast<uint64_t>(lanes) * COPY_LOADS;
    uint8_t *const out = to + front;
    const uint8_t *const in = from + front;
    uint64_t first = 0;
    for (; first + step <= pairs; first += step) {
        uint64_t words[COPY_LOADS][2];
#if HOMI_ACCELERATOR
#pragma unroll
#endif
        for (uint32_t n = 0; n < COPY_LOADS; n++)
            load_pair(words[n], in + (first + n * lanes + lane) * 16);
#if HOMI_ACCELERATOR
#pragma unroll
#endif
        for (uint32_t n = 0; n < COPY_LOADS; n++) {
            uint64_t *const place = reinterpret_cast<uint64_t *>(out + (first + n * lanes + lane) * 16);
            place[0] = words[n][0];
            place[1] = words[n][1];
        }
    }
    for (uint64_t pair = first + lane; pair < pairs; pair += lanes) {
        uint64_t words[2];
        load_pair(words, in + pair * 16);
        uint64_t *const place = reinterpret_cast<uint64_t *>(out + pair * 16);
        place[0] = words[0];
        place[1] = words[1];
    }
    for (uint64_t at = front + pairs * 16 + lane; at < bytes; at += lanes)
        to[at] = static_cast<const volatile uint8_t *>(from)[at];
}

/* Carries out `count` copies with all members of a group: long ones are cut into pieces that teams take in turn. The
 * group synchronises before and after. */
template <typename Group>
HOMI_FN void copy_all(const Group &group, const transfer *transfers, uint32_t count)
{
    uint32_t const lanes = group.team_size();
    uint32_t const teams = group.size() / lanes;
    uint32_t const team = group.rank() / lanes, lane = group.rank() % lanes;
    uint64_t const piece = static_cast<uint64_t>(lanes) * COPY_LOADS * 16;
    /* The team whose turn the first piece of this copy is. */
    uint32_t turn = 0;
    for (uint32_t n = 0; n < count; n++) {
        transfer const one = transfers[n];
        if (one.to == nullptr)
            continue;
        uint64_t const pieces = (one.bytes + piece - 1) / piece;
        for (uint64_t p = (team + teams - turn) % teams; p < pieces; p += teams) {
            uint64_t const at = p * piece;
            copy_by_team(lane, lanes, one.to + at, one.from + at, one.bytes - at < piece ? one.bytes - at : piece);
        }
        turn = static_cast<uint32_t>((turn + pieces) % teams);
    }
}

} // namespace homi

#endif
