//! Small volumes in image files, mounted by the kernel and cut off from it.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use extents_core::{Error, Result, to_usize};
use extents_jbd2::{Journal, Place, Recovered};
use tempfile::TempDir;

pub(crate) fn skip(why: &str) {
    println!("skipped: {why}");
}

/// Runs a program and answers what it printed, or `None` where it failed.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

/// Which of the journal's own blocks to damage.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Journaled {
    Descriptor = 1,
    Commit = 2,
}

/// What a recovery counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) transactions: u32,
    pub(crate) replayed: u64,
    pub(crate) revokes: u64,
    pub(crate) revoked: u64,
}

/// An image file with an ext volume, and the place where it is mounted.
pub(crate) struct Volume {
    directory: TempDir,
    block_size: u32,
}

/// A mounted volume; unmounted when dropped.
pub(crate) struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

impl Mounted {
    /// Stops the file system without writing anything more to the volume.
    pub(crate) fn stop_dead(self) {
        const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
        let no_log_flush = 2_u32;
        let root = File::open(&self.0).unwrap();
        // SAFETY: the request reads one u32 from the pointer, which outlives the call.
        let result = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const no_log_flush) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
}

impl Volume {
    /// Makes a volume of 16 MiB.
    pub(crate) fn make(mkfs: &[&str]) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let image = directory.path().join("image");
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        fs::create_dir(directory.path().join("mount")).unwrap();
        let mut arguments = vec!["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        arguments.extend_from_slice(mkfs);
        arguments.push(image.to_str().unwrap());
        match Command::new("mkfs.ext4").args(&arguments).output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                skip(&format!("mkfs.ext4 cannot be run: {error}"));
                return None;
            }
        }
        let size = mkfs.iter().position(|&argument| argument == "-b").and_then(|place| mkfs.get(place + 1));
        Some(Self { directory, block_size: size.unwrap().parse().unwrap() })
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    pub(crate) fn mount(&self, options: &str) -> Option<Mounted> {
        let options = format!("loop,{options}");
        let (image, root) = (self.image(), self.root());
        if run("mount", &["-o", options.trim_end_matches(','), image.to_str()?, root.to_str()?]).is_none() {
            // Where all of this is there, a mount that fails is a test that does not test what it says.
            let root_user = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
            assert!(!(root_user && Path::new("/dev/loop-control").exists()), "mount -o {options} failed");
            skip("mounting the image takes root and loop devices");
            return None;
        }
        Some(Mounted(root))
    }

    pub(crate) fn write(&self, name: &str, contents: &[u8]) {
        fs::write(self.root().join(name), contents).unwrap();
    }

    pub(crate) fn make_directory(&self, name: &str) {
        fs::create_dir(self.root().join(name)).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        let path = self.root().join(name);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }

    /// Commits what was done so far to the log.
    pub(crate) fn sync(&self) {
        let root = File::open(self.root()).unwrap();
        // SAFETY: the descriptor is open for the whole call.
        assert_eq!(unsafe { libc::syncfs(root.as_raw_fd()) }, 0);
    }

    /// A file outside the volume with these contents; answers its path.
    pub(crate) fn file(&self, contents: &[u8]) -> String {
        let path = self.directory.path().join(format!("contents{}", contents.len()));
        fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn debugfs(&self, commands: &[&str]) {
        let script = self.directory.path().join("script");
        fs::write(&script, commands.join("\n") + "\n").unwrap();
        run("debugfs", &["-w", "-f", script.to_str().unwrap(), self.image().to_str().unwrap()]).unwrap();
    }

    /// The journal's blocks, as debugfs takes them out of the image.
    pub(crate) fn journal(&self) -> Vec<u8> {
        let file = self.directory.path().join("journal");
        let dump = format!("dump <8> {}", file.display());
        run("debugfs", &["-R", &dump, self.image().to_str().unwrap()]).unwrap();
        fs::read(file).unwrap()
    }

    pub(crate) fn try_recover(&self) -> Result<Recovered> {
        open(&self.journal(), self.block_size)?.recover((16 << 20) / u64::from(self.block_size))
    }

    pub(crate) fn recover(&self) -> Recovered {
        self.try_recover().unwrap()
    }

    /// Where a block of the journal's inode lies on the volume.
    fn journal_block(&self, block: usize) -> u64 {
        let image = self.image();
        run("debugfs", &["-R", &format!("bmap <8> {block}"), image.to_str().unwrap()])
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// The blocks of the journal that it wrote for itself, with their transactions, in order of place.
    fn own_blocks(&self, block_type: u32) -> Vec<(u32, usize)> {
        let journal = self.journal();
        let start = [0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, block_type.to_le_bytes()[0]];
        journal
            .chunks(to_usize(self.block_size.into()))
            .enumerate()
            .skip(1)
            .filter(|(_, block)| block.starts_with(&start))
            .map(|(place, block)| (u32::from_be_bytes(block[8..12].try_into().unwrap()), place))
            .collect()
    }

    fn change(&self, block: u64, change: impl Fn(&mut [u8])) {
        let image = self.image();
        let mut bytes = fs::read(&image).unwrap();
        let size = to_usize(self.block_size.into());
        let at = to_usize(block) * size;
        change(&mut bytes[at..at + size]);
        fs::write(&image, bytes).unwrap();
    }

    /// Writes zeros over the last block of this type in the log, as if it had not reached the volume.
    pub(crate) fn zero_last(&self, block: Journaled) {
        let (_, place) = self.own_blocks(block as u32).into_iter().max().unwrap();
        self.change(self.journal_block(place), |bytes| bytes.fill(0));
    }

    /// Has an unused journal count its transactions from this number on.
    pub(crate) fn number_transactions_from(&self, first: u32) {
        self.change(self.journal_block(0), |superblock| {
            superblock[0x18..0x1c].copy_from_slice(&first.to_be_bytes());
        });
    }

    /// Changes a bit of the first block that the log holds for the volume.
    pub(crate) fn damage_first_data_block(&self) {
        let first = self.own_blocks(1).into_iter().min().unwrap();
        self.change(self.journal_block(first.1 + 1), |bytes| bytes[100] ^= 1);
    }

    /// Whether the last transaction of the log lies before the place where the log begins.
    pub(crate) fn log_has_wrapped(&self) -> bool {
        let start = u32::from_be_bytes(self.journal()[0x1c..0x20].try_into().unwrap());
        let last = self.own_blocks(2).into_iter().max();
        last.is_some_and(|(_, place)| place < usize::try_from(start).unwrap())
    }

    /// Recovers the journal here and in a copy by e2fsck, and compares every block that either changed.
    pub(crate) fn compare_with_e2fsck(&self) -> Counts {
        let recovered = self.recover();
        let copy = self.directory.path().join("recovered");
        fs::copy(self.image(), &copy).unwrap();
        // Answers 1 for "errors corrected"; what counts is what it wrote.
        let status =
            Command::new("e2fsck").args(["-y", "-E", "journal_only"]).arg(&copy).output().unwrap().status;
        assert!(status.code().is_some_and(|code| code < 4), "e2fsck answers {status}");
        let own = self.own_places(&copy);
        let before = fs::read(self.image()).unwrap();
        let after = fs::read(&copy).unwrap();
        let size = to_usize(self.block_size.into());
        for (number, (before, after)) in before.chunks(size).zip(after.chunks(size)).enumerate() {
            // e2fsck notes in both superblocks that the recovery is done.
            if own.contains(&number) || number == 1024 / size {
                continue;
            }
            let block = extents_core::FsBlock(number.try_into().unwrap());
            let ours = recovered.overlay.get(block).unwrap_or(before);
            assert!(
                ours == after,
                "block {number} differs, ours from the log: {}",
                recovered.overlay.get(block).is_some()
            );
        }
        Counts {
            transactions: recovered.transactions,
            replayed: recovered.replayed,
            revokes: recovered.revokes,
            revoked: recovered.revoked,
        }
    }

    /// The blocks of the volume that the journal's inode holds.
    fn own_places(&self, image: &Path) -> Vec<usize> {
        let text = run("debugfs", &["-R", "blocks <8>", image.to_str().unwrap()]).unwrap();
        text.split_whitespace().map(|number| number.parse().unwrap()).collect()
    }
}

/// Opens a journal that is held in memory. It is leaked, since the tests are short.
pub(crate) fn open(journal: &[u8], block_size: u32) -> Result<Journal<'static>> {
    let journal: &'static [u8] = Box::leak(journal.to_vec().into_boxed_slice());
    let size = u64::from(block_size);
    let read: &'static dyn Fn(u64, &mut [u8]) -> Result<()> =
        Box::leak(Box::new(move |block: u64, buf: &mut [u8]| {
            let at = to_usize(block * size);
            let source =
                journal.get(at..at + buf.len()).ok_or_else(|| Error::corrupt("journal", "too short"))?;
            buf.copy_from_slice(source);
            Ok(())
        }));
    Journal::open(Place { block_size, blocks: journal.len() as u64 / size, superblock: 0, read })
}
