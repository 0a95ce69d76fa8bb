//! Mounts of controllers that lie about themselves or do nothing, behind sockets that speak the protocol well.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use engine_dma::Access;
use engine_nvme::testing::{Answer, Mock, MockOptions};
use engine_transport::{Interrupt, Transport};
use engine_vfio_user::pci::{Identity, NVME_CLASS, PciDevice, PciFunction};
use engine_vfio_user::{ClientMemory, Errno, MappableArea, Server};
use mounts::{Engine, HomifsMount, homifs, mount_entry, outcome, sample};
use oracle::{machine, skip_if};

const FILE: &str = "holes/whole-82020";
/// Identify data: of a namespace, and of the controller.
const NAMESPACE: u8 = 0;
const CONTROLLER: u8 = 1;
const ACTIVE_NAMESPACES: u8 = 2;
/// How long a mount may take to be refused.
const DEADLINE: Duration = Duration::from_secs(20);

/// The controller that lies, as a function of a PCI device.
#[derive(Debug)]
struct Liar(Arc<Mock>);

impl PciFunction for Liar {
    fn identity(&self) -> Identity {
        Identity {
            vendor: 0x1b36,
            device: 0x10,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
            revision: 1,
            class: NVME_CLASS,
        }
    }

    fn size(&self) -> u64 {
        0x2000
    }

    fn areas(&self) -> Vec<MappableArea> {
        Vec::new()
    }

    fn read(&self, offset: u64, target: &mut [u8]) -> Result<(), Errno> {
        let offset = u32::try_from(offset).map_err(|_| Errno::INVAL)?;
        match target.len() {
            4 => target.copy_from_slice(&self.0.read32(offset).map_err(|_| Errno::IO)?.to_le_bytes()),
            8 => target.copy_from_slice(&self.0.read64(offset).map_err(|_| Errno::IO)?.to_le_bytes()),
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    fn write(&self, offset: u64, source: &[u8]) -> Result<(), Errno> {
        let offset = u32::try_from(offset).map_err(|_| Errno::INVAL)?;
        let done = match *source {
            [a, b, c, d] => self.0.write32(offset, u32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => self.0.write64(offset, u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            _ => return Err(Errno::INVAL),
        };
        done.map_err(|_| Errno::IO)
    }

    fn vectors(&self) -> u16 {
        0
    }

    fn connect(&self, _vector: u16, _interrupt: Option<Interrupt>) -> Result<(), Errno> {
        Err(Errno::INVAL)
    }

    fn map(&self, memory: &ClientMemory) -> Result<(), Errno> {
        let ClientMemory { iova, length, region, offset, access } = memory;
        let access = if matches!(access, Access::Read) { Access::Read } else { Access::ReadWrite };
        let mapped = self.0.memory().map(*iova, *length, Arc::clone(region), *offset, access);
        mapped.map_err(|_| Errno::INVAL)
    }

    fn unmap(&self, iova: u64, length: u64) -> Result<(), Errno> {
        self.0.memory().unmap(iova, length).map(drop).map_err(|_| Errno::INVAL)
    }

    fn reset(&self) -> Result<(), Errno> {
        let _ = self.0.reset();
        Ok(())
    }
}

/// A controller that does as it is told, behind a socket.
struct Served {
    _server: Server,
    folder: tempfile::TempDir,
}

impl Served {
    fn new(options: MockOptions, tell: impl FnOnce(&Mock)) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("homifs-liar-").tempdir()?;
        let mock = Mock::new(options);
        tell(&mock);
        let server = Server::start(&folder.path().join("cntrl"), Arc::new(PciDevice::new(Liar(mock))))?;
        Ok(Self { _server: server, folder })
    }

    fn spec(&self) -> PathBuf {
        format!("vfio-user:{}", self.folder.path().join("cntrl").display()).into()
    }

    /// Checks that a mount is refused in one sentence with `words`, soon, and leaves nothing behind.
    fn refuse(&self, words: &[&str]) -> Result<()> {
        let point = self.folder.path().join("mnt");
        fs::create_dir_all(&point)?;
        let start = Instant::now();
        let spec = self.spec();
        let done = outcome(homifs()?, ["mount", &spec.to_string_lossy(), &point.to_string_lossy()])?;
        done.refused_with(32, words)?;
        ensure!(start.elapsed() < DEADLINE, "{words:?} took {:?}", start.elapsed());
        ensure!(mount_entry(&point).is_none(), "something is mounted");
        fs::remove_dir(&point)?;
        Ok(())
    }
}

/// A volume that is right, and the controller over it too.
fn volume() -> Result<MockOptions> {
    let folder = tempfile::tempdir()?;
    let disk = fs::read(sample(folder.path(), "ext4-default")?)?;
    Ok(MockOptions { disk, ..MockOptions::default() })
}

fn expected() -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let image = sample(folder.path(), "ext4-default")?;
    let mount = HomifsMount::by(Engine::Kernel, &image, "")?;
    Ok(fs::read(mount.join(FILE))?)
}

#[test]
fn controllers_that_lie_in_identify_are_refused_in_one_sentence() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let most = u64::MAX.to_le_bytes();
    let lies: [(&str, u8, usize, &[u8], &str); 9] = [
        ("blocks of one byte", NAMESPACE, 130, &[0], "512 bytes to 64 KiB"),
        ("blocks of 2^255 bytes", NAMESPACE, 130, &[255], "2^255 bytes"),
        ("no blocks", NAMESPACE, 0, &[0; 8], "no blocks"),
        ("2^64 - 1 blocks", NAMESPACE, 0, &most, "more than can be addressed"),
        ("metadata", NAMESPACE, 128, &[8, 0], "metadata"),
        ("a format that it does not have", NAMESPACE, 26, &[0x0f], "LBA format 15"),
        ("protection information", NAMESPACE, 29, &[1], "protection information"),
        ("other entries of queues", CONTROLLER, 512, &[0x77], "SQES"),
        ("namespaces that fall", ACTIVE_NAMESPACES, 0, &[2, 0, 0, 0, 1, 0, 0, 0], "does not rise"),
    ];
    for (what, cns, offset, bytes, words) in lies {
        let served = Served::new(volume()?, |mock| mock.lie(cns, offset, bytes))?;
        served.refuse(&[words]).map_err(|error| error.context(what))?;
    }
    Ok(())
}

#[test]
fn controllers_that_grant_nothing_or_do_nothing_are_refused_in_one_sentence() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let right = MockOptions { disk: vec![0; 1 << 20], ..MockOptions::default() };
    let none = MockOptions { queues: 0, ..right.clone() };
    Served::new(none, |_| {})?.refuse(&["no I/O queue"])?;
    let one_entry = MockOptions { capabilities: right.capabilities & !0xffff, ..right.clone() };
    Served::new(one_entry, |_| {})?.refuse(&["CAP.MQES"])?;
    let pages = MockOptions { capabilities: right.capabilities | 15 << 48, ..right.clone() };
    Served::new(pages, |_| {})?.refuse(&["memory page"])?;
    let no_blocks = MockOptions { capabilities: right.capabilities & !(0xff << 37), ..right.clone() };
    Served::new(no_blocks, |_| {})?.refuse(&["no NVM command set"])?;
    Served::new(right.clone(), Mock::freeze)?.refuse(&["ready"])?;
    Served::new(right.clone(), Mock::vanish)?.refuse(&["all ones"])?;
    Served::new(right, |mock| mock.fail(true))?.refuse(&["fatal"])?;
    Ok(())
}

