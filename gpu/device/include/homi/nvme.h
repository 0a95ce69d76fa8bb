/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The few NVMe words that an accelerator writes and reads: submission entries of 64 bytes, completion entries of 16
 * (NVM Express Base Specification 2.x, sections 4.1 and 4.2; NVM Command Set Specification, section 3.2).
 */
#ifndef HOMI_NVME_H
#define HOMI_NVME_H

#include "platform.h"

namespace homi {

/* Opcodes of the NVM command set. */
enum : uint32_t {
    NVME_FLUSH = 0x00,
    NVME_WRITE = 0x01,
    NVME_READ = 0x02,
};

/* The 15 bits of a completion's status: type in bits 8 to 10, code in bits 0 to 7, "do not retry" in bit 14. */
using status_t = uint16_t;

enum : status_t {
    NVME_SUCCESS = 0x0000,
    NVME_NAMESPACE_NOT_READY = 0x0082,
    NVME_LBA_OUT_OF_RANGE = 0x0080,
    NVME_DO_NOT_RETRY = 0x4000,
    /* No NVMe status has all bits set: the completion did not come within the time given. */
    HOMI_TIMED_OUT = 0x7fff,
    /* Nor this one: what was asked for can be told to be wrong without asking (an end past 2^64, a length of 0). */
    HOMI_INVALID = 0x7ffe,
};

HOMI_FN uint32_t status_type(status_t status) { return (status >> 8) & 7; }
HOMI_FN uint32_t status_code(status_t status) { return status & 0xff; }

/* Where the data of a command goes: two PRP entries, or one SGL descriptor. */
struct data_pointer {
    uint64_t first;
    uint64_t second;
    bool is_sgl;
};

/* An SGL data block descriptor: address, then length, with type 0 and subtype 0 in the last byte. */
HOMI_FN data_pointer sgl_block(uint64_t address, uint32_t length) { return {address, length, true}; }

/* Writes a read or write of `blocks` (at least one) blocks into the 64 bytes at `entry`. */
HOMI_FN void write_entry(uint64_t *entry, uint32_t opcode, uint16_t cid, uint32_t nsid, uint64_t lba, uint32_t blocks,
                         data_pointer data)
{
    /* Bits 14 and 15 of the first word say how the data pointer is meant: 01b is an SGL for the data. */
    uint64_t const first = opcode | (data.is_sgl ? 1u << 14 : 0u) | static_cast<uint32_t>(cid) << 16;
    store_pair(entry, first | static_cast<uint64_t>(nsid) << 32, 0);
    store_pair(entry + 2, 0, data.first);
    store_pair(entry + 4, data.second, lba);
    store_pair(entry + 6, blocks - 1, 0);
}

/* The second half of a completion, taken apart. */
struct completion {
    uint16_t sq_head;
    uint16_t sq_id;
    uint16_t cid;
    bool phase;
    status_t status;
};

HOMI_FN completion read_completion(uint64_t word)
{
    return {static_cast<uint16_t>(word), static_cast<uint16_t>(word >> 16), static_cast<uint16_t>(word >> 32),
            ((word >> 48) & 1) != 0, static_cast<status_t>(word >> 49)};
}

} // namespace homi

#endif
