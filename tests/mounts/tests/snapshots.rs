//! Whole trees read through one namespace, with the arena that says where each file lies.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use homi_abi::snapshot::{File as Entry, View};
use homi_client::{ClientError, NvmeStatus, Session, Snapshot};
use mounts::{HomifsMount, homifs, outcome};
use oracle::{Format, KernelMount, machine, skip_if};
use rustix::fs::FallocateFlags;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::thread::set_thread_res_uid;
use tempfile::TempDir;

/// Files of the tree, but for those that are special.
const FILES: usize = 10_000;

/// Numbers that look random and are the same in each run.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A volume with many small files below `data`, made by the kernel.
struct Tree {
    _folder: TempDir,
    image: PathBuf,
    format: Format,
}

impl Tree {
    fn new(format: Format) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let image = folder.path().join("tree.img");
        File::create(&image)?.set_len(512 << 20)?;
        let (program, arguments): (_, &[&str]) = match format {
            // Small files within their inodes, too.
            Format::Ext4 => ("mkfs.ext4", &["-q", "-F", "-I", "256", "-O", "inline_data", "-N", "16384"]),
            Format::Xfs => ("mkfs.xfs", &["-q", "-f"]),
        };
        let made = Command::new(program).args(arguments).arg(&image).output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mount = KernelMount::with_options(&image, format, "rw,noatime")?;
        fill(&mount.path().join("data"))?;
        mount.unmount()?;
        Ok(Self { _folder: folder, image, format })
    }
}

fn fill(data: &Path) -> Result<()> {
    let mut draw = Draw(0x2545_f491_4f6c_dd1d);
    for number in 0..FILES {
        let folder = data.join(format!("{}/{}", number % 7, number % 101));
        if number < 707 {
            fs::create_dir_all(&folder)?;
        }
        // Mostly some kilobytes, some empty, some of a few bytes, some that end where a block does.
        let length = match draw.next() % 16 {
            0 => 0,
            1 => draw.next() % 100,
            2 => 4096 * (1 + draw.next() % 4),
            3 => 512 * (1 + draw.next() % 40),
            _ => draw.next() % 24_000,
        };
        let mut bytes = Vec::new();
        while bytes.len() < usize::try_from(length)? {
            bytes.extend_from_slice(&draw.next().to_le_bytes());
        }
        bytes.truncate(usize::try_from(length)?);
        fs::write(folder.join(format!("{number:05}.bin")), bytes)?;
    }
    let sparse = File::create(data.join("sparse"))?;
    sparse.set_len(1 << 20)?;
    sparse.write_all_at(b"in the middle", 500_003)?;
    let mut unwritten = File::create(data.join("unwritten"))?;
    rustix::fs::fallocate(&unwritten, FallocateFlags::empty(), 0, 300_000)?;
    unwritten.seek(SeekFrom::Start(8192))?;
    unwritten.write_all(&[7; 5000])?;
    fs::hard_link(data.join("sparse"), data.join("another-name"))?;
    symlink("sparse", data.join("link"))?;
    // For the owner alone.
    fs::write(data.join("secret"), b"nobody else reads this")?;
    fs::set_permissions(data.join("secret"), fs::Permissions::from_mode(0o600))?;
    fs::create_dir(data.join("closed"))?;
    fs::write(data.join("closed/file"), b"nor this")?;
    fs::set_permissions(data.join("closed"), fs::Permissions::from_mode(0o700))?;
    fs::create_dir(data.join("listed-only"))?;
    fs::write(data.join("listed-only/file"), b"names may be seen, files not")?;
    fs::set_permissions(data.join("listed-only"), fs::Permissions::from_mode(0o744))?;
    fs::write(data.join("theirs"), b"this is nobody's")?;
    chown(data.join("theirs"), Some(65534), Some(65534))?;
    fs::set_permissions(data.join("theirs"), fs::Permissions::from_mode(0o400))?;
    Ok(())
}

/// Regular files below a folder, by path from it.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_file() {
                found.push(path.strip_prefix(folder)?.to_owned());
            }
        }
    }
    Ok(found)
}