#[test]
fn controllers_that_fail_the_first_read_are_refused_in_one_sentence() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let failing = |mock: &Mock| {
        mock.script(|asked| match (asked.is_admin(), asked.opcode()) {
            // Unrecovered read error, do not retry.
            (false, 2) => Answer::Status(engine_nvme::Status(0x4281), 0),
            _ => Answer::Right,
        });
    };
    Served::new(volume()?, failing)?.refuse(&["read"])
}

#[test]
fn controllers_with_absurd_limits_are_mounted_and_read_right() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let expected = expected()?;
    let right = volume()?;
    let cases = [
        // 2^255 pages in one command, and one page.
        MockOptions { max_transfer_pages: 255, ..right.clone() },
        MockOptions { max_transfer_pages: 1, ..right.clone() },
        // Queues of 65,536 entries, and of two.
        MockOptions { capabilities: right.capabilities | 0xffff, ..right.clone() },
        MockOptions { capabilities: right.capabilities & !0xffff | 1, ..right.clone() },
        MockOptions { queues: u16::MAX, ..right },
    ];
    for options in cases {
        let told = (options.max_transfer_pages, options.capabilities, options.queues);
        let served = Served::new(options, |_| {})?;
        let mount = HomifsMount::of_spec(&served.spec(), "")?;
        assert!(fs::read(mount.join(FILE))? == expected, "{told:x?}");
    }
    Ok(())
}

#[test]
fn namespace_larger_than_its_backing_gives_eio_beyond_it_and_the_mount_lives() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let right = volume()?;
    let blocks = (right.disk.len() as u64 >> right.block_shift).to_le_bytes();
    let mut disk = right.disk.clone();
    disk.truncate(1 << 20);
    let served = Served::new(MockOptions { disk, ..right }, |mock| mock.lie(NAMESPACE, 0, &blocks))?;
    let mount = HomifsMount::of_spec(&served.spec(), "")?;
    let start = Instant::now();
    let read = File::options().read(true).custom_flags(libc::O_DIRECT).open(mount.join(FILE));
    let error = read.and_then(|file| file.read_exact_at(&mut [0; 4096], 0)).expect_err("nothing is there");
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
    assert!(fs::read_to_string(mount.join(".homi/stats"))?.contains("# TYPE"));
    outcome("umount", [mount.path()])?.succeeded()?;
    assert!(mount.entry().is_none());
    Ok(())
}
