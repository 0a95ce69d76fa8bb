//! What a command is answered with.

use engine_nvme_spec::Status;

/// A command, as the controller fetched it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Its queue; 0 is the admin queue.
    pub queue: u16,
    /// The entry.
    pub words: [u64; 8],
}

impl Asked {
    /// Whether it came on the admin queue.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.queue == 0
    }

    /// What it asks for.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        let [first, ..] = self.words;
        let [opcode, ..] = first.to_le_bytes();
        opcode
    }

    /// Dwords 10 and 11.
    #[must_use]
    pub fn lba(&self) -> u64 {
        let [.., lba, _, _] = self.words;
        lba
    }
}

/// What to do with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// What it asks for.
    Right,
    /// Nothing but this status and dword 0.
    Status(Status, u32),
    /// What it asks for, with this dword 0.
    With(u32),
    /// Nothing, ever.
    Never,
    /// What it asks for, when [released](super::Mock::release) or aborted.
    Later,
    /// What it asks for, and the same completion once more.
    Twice,
    /// A completion with another identifier, and no other.
    WrongIdentifier(u16),
    /// A completion that names another submission queue, and no other.
    WrongQueue(u16),
    /// A completion with this head of the submission queue, and no other.
    WrongHead(u16),
    /// A completion whose phase tag is that of an old one, and no other.
    WrongPhase,
    /// Success, and bytes that are not those asked for.
    WrongBytes,
    /// These words as the completion queue's next entry, whatever they say, and no other.
    Entry([u64; 2]),
    /// What it asks for, and this as the answer to a request for an event, where one waits.
    Tell(u32),
    /// Nothing, and CSTS reads as this until the controller stops.
    Csts(u32),
    /// Nothing, and the controller does not let itself be stopped from then on.
    Freeze,
    /// Nothing, and the controller cannot be reached from then on.
    CutOff,
    /// The controller fails, with the command out.
    Fail,
    /// The controller is gone, with the command out.
    Vanish,
}