/// The file with this path.
fn entry<'a>(view: &View<'a>, path: &[u8]) -> Option<&'a Entry> {
    view.files().get(view.lookup(path)?)
}

fn cannot_make(format: Format) -> Option<String> {
    let tool = match format {
        Format::Ext4 => "mkfs.ext4",
        Format::Xfs => "mkfs.xfs",
    };
    machine::cannot_mount_fuse().or_else(|| (!machine::has_tool(tool)).then(|| format!("no {tool}")))
}

fn compare_every_byte(format: Format) -> Result<()> {
    let tree = Tree::new(format)?;
    let mount = HomifsMount::new(&tree.image, "clients=2,client_files=4")?;
    let session = Session::of_file(File::open(mount.path())?)?;
    let snapshot = session.snapshot(File::open(mount.join("data"))?)?;
    ensure!(snapshot.namespace().is_held() && snapshot.files() > u64::try_from(FILES)?, "{snapshot:?}");
    let view = snapshot.view()?;
    let kernel = KernelMount::read_only(&tree.image, tree.format)?;
    let paths = files_below(&kernel.path().join("data"))?;
    ensure!(paths.len() == view.files().len(), "{} of {} files", view.files().len(), paths.len());

    // File by file, through one namespace, by commands of either kind.
    let mut readers = [session.reader(1 << 20)?, session.reader_by_prp(1 << 20)?];
    for (number, path) in paths.iter().enumerate() {
        let reader = &mut readers[number % 2];
        let wanted = fs::read(kernel.path().join("data").join(path))?;
        let file = entry(&view, path.as_os_str().as_bytes());
        let file = file.with_context(|| format!("{} is not in the arena", path.display()))?;
        ensure!(file.size.get() == u64::try_from(wanted.len())?, "{}", path.display());
        let mut got = vec![0xaa; wanted.len() + 10];
        let length = snapshot.read(reader, file, 0, &mut got)?;
        ensure!(got[..length] == wanted, "{} differs", path.display());
    }

    // All of it in the order that it lies in: commands that span many files, and what is between them.
    let size = snapshot.namespace().size();
    let mut all = vec![0xaa; usize::try_from(size)?];
    for reader in &mut readers {
        all.fill(0xaa);
        ensure!(reader.read(snapshot.namespace(), 0, &mut all)? == all.len());
    }
    let block = u64::from(view.header().block_size.get());
    for file in view.files() {
        let start = usize::try_from(snapshot.start_of(file))?;
        let length = usize::try_from(file.size.get())?;
        let whole = usize::try_from(file.size.get().next_multiple_of(block))?;
        let path = Path::new(std::ffi::OsStr::from_bytes(view.path(file)));
        let wanted = fs::read(kernel.path().join("data").join(path))?;
        ensure!(all[start..start + length] == wanted, "{} differs", path.display());
        ensure!(all[start + length..start + whole].iter().all(|&byte| byte == 0), "{}", path.display());
    }
    if machine::has_tool("c++") {
        read_with_device_source(&session, &snapshot, kernel.path())?;
    } else {
        println!("skipped: no C++ compiler for the device source");
    }
    Ok(())
}

