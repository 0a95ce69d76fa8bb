//! What a client and the daemon say to each other before commands flow: version 1.
//!
//! The socket is a UNIX socket of type `SOCK_SEQPACKET`: each message is one packet, a [`Message`] and what belongs to
//! its kind. The client asks, the daemon answers each request with a message of the same kind and `id`; where `error`
//! is not 0, what follows is a sentence in UTF-8 that says what, why and what to do. Descriptors travel with the message
//! that names them (`SCM_RIGHTS`). A client that closes the socket gives everything back.

layout! {
    /// What stands before every request and every answer.
    Message = "homi_message", 24 bytes {
        /// "homi".
        magic: u8[4],
        /// 1 for what is described here. The daemon refuses others.
        version: u16,
        /// HOMI_KIND_*.
        kind: u16,
        /// Bytes of the whole message, this header included.
        length: u32,
        /// In an answer: 0, or why the request was refused, as errno(3). In a request: 0.
        error: u32,
        /// The client's number for the request; the answer has the same.
        id: u64,
    }
}

layout! {
    /// The answer to HOMI_KIND_HELLO, which is the first request. With it come two descriptors: the status page, for
    /// reading only, and an eventfd that wakes the daemon.
    Welcome = "homi_welcome", 64 bytes {
        /// The daemon's number for this client, as statistics and logs show it.
        client: u64,
        /// Bytes of the status page: a homi_status, then `lease_slots` lease words of 8 bytes each. Sixteen of them share
        /// 128 bytes, so they are for a look now and then by one reader, not for polling by many: commands on what was
        /// taken back fail by themselves.
        status_length: u64,
        /// Most bytes that may be registered as buffers, all together.
        max_buffer_bytes: u64,
        /// Most buffers.
        max_buffers: u32,
        /// Most queue pairs, all together.
        max_queues: u32,
        /// Most entries of one queue.
        max_entries: u32,
        /// Most files open at a time; as many lease words there are.
        lease_slots: u32,
        /// Longest transfer of one command in bytes.
        max_transfer: u32,
        /// What addresses and lengths of buffers must be multiples of.
        page_size: u32,
        /// HOMI_WELCOME_*.
        flags: u32,
        /// 0.
        reserved: u32[3],
    }
}

layout! {
    /// HOMI_KIND_QUEUES: asks for queue pairs.
    QueuesRequest = "homi_queues_request", 8 bytes {
        /// How many.
        count: u32,
        /// Entries of each queue, a power of two from 2 on.
        entries: u32,
    }
}

layout! {
    /// The answer to HOMI_KIND_QUEUES. With it come two descriptors: the memory of the queues, and that of the doorbells,
    /// both zeroed. Every word that somebody polls stands alone in its 128 bytes.
    Queues = "homi_queues", 80 bytes {
        /// Number of the first pair; the others follow.
        first: u32,
        /// How many there are.
        count: u32,
        /// Entries of each queue.
        entries: u32,
        /// HOMI_QUEUES_*.
        flags: u32,
        /// In the queues' memory: from one pair to the next.
        stride: u64,
        /// The submission queue, from the start of its pair: entries times 64 bytes.
        submissions: u64,
        /// The completion queue, from the start of its pair: entries times 16 bytes.
        completions: u64,
        /// Bytes of the queues' memory.
        length: u64,
        /// In the doorbells' memory: from one pair to the next.
        doorbell_stride: u64,
        /// The submission queue's tail doorbell of the first pair, 32 bits, written by the client.
        tail_doorbell: u64,
        /// The completion queue's head doorbell of the first pair, 32 bits, written by the client.
        head_doorbell: u64,
        /// Bytes of the doorbells' memory.
        doorbells_length: u64,
    }
}

layout! {
    /// HOMI_KIND_BUFFER: registers memory for data. With it comes the descriptor of a memfd, sealed against shrinking, or
    /// of a dma-buf, where the daemon's engine can write to one.
    BufferRequest = "homi_buffer_request", 16 bytes {
        /// First byte in the memfd, a multiple of the page size.
        offset: u64,
        /// Bytes, a multiple of the page size.
        length: u64,
    }
}

