//! The driver, by a controller that says and does anything.

use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use engine_block::{BlockDevice, Piece, Pieces, Request, Wait};
use engine_nvme::testing::{Answer, Mock, MockOptions};
use engine_nvme::{DriverOptions, NvmeDevice, Status, open};

/// Bytes of the volume.
const SIZE: usize = 1 << 16;
/// The longest that one input may take; each wait of the driver's is shorter by far.
const LIMIT: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_millis(16);
const MOST_READS: usize = 16;

/// A controller.
#[derive(Debug, Arbitrary)]
struct Input {
    block_4096: bool,
    sgl: bool,
    shadow_doorbells: bool,
    assisted: bool,
    queues: u8,
    max_transfer_pages: u8,
    /// Whether CAP is what it should be, and Identify true: most inputs should get past the beginning.
    strange: u8,
    capabilities: u64,
    lies: [Lie; 2],
    /// Commands that are answered right before it begins.
    calm: u8,
    reads: [(u16, u16); MOST_READS],
    answers: Vec<Reply>,
}

/// Something other than the truth in an Identify structure.
#[derive(Debug, Arbitrary)]
struct Lie {
    cns: u8,
    offset: u16,
    bytes: [u8; 4],
    length: u8,
}

/// What is done to one command, whichever it is.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Reply {
    Right,
    Again(u8),
    Status(u16, u32),
    With(u32),
    Never,
    Later,
    Twice,
    WrongIdentifier(u16),
    WrongQueue(u16),
    WrongHead(u16),
    WrongPhase,
    Entry(u64, u64),
    /// An entry that is new and names a command by a number that commands have.
    New(u64, u16, u16),
    Tell(u32),
    Csts(u32),
    Freeze,
    CutOff,
    Fail,
    Vanish,
}

impl Reply {
    fn answer(self) -> Answer {
        match self {
            Self::Right | Self::Again(_) => Answer::Right,
            Self::Status(status, dw0) => Answer::Status(Status(status & 0x7fff), dw0),
            Self::With(dw0) => Answer::With(dw0),
            Self::Never => Answer::Never,
            Self::Later => Answer::Later,
            Self::Twice => Answer::Twice,
            Self::WrongIdentifier(cid) => Answer::WrongIdentifier(cid),
            Self::WrongQueue(queue) => Answer::WrongQueue(queue),
            Self::WrongHead(head) => Answer::WrongHead(head),
            Self::WrongPhase => Answer::WrongPhase,
            Self::Entry(first, second) => Answer::Entry([first, second]),
            Self::New(first, status, cid) => {
                let status = u64::from(status) << 49;
                Answer::Entry([first, status | 1 << 48 | u64::from(cid % 1024) << 32 | 1 << 16])
            }
            Self::Tell(event) => Answer::Tell(event),
            Self::Csts(value) => Answer::Csts(value),
            Self::Freeze => Answer::Freeze,
            Self::CutOff => Answer::CutOff,
            Self::Fail => Answer::Fail,
            Self::Vanish => Answer::Vanish,
        }
    }

    /// Whether what it says may be taken for the truth though it is not.
    fn deceives(self) -> bool {
        match self {
            // A status of success without the deed; a number that is that of another command.
            Self::Status(status, _) => Status(status & 0x7fff).is_success(),
            Self::WrongIdentifier(_) | Self::WrongHead(_) | Self::WrongQueue(_) | Self::With(_) => true,
            // Nor need it have stopped that says so.
            Self::Entry(..) | Self::New(..) | Self::Csts(_) => true,
            _ => false,
        }
    }
}

fn disk() -> Vec<u8> {
    (0..SIZE).map(|at| (at * 7 + (at >> 8)) as u8).collect()
}