/// The same by the source that accelerators run, in a process of its own.
fn read_with_device_source(session: &Session, snapshot: &Snapshot, kernel: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("read_snapshot");
    let gpu = concat!(env!("CARGO_MANIFEST_DIR"), "/../../gpu");
    let built = Command::new("c++")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-std=c++17", "-pthread"])
        .args(["-I", &format!("{gpu}/abi/include"), "-I", &format!("{gpu}/device/include")])
        .arg(format!("{gpu}/device/tests/read_snapshot.cpp"))
        .arg("-o")
        .arg(&program)
        .output()?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let (pairs, transfer) = (4_u32, 64_usize << 10);
    let queues = session.queues(pairs, 32)?;
    let buffer = session.buffer(usize::try_from(pairs)? * (4 << 20))?;
    let places = queues.places();
    let arena = snapshot.arena();
    let numbers = [
        usize::try_from(snapshot.namespace().nsid())?,
        usize::try_from(snapshot.namespace().block_shift())?,
        arena.bytes().len(),
        usize::try_from(buffer.iova())?,
        buffer.memory().length(),
        usize::try_from(places.count)?,
        usize::try_from(places.entries)?,
        places.stride,
        places.submissions,
        places.completions,
        places.length,
        places.doorbell_stride,
        places.tail_doorbell,
        places.head_doorbell,
        places.doorbells_length,
        transfer,
    ];
    let mut command = Command::new(program);
    command.arg(kernel.join("data")).args(numbers.map(|number| number.to_string()));
    let memory =
        [queues.memory().as_fd(), queues.doorbells().as_fd(), buffer.memory().as_fd(), arena.as_fd()];
    for descriptor in memory {
        fcntl_setfd(descriptor, FdFlags::empty())?;
        command.arg(descriptor.as_raw_fd().to_string());
    }
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(told.starts_with(&format!("{} files, ", snapshot.files())), "{told}");
    Ok(())
}

#[test]
fn ten_thousand_files_of_ext4_read_through_one_namespace_byte_by_byte() -> Result<()> {
    skip_if!(cannot_make(Format::Ext4));
    compare_every_byte(Format::Ext4)
}

#[test]
fn ten_thousand_files_of_xfs_read_through_one_namespace_byte_by_byte() -> Result<()> {
    skip_if!(cannot_make(Format::Xfs));
    compare_every_byte(Format::Xfs)
}

#[test]
fn snapshot_shows_a_client_what_it_may_read_and_loses_what_is_taken_back() -> Result<()> {
    skip_if!(cannot_make(Format::Ext4));
    let tree = Tree::new(Format::Ext4)?;
    let mount = HomifsMount::new(&tree.image, "clients=1,client_files=3,client_snapshots=8M")?;
    let data = File::open(mount.join("data"))?;
    let closed = File::open(mount.join("data/closed"))?;
    let listed = File::open(mount.join("data/listed-only"))?;

    // On a thread that is nobody's.
    let as_nobody = || -> Result<()> {
        let nobody = rustix::process::Uid::from_raw(65534);
        let root = rustix::process::Uid::ROOT;
        set_thread_res_uid(root, nobody, root)?;
        let session = Session::of_file(&data)?;
        let snapshot = session.snapshot(&data)?;
        let view = snapshot.view()?;
        for path in ["secret", "closed/file", "listed-only/file"] {
            ensure!(view.lookup(path.as_bytes()).is_none(), "{path} is shown");
        }
        ensure!(snapshot.left_out() == 3, "{snapshot:?}");
        let theirs = entry(&view, b"theirs").context("what is nobody's is not shown to nobody")?;
        let (mut bytes, mut reader) = ([0; 64], session.reader(65536)?);
        let length = snapshot.read(&mut reader, theirs, 0, &mut bytes)?;
        ensure!(&bytes[..length] == b"this is nobody's");
        // Neither gives a handle.
        for directory in [&closed, &listed] {
            ensure!(session.snapshot(directory).is_err(), "a directory that may not be read is shown");
        }
        Ok(())
    };
    std::thread::scope(|scope| scope.spawn(as_nobody).join()).map_err(|_| anyhow::anyhow!("a panic"))??;

    let session = Session::of_file(&data)?;
    let snapshot = session.snapshot(&data)?;
    ensure!(snapshot.left_out() == 0);
    let view = snapshot.view()?;
    let mut reader = session.reader(65536)?;
    let mut bytes = vec![0; 512];
    let name = "0/0/00000.bin";
    let (kept, gone) = ("3/3/00003.bin", entry(&view, b"sparse").context("no sparse")?);
    snapshot.read(&mut reader, gone, 0, &mut bytes)?;
    let told = Command::new(homifs()?).arg("revoke").arg(mount.join("data/sparse")).output()?;
    ensure!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    for path in ["sparse", "another-name"] {
        let gone = entry(&view, path.as_bytes()).context("it was there")?;
        match snapshot.read(&mut reader, gone, 4096, &mut bytes) {
            Err(ClientError::Command { status, .. }) => {
                ensure!(status.code() == NvmeStatus::NAMESPACE_NOT_READY, "{status:?}");
            }
            other => anyhow::bail!("{path} was read: {other:?}"),
        }
    }
    ensure!(snapshot.namespace().is_held(), "others are held");
    for path in [name, kept] {
        let file = entry(&view, path.as_bytes()).with_context(|| path.to_owned())?;
        let wanted = fs::read(mount.join("data").join(path))?;
        let mut got = vec![0; wanted.len()];
        snapshot.read(&mut reader, file, 0, &mut got)?;
        ensure!(got == wanted, "{path}");
    }

    // Each counts as a file.
    let second = session.snapshot(&data)?;
    let third = session.snapshot(&data)?;
    ensure!(matches!(session.snapshot(&data), Err(ClientError::Refused { errno: libc::EMFILE, .. })));
    drop((second, third));
    ensure!(matches!(
        session.snapshot(File::open(mount.join("data/sparse"))?),
        Err(ClientError::Refused { errno: libc::ENOTDIR, .. })
    ));
    session.snapshot(&data)?;
    Ok(())
}