layout! {
    /// The answer to HOMI_KIND_BUFFER, and the request HOMI_KIND_RELEASE.
    BufferReply = "homi_buffer", 24 bytes {
        /// The address of its first byte, as commands name it.
        iova: u64,
        /// Bytes.
        length: u64,
        /// HOMI_BUFFER_*: what memory it is.
        kind: u32,
        /// 0.
        reserved: u32,
    }
}

layout! {
    /// The answer to HOMI_KIND_OPEN: the file as a namespace, whose block n is the file's block n.
    FileReply = "homi_file", 64 bytes {
        /// Its number in commands.
        nsid: u32,
        /// Bytes of a block, a power of two.
        block_size: u32,
        /// Blocks; the last one is filled up with zeros.
        blocks: u64,
        /// Bytes of the file.
        size: u64,
        /// The generation of the file that the namespace shows.
        generation: u64,
        /// Inode number on the volume.
        inode: u64,
        /// Place of its word among the lease words.
        lease_slot: u32,
        /// HOMI_FILE_*.
        flags: u32,
        /// 0.
        reserved: u64[2],
    }
}

layout! {
    /// The answer to HOMI_KIND_SNAPSHOT: all files below a directory as one namespace. With it comes the descriptor of
    /// the arena (homi_snapshot_header), a memfd that nobody can change any more. Byte n of a file of the arena is byte
    /// first_block * header.block_size + n of the namespace; blocks between a file's end and the next file's first are
    /// there, too, and read as zeros. The namespace is given back by HOMI_KIND_CLOSE.
    SnapshotReply = "homi_snapshot_reply", 64 bytes {
        /// Its number in commands.
        nsid: u32,
        /// Bytes of a block of the namespace, a power of two, at most header.block_size.
        block_size: u32,
        /// Blocks of the namespace; without any there is no namespace.
        blocks: u64,
        /// Bytes of the arena; the memfd is filled up to whole pages.
        length: u64,
        /// Files in the arena.
        files: u64,
        /// Files and directories that are left out since the client may not read them or they are damaged.
        left_out: u64,
        /// Place of its word among the lease words. Where a single file is taken back, commands that touch it answer
        /// Namespace Not Ready, and the word counts a change.
        lease_slot: u32,
        /// 0.
        reserved: u32[5],
    }
}

layout! {
    /// HOMI_KIND_CLOSE: gives a namespace back.
    CloseRequest = "homi_close_request", 8 bytes {
        /// Its number.
        nsid: u32,
        /// 0.
        reserved: u32,
    }
}

layout! {
    /// HOMI_KIND_IDENTIFY: asks for what an NVMe controller tells of a namespace.
    IdentifyRequest = "homi_identify_request", 8 bytes {
        /// Its number.
        nsid: u32,
        /// 0.
        reserved: u32,
    }
}

layout! {
    /// The answer to HOMI_KIND_IDENTIFY: the Identify Namespace data structure (NVM Command Set Specification, section
    /// 4.1.5.1) as far as a namespace has any, NSZE, NCAP and the LBA formats among it. The structure's other bytes are 0.
    IdentifyReply = "homi_identify", 384 bytes {
        /// Its first 384 bytes.
        data: u8[384],
    }
}

layout! {
    /// The beginning of the status page, which only the daemon writes.
    Status = "homi_status", 256 bytes {
        /// HOMI_STATE_*.
        state: u32,
        /// 0.
        reserved: u32[31],
        /// Not 0 while the daemon sleeps: a client that rings then wakes it by the eventfd. One that cannot waits for the
        /// daemon's next look, a millisecond at most.
        asleep: u32,
        /// 0.
        reserved_2: u32[31],
    }
}

layout! {
    /// What the attributes "homi.handle" and "homi.handle.write" give, and the request HOMI_KIND_OPEN (of a file) or HOMI_KIND_SNAPSHOT (of a
    /// directory): a proof that somebody who could read it asked for it.
    Handle = "homi_handle", 64 bytes {
        /// "homihdl" and the version, 1.
        magic: u8[8],
        /// The mount that gave it.
        mount: u64,
        /// The inode.
        inode: u64,
        /// The generation of the inode.
        generation: u64,
        /// When it ends to be good, in seconds since 1970.
        expiry: u64,
        /// HOMI_HANDLE_*: what it is for, beside reading.
        rights: u64,
        /// Over all that stands before, by a key that the daemon keeps.
        mac: u8[16],
    }
}

