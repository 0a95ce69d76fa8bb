//! Queues and memory for those who fill queues themselves: threads, and accelerators that the memory is shown to.

use std::ffi::{c_int, c_void};

use homi_abi::session::{BUFFER_DMABUF, BUFFER_HOST};
use homi_client::{Buffer as ClientBuffer, BufferKind, QueueSet};

use crate::boundary::{Failure, answer, check, give_back, seen};
use crate::declare::CType;
use crate::session::{Session, descriptor, duplicate, queues_of};

/// What C has as `homifs_buffer`.
#[derive(Debug)]
pub(crate) struct Buffer(#[allow(dead_code, reason = "it lasts as long as this")] ClientBuffer);

impl CType for Buffer {
    fn name() -> String {
        "homifs_buffer".into()
    }
}

/// What C has as `homifs_queues`.
#[derive(Debug)]
pub(crate) struct Queues(#[allow(dead_code, reason = "they last as long as this")] QueueSet);

impl CType for Queues {
    fn name() -> String {
        "homifs_queues".into()
    }
}

record! {
    /// Memory that commands may name. Whole pages, shared with the daemon: cuMemHostRegister takes it.
    BufferMemory = "homifs_buffer_memory" {
        /// Where it lies in this process.
        address: *mut c_void,
        /// Bytes, at least as many as asked for.
        length: u64,
        /// Its first byte as commands name it.
        iova: u64,
        /// HOMIFS_BUFFER_*: what commands write to.
        kind: u32,
        /// 0.
        reserved: u32,
    }
}

record! {
    /// Where queue pairs lie. The accelerator writes entries and doorbells and polls completions by itself
    /// (gpu/device/include/homi/queue.h); both memories are whole pages that cuMemHostRegister takes.
    QueueMemory = "homifs_queue_memory" {
        /// The queues.
        queues: *mut c_void,
        /// Bytes of them.
        queues_length: u64,
        /// The doorbells: 32-bit words, each alone in 128 bytes.
        doorbells: *mut c_void,
        /// Bytes of them.
        doorbells_length: u64,
        /// From one pair to the next in the queues' memory.
        stride: u64,
        /// The submission queue from the start of its pair: entries times 64 bytes.
        submissions: u64,
        /// The completion queue from the start of its pair: entries times 16 bytes.
        completions: u64,
        /// From one pair to the next in the doorbells' memory.
        doorbell_stride: u64,
        /// The tail doorbell of the first pair in the doorbells' memory.
        tail_doorbell: u64,
        /// The head doorbell of the first pair in the doorbells' memory.
        head_doorbell: u64,
        /// Not 0 while the daemon sleeps; it can only be read. Who rings then calls homifs_session_wake, or has the daemon
        /// look by itself a millisecond later.
        asleep: *const u32,
        /// How many pairs there are.
        pairs: u32,
        /// Entries of each queue.
        entries: u32,
    }
}

/// What callers are told of memory.
fn described(made: &ClientBuffer) -> BufferMemory {
    BufferMemory {
        address: made.memory().address().cast(),
        length: u64::try_from(made.memory().length()).unwrap_or(u64::MAX),
        iova: made.iova(),
        kind: match made.kind() {
            BufferKind::Host => BUFFER_HOST,
            BufferKind::DmaBuf => BUFFER_DMABUF,
        },
        reserved: 0,
    }
}

functions! {
    /// Makes memory of at least `length` bytes, zeroed, that commands may name, and tells where it lies. Ends with
    /// homifs_buffer_release. 0, or an errno with a minus sign.
    fn homifs_buffer_new(session: *const Session, length: u64, buffer: *mut *mut Buffer, place: *mut BufferMemory) -> c_int {
        check(buffer, "buffer")?;
        check(place, "place")?;
        // SAFETY: The caller gives a session that is open, or null.
        let session = unsafe { seen(session, "session") }?;
        let queues = queues_of(session)?;
        if length == 0 || length > queues.limits().buffer_bytes {
            let most = queues.limits().buffer_bytes;
            return Err(Failure::invalid(format!("a buffer of {length} bytes; 1 to {most} can be had")));
        }
        let length = usize::try_from(length).map_err(|_| Failure::invalid("longer than memory"))?;
        let made = queues.buffer(length)?;
        // SAFETY: Both fit there, as the header says.
        unsafe {
            answer(place, "place", described(&made))?;
            answer(buffer, "buffer", Box::into_raw(Box::new(Buffer(made))))?;
        };
        Ok(0)
    }

    /// As homifs_buffer_new, for the first `length` bytes of a dma-buf: memory of an accelerator's own, for example
    /// (cuMemGetHandleForAddressRange). The descriptor stays the caller's. EOPNOTSUPP where the daemon's engine cannot write
    /// there; commands write to host memory then, and accelerators copy on.
    fn homifs_buffer_of_dma_buf(
        session: *const Session,
        fd: c_int,
        length: u64,
        buffer: *mut *mut Buffer,
        place: *mut BufferMemory,
    ) -> c_int {
        check(buffer, "buffer")?;
        check(place, "place")?;
        // SAFETY: The caller gives a session that is open, or null.
        let session = unsafe { seen(session, "session") }?;
        let queues = queues_of(session)?;
        // SAFETY: The caller keeps it open for the time of the call.
        let fd = unsafe { descriptor(fd) }?;
        let length = usize::try_from(length).map_err(|_| Failure::invalid("longer than memory"))?;
        let made = queues.register_dma_buf(duplicate(fd)?, length)?;
        // SAFETY: Both fit there, as the header says.
        unsafe {
            answer(place, "place", described(&made))?;
            answer(buffer, "buffer", Box::into_raw(Box::new(Buffer(made))))?;
        };
        Ok(0)
    }

    /// Gives memory back once no command reaches it any more; its addresses are nobody's then. Accelerators must have let
    /// go of it. Null is nothing.
    fn homifs_buffer_release(buffer: *mut Buffer) -> () {
        // SAFETY: The caller has it from homifs_buffer_new and uses it no more.
        unsafe { give_back(buffer) };
        Ok(())
    }

    /// Makes `pairs` queue pairs of `entries` entries each, a power of two from 2 on, and tells where they lie. All are the
    /// caller's; the library reads by others. Ends with homifs_queues_release. 0, or an errno with a minus sign.
    fn homifs_queues_new(
        session: *const Session,
        pairs: u32,
        entries: u32,
        queues: *mut *mut Queues,
        place: *mut QueueMemory,
    ) -> c_int {
        check(queues, "queues")?;
        check(place, "place")?;
        // SAFETY: The caller gives a session that is open, or null.
        let session = unsafe { seen(session, "session") }?;
        let daemon = queues_of(session)?;
        let limits = daemon.limits();
        let possible = (1..=limits.queues).contains(&pairs)
            && (2..=limits.entries).contains(&entries)
            && entries.is_power_of_two();
        if !possible {
            return Err(Failure::invalid(format!(
                "{pairs} queue pairs of {entries} entries; 1 to {} of 2 to {}, a power of two, can be had",
                limits.queues, limits.entries
            )));
        }
        let made = daemon.queues(pairs, entries)?;
        let places = made.places();
        let bytes = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
        let value = QueueMemory {
            queues: made.memory().address().cast(),
            queues_length: bytes(places.length),
            doorbells: made.doorbells().address().cast(),
            doorbells_length: bytes(places.doorbells_length),
            stride: bytes(places.stride),
            submissions: bytes(places.submissions),
            completions: bytes(places.completions),
            doorbell_stride: bytes(places.doorbell_stride),
            tail_doorbell: bytes(places.tail_doorbell),
            head_doorbell: bytes(places.head_doorbell),
            asleep: daemon.asleep_word(),
            pairs: places.count,
            entries: places.entries,
        };
        // SAFETY: Both fit there, as the header says.
        unsafe {
            answer(place, "place", value)?;
            answer(queues, "queues", Box::into_raw(Box::new(Queues(made))))?;
        };
        Ok(0)
    }

    /// Lets go of queue pairs: their addresses are nobody's then. The daemon keeps the pairs until the session ends, and
    /// counts them. Null is nothing.
    fn homifs_queues_release(queues: *mut Queues) -> () {
        // SAFETY: The caller has them from homifs_queues_new and uses them no more.
        unsafe { give_back(queues) };
        Ok(())
    }
}