#[test]
fn snapshot_larger_than_its_client_may_have_is_refused_with_the_option_to_raise() -> Result<()> {
    skip_if!(cannot_make(Format::Ext4));
    let tree = Tree::new(Format::Ext4)?;
    let mount = HomifsMount::new(&tree.image, "clients=1,client_snapshots=1M")?;
    let session = Session::of_file(File::open(mount.path())?)?;
    match session.snapshot(File::open(mount.join("data"))?) {
        Err(ClientError::Refused { errno, text }) => {
            ensure!(errno == libc::EDQUOT && text.contains("client_snapshots"), "{errno}: {text}");
        }
        other => anyhow::bail!("not refused: {other:?}"),
    }
    let part = session.snapshot(File::open(mount.join("data/3"))?)?;
    ensure!(part.files() > 1000, "{part:?}");
    Ok(())
}

/// What `homifs snapshot` writes, by these arguments.
fn arena_of(arguments: &[&Path]) -> Result<Vec<u8>> {
    let file = tempfile::NamedTempFile::new()?;
    let words = [Path::new("snapshot")].into_iter().chain(arguments.iter().copied());
    let taken = outcome(homifs()?, words.chain([Path::new("--write"), file.path()]))?;
    ensure!(taken.code == Some(0), "{taken:?}");
    Ok(fs::read(file.path())?)
}

#[test]
fn snapshot_of_a_mounted_directory_is_that_of_the_volume() -> Result<()> {
    skip_if!(cannot_make(Format::Xfs));
    let tree = Tree::new(Format::Xfs)?;
    let unmounted = arena_of(&[&tree.image, Path::new("/data")])?;
    let mount = HomifsMount::new(&tree.image, "clients=1")?;
    let mounted = arena_of(&[&mount.join("data")])?;
    let (ours, theirs) = (View::new(&mounted)?, View::new(&unmounted)?);
    ensure!(ours.files().len() == theirs.files().len() && ours.files().len() > FILES);
    for (one, other) in ours.files().iter().zip(theirs.files()) {
        ensure!(ours.path(one) == theirs.path(other));
        let what = |file: &Entry| {
            (file.hash, file.inode, file.generation, file.size, file.first_block, file.extents)
        };
        ensure!(what(one) == what(other), "{}", String::from_utf8_lossy(ours.path(one)));
    }
    drop(mount);
    // Files come and go there, so it is refused with what to do.
    let mount = HomifsMount::of_spec(&tree.image, "rw,clients=1")?;
    let refused = outcome(homifs()?, ["snapshot".as_ref(), mount.join("data").as_os_str()])?;
    ensure!(refused.code != Some(0) && refused.stderr.contains("mount the volume read-only"), "{refused:?}");
    Ok(())
}