/// What stands in [`Message::magic`].
pub const MAGIC: [u8; 4] = *b"homi";
/// What stands in [`Message::version`].
pub const VERSION: u16 = 1;
/// What stands in [`Handle::magic`].
pub const HANDLE_MAGIC: [u8; 8] = *b"homihdl\x01";
/// Longest message in bytes.
pub const MESSAGE_MAX: usize = 4096;
/// What every polled word stands alone in, in bytes: the largest unit that a processor or an accelerator fetches.
pub const LINE: u32 = 128;

/// Kinds of messages, in [`Message::kind`].
pub mod kind {
    /// The first request; nothing follows. Answered with [`Welcome`](super::Welcome).
    pub const HELLO: u16 = 1;
    /// [`QueuesRequest`](super::QueuesRequest), answered with [`Queues`](super::Queues).
    pub const QUEUES: u16 = 2;
    /// [`BufferRequest`](super::BufferRequest), answered with [`BufferReply`](super::BufferReply).
    pub const BUFFER: u16 = 3;
    /// [`BufferReply`](super::BufferReply) as it was given; answered with nothing but the header once no command
    /// reaches the memory any more.
    pub const RELEASE: u16 = 4;
    /// [`Handle`](super::Handle) as the attribute `homi.handle` gave it, answered with [`FileReply`](super::FileReply).
    pub const OPEN: u16 = 5;
    /// [`CloseRequest`](super::CloseRequest); answered with nothing but the header once no command is in flight.
    pub const CLOSE: u16 = 6;
    /// [`Handle`](super::Handle) of a directory, answered with [`SnapshotReply`](super::SnapshotReply).
    pub const SNAPSHOT: u16 = 7;
    /// [`IdentifyRequest`](super::IdentifyRequest), answered with [`IdentifyReply`](super::IdentifyReply).
    pub const IDENTIFY: u16 = 8;
}

/// In [`Welcome::flags`]: commands may name data by SGL data block descriptors.
pub const WELCOME_SGL: u32 = 1 << 0;
/// In [`BufferReply::kind`]: memory of the host; for an accelerator's own it has to be copied on.
pub const BUFFER_HOST: u32 = 1;
/// In [`BufferReply::kind`]: the memory behind a dma-buf, which the daemon's processor writes through a mapping of it.
pub const BUFFER_DMABUF: u32 = 2;
/// In [`Queues::flags`]: the daemon checks and carries out each command (the mediated tier).
pub const QUEUES_MEDIATED: u32 = 1 << 0;
/// In [`FileReply::flags`]: the file may be written.
pub const FILE_WRITABLE: u32 = 1 << 0;

/// In [`Handle::rights`]: for writing, too.
pub const HANDLE_WRITE: u64 = 1 << 0;

/// In [`Status::state`]: all is well.
pub const STATE_SERVING: u32 = 1;
/// In [`Status::state`]: the mount is going away; every command answers Namespace Not Ready.
pub const STATE_ENDING: u32 = 2;

/// Where the word [`Status::asleep`] lies on the status page.
pub const ASLEEP: usize = 128;

/// Bits of a lease word that say what the lease is; those above count its changes.
pub const LEASE_STATE: u64 = 0xff;
/// A lease word: no file has this slot.
pub const LEASE_FREE: u64 = 0;
/// A lease word: the file's blocks are the file's.
pub const LEASE_HELD: u64 = 1;
/// A lease word: taken back; commands answer Namespace Not Ready.
pub const LEASE_REVOKED: u64 = 2;

/// All structures, for the C header.
pub const STRUCTURES: [crate::Structure; 13] = [
    Message::STRUCTURE,
    Welcome::STRUCTURE,
    QueuesRequest::STRUCTURE,
    Queues::STRUCTURE,
    BufferRequest::STRUCTURE,
    BufferReply::STRUCTURE,
    Handle::STRUCTURE,
    FileReply::STRUCTURE,
    SnapshotReply::STRUCTURE,
    CloseRequest::STRUCTURE,
    IdentifyRequest::STRUCTURE,
    IdentifyReply::STRUCTURE,
    Status::STRUCTURE,
];