/// Runs one input; how many reads ended.
pub(crate) fn check(bytes: &[u8]) -> usize {
    let Ok(input) = Input::arbitrary(&mut Unstructured::new(bytes)) else { return 0 };
    let start = Instant::now();
    let lies = if input.strange % 4 == 1 { &input.lies[..] } else { &[] };
    let truthful = lies.is_empty() && !input.answers.iter().any(|reply| reply.deceives());
    let defaults = MockOptions::default();
    let mock = Mock::new(MockOptions {
        disk: disk(),
        block_shift: if input.block_4096 { 12 } else { 9 },
        sgl: input.sgl,
        shadow_doorbells: input.shadow_doorbells,
        assisted: input.assisted,
        queues: u16::from(input.queues % 8),
        max_transfer_pages: input.max_transfer_pages % 12,
        // How long it may take to become ready is not for the input to say.
        capabilities: match input.strange % 4 {
            2 => input.capabilities & !(0xff << 24 | 3 << 59),
            _ => defaults.capabilities,
        },
        ..defaults
    });
    for lie in lies {
        let offset = usize::from(lie.offset) % 4092;
        let length = usize::from(lie.length % 4) + 1;
        mock.lie(lie.cns % 3, offset, &lie.bytes[..length]);
    }
    let mut replies = input.answers.iter().copied().flat_map(|reply| {
        // Most commands are answered as they should be, or nothing would come of most inputs.
        let times = if let Reply::Again(times) = reply { usize::from(times % 32) } else { 1 };
        std::iter::repeat_n(reply, times)
    });
    let calm = std::iter::repeat_n(Reply::Right, usize::from(input.calm % 64));
    let replies: Vec<Reply> = calm.chain(replies.by_ref().take(1000)).collect();
    let mut replies = replies.into_iter();
    mock.script(move |_| replies.next().map_or(Answer::Right, Reply::answer));
    let options = DriverOptions {
        queue_depth: 8,
        queues: 2,
        timeout: TIMEOUT,
        admin_timeout: TIMEOUT,
        retries: 1,
        ..DriverOptions::default()
    };
    let ended = open(mock.clone(), options).map_or(0, |device| read(&device, &input, truthful, start));
    if truthful && !mock.is_gone() {
        assert_eq!(mock.stray(), 0, "the driver names memory that it has");
    }
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
    ended
}

/// Reads through a queue and by `read_at`; every request ends once.
fn read(device: &NvmeDevice, input: &Input, truthful: bool, start: Instant) -> usize {
    let disk = disk();
    let size = device.info().size;
    let Ok(mut queue) = device.queue(8) else { return 0 };
    let (mut done, mut ended, mut sent) = (Vec::new(), 0, 0_u64);
    for &(offset, length) in &input.reads {
        let Ok(buffer) = queue.buffer(usize::from(length)) else { continue };
        let piece = Piece { device_offset: offset.into(), buffer_offset: 0, length: usize::from(length) };
        let fits = u64::from(offset) + u64::from(length) <= size;
        let taken =
            queue.submit(Request { tag: offset.into(), buffer, pieces: Pieces::from_slice(&[piece]) });
        assert!(fits || taken.is_err(), "a read beyond the end is refused");
        sent += u64::from(taken.is_ok());
        if queue.in_flight() >= 8 {
            while queue.in_flight() > 4 {
                let _ = queue.poll(Wait::For(TIMEOUT), &mut done);
                assert!(start.elapsed() < LIMIT, "a read does not end");
            }
        }
    }
    while queue.in_flight() > 0 {
        let _ = queue.poll(Wait::For(TIMEOUT), &mut done);
        assert!(start.elapsed() < LIMIT, "a read does not end");
    }
    assert_eq!(done.len() as u64, sent, "every read ends once");
    for one in done {
        ended += 1;
        if truthful && one.result.is_ok() {
            let from = one.tag as usize;
            assert!(
                one.buffer[..] == disk[from..from + one.buffer.len()],
                "what is told to be read was read"
            );
        }
    }
    let _ = device.read_at(0, &mut [0; 700]);
    ended
}
