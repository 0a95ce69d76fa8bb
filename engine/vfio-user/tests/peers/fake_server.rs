//! A server that answers as it should until a test tells it to do otherwise.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engine_transport::TransportError;
use engine_vfio_user::wire::{
    Capabilities, Command, DeviceInfo, Header, IrqInfo, RegionAccess, RegionInfo, write_version,
};
use engine_vfio_user::{Limits, Message, Socket, VfioUserTransport, pci};
use zerocopy::{FromBytes, IntoBytes};

/// What to do about a request.
pub(crate) enum Answer {
    /// What a good server would answer.
    Right,
    /// These bytes instead.
    Bytes(Vec<u8>),
    /// Nothing at all.
    Nothing,
    /// Nothing now, but the right answer before the next one.
    Later,
    /// The connection is closed.
    Close,
}

/// Limits that make a test short.
pub(crate) fn impatient() -> Limits {
    let short = Duration::from_millis(200);
    Limits { connect: short, reply: short, message: short }
}

/// A fake server and the client that talks to it.
pub(crate) struct Fake {
    place: tempfile::TempDir,
    thread: JoinHandle<()>,
}

impl Fake {
    /// Serves one client; `answer` decides about each request, which it is given with how many came before.
    pub(crate) fn start(mut answer: impl FnMut(usize, &Message) -> Answer + Send + 'static) -> Self {
        let place = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(place.path().join("cntrl")).unwrap();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let socket = Socket::over(stream.try_clone().unwrap().into());
            let mut owed = Vec::new();
            for number in 0.. {
                let begin = Some(Instant::now() + Duration::from_secs(20));
                let Ok(message) = socket.receive(begin, Duration::from_secs(5), 1 << 21, None) else {
                    return;
                };
                match answer(number, &message) {
                    Answer::Right => owed.push(right(&message)),
                    Answer::Bytes(bytes) => owed.push(bytes),
                    Answer::Nothing => {}
                    Answer::Later => {
                        owed.push(right(&message));
                        continue;
                    }
                    Answer::Close => return,
                }
                if stream.write_all(&owed.concat()).is_err() {
                    return;
                }
                owed.clear();
            }
        });
        Self { place, thread }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.place.path().to_owned()
    }

    /// What comes of connecting to such a server.
    pub(crate) fn connecting(
        answer: impl FnMut(usize, &Message) -> Answer + Send + 'static,
    ) -> Result<(), TransportError> {
        let fake = Self::start(answer);
        let outcome = VfioUserTransport::connect_within(&fake.path(), impatient()).map(drop);
        fake.thread.join().unwrap();
        outcome
    }
}

/// The reply with this body to a request.
pub(crate) fn reply(message: &Message, body: &[u8]) -> Vec<u8> {
    let header = message.header.reply(u32::try_from(body.len()).unwrap());
    [header.as_bytes(), body].concat()
}

/// What a good server answers: an NVMe controller with registers of zeros, nothing to map and four vectors.
pub(crate) fn right(message: &Message) -> Vec<u8> {
    let body = match message.header.kind() {
        Command::VERSION => write_version(0, 1, &Capabilities::default()),
        Command::DEVICE_GET_INFO => {
            DeviceInfo { argsz: 16.into(), flags: 3.into(), regions: 9.into(), irqs: 5.into() }
                .as_bytes()
                .to_vec()
        }
        Command::DEVICE_GET_REGION_INFO => {
            let asked = RegionInfo::read_from_bytes(&message.body).unwrap();
            RegionInfo { argsz: 32.into(), flags: 3.into(), size: 0x2000.into(), ..asked }.as_bytes().to_vec()
        }
        Command::DEVICE_GET_IRQ_INFO => {
            let asked = IrqInfo::read_from_bytes(&message.body).unwrap();
            IrqInfo { argsz: 16.into(), flags: 1.into(), count: 4.into(), ..asked }.as_bytes().to_vec()
        }
        Command::REGION_READ => {
            let asked = RegionAccess::read_from_bytes(&message.body).unwrap();
            let is_class = asked.region.get() == pci::CONFIG_REGION && asked.offset.get() == pci::CLASS;
            let data = if is_class {
                pci::NVME_CLASS.to_vec()
            } else {
                vec![0; asked.count.get().try_into().unwrap()]
            };
            [asked.as_bytes(), &data].concat()
        }
        Command::REGION_WRITE => message.body[..16].to_vec(),
        Command::DMA_UNMAP => message.body.clone(),
        _ => Vec::new(),
    };
    reply(message, &body)
}

/// Connects to a path in a time that tells whether anything waited longer than it should.
pub(crate) fn connect(path: &Path) -> std::sync::Arc<VfioUserTransport> {
    VfioUserTransport::connect_within(path, impatient()).unwrap()
}

/// Whether a request is a read of a register in BAR0.
pub(crate) fn is_register_read(message: &Message) -> bool {
    message.header.kind() == Command::REGION_READ
        && RegionAccess::read_from_bytes(&message.body).unwrap().region.get() == pci::BAR0_REGION
}

/// A command of the server's own.
pub(crate) fn command(id: u16, command: Command, body: &[u8]) -> Vec<u8> {
    let header = Header::command(id, command, u32::try_from(body.len()).unwrap(), 0);
    [header.as_bytes(), body].concat()
}

/// Takes one message from a stream.
pub(crate) fn take(socket: &Socket) -> Option<Message> {
    let begin = Some(Instant::now() + Duration::from_secs(5));
    let _ = socket.as_fd();
    socket.receive(begin, Duration::from_secs(5), 1 << 21, None).ok()
}
