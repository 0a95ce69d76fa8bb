//! How clients and their mount end: the daemon gives everything back, and tells whoever is left.
#![allow(missing_docs, reason = "tests are documented by their names")]
#![allow(unsafe_code, reason = "a process forks without another program, as clients may")]

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use homi_client::{ClientError, OpenFile, Reader, Session};
use mounts::{FreshVolume, HomifsMount, homifs, image_of, outcome};
use oracle::{Format, machine, skip_if};
use rustix::process::Signal;

/// Longer than anything takes here on a machine that does much else, shorter than the daemon's deadlines.
const SOON: Duration = Duration::from_secs(15);
/// The file of the oracle's volumes that is read.
const KNOWN: &str = "special/mode-0644";

/// A session that has read the file.
fn attached(path: &Path) -> Result<(Session, OpenFile, Reader)> {
    let session = Session::of_file(File::open(path)?)?;
    let file = session.open(File::open(path)?)?;
    let mut reader = session.reader(64 << 10)?;
    let mut bytes = vec![0; usize::try_from(file.size())?];
    reader.read(&file, 0, &mut bytes)?;
    ensure!(bytes == fs::read(path)?, "other bytes than read(2) gives");
    Ok((session, file, reader))
}

/// The client sees the end of its session.
fn is_over(session: &Session, file: &OpenFile) -> Result<()> {
    let start = Instant::now();
    while session.is_alive() {
        ensure!(start.elapsed() < SOON, "the session lives on");
        thread::sleep(Duration::from_millis(5));
    }
    ensure!(!file.is_held(), "the file is still held");
    Ok(())
}

/// As above, and its next command is not waited for.
fn is_told(session: &Session, file: &OpenFile, reader: &mut Reader) -> Result<()> {
    is_over(session, file)?;
    let start = Instant::now();
    match reader.read(file, 0, &mut vec![0; 3]) {
        Err(ClientError::Gone | ClientError::Command { .. }) => {}
        other => bail!("read from a daemon that is gone: {other:?}"),
    }
    ensure!(start.elapsed() < SOON, "it took {:?} to be told", start.elapsed());
    Ok(())
}

#[test]
fn plain_umount_ends_the_daemon_and_tells_its_clients() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let mut mount = HomifsMount::new(&image_of("ext4-default")?.0, "clients=2")?;
    // Nothing of the mount is open, so nothing keeps it busy.
    let (session, file, mut reader) = attached(&mount.join(KNOWN))?;
    let start = Instant::now();
    outcome("umount", [mount.path()])?.succeeded()?;
    ensure!(mount.daemon().wait()?.success(), "{}", mount.daemon().said());
    ensure!(start.elapsed() < SOON, "the end took {:?}", start.elapsed());
    is_told(&session, &file, &mut reader)
}

#[test]
fn plain_umount_of_a_writable_mount_ends_the_daemon_and_tells_its_clients() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in [Format::Ext4, Format::Xfs] {
        let volume = FreshVolume::new(format)?;
        let mut mount = volume.mount("clients=2")?;
        let (read, written) = (mount.join("read"), mount.join("written"));
        fs::write(&read, [7; 3])?;
        fs::write(&written, vec![1; 8192])?;
        let (session, file, mut reader) = attached(&read)?;
        let target = session.open_to_write(File::options().read(true).write(true).open(&written)?)?;
        session.writer(64 << 10)?.write(&target, 0, &[2; 4096])?;
        let start = Instant::now();
        outcome(homifs()?, [Path::new("umount"), mount.path()])?.succeeded()?;
        ensure!(mount.daemon().wait()?.success(), "{format:?}: {}", mount.daemon().said());
        ensure!(start.elapsed() < SOON, "{format:?}: the end took {:?}", start.elapsed());
        is_told(&session, &file, &mut reader)?;
        drop((file, target, reader, session));
        volume.check()?;
        // What was answered is there.
        let mount = volume.mount("")?;
        let bytes = fs::read(mount.join("written"))?;
        ensure!(bytes[..4096] == [2; 4096] && bytes[4096..] == [1; 4096], "{format:?}: a write was lost");
        volume.unmount(mount)?;
    }
    Ok(())
}

#[test]
fn sigterm_with_commands_in_flight_ends_the_daemon_and_answers_or_tells_each_client() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let mut mount = HomifsMount::new(&image_of("ext4-default")?.0, "clients=2")?;
    let path = fs::read_dir(mount.join("holes"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            fs::metadata(path).is_ok_and(|file| file.is_file() && (65536..1 << 24).contains(&file.len()))
        })
        .context("no file to read")?;
    let clients = (0..4).map(|_| attached(&path)).collect::<Result<Vec<_>>>()?;
    let wanted = fs::read(&path)?;
    let reading: Vec<_> = clients
        .into_iter()
        .map(|(session, file, mut reader)| {
            let wanted = wanted.clone();
            thread::spawn(move || -> Result<usize> {
                let mut bytes = vec![0; wanted.len()];
                for count in 0.. {
                    match reader.read(&file, 0, &mut bytes) {
                        Ok(_) => ensure!(bytes == wanted, "other bytes at the end"),
                        Err(ClientError::Gone | ClientError::Command { .. }) => {
                            is_over(&session, &file)?;
                            return Ok(count);
                        }
                        Err(other) => return Err(other.into()),
                    }
                }
                Ok(0)
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    mount.daemon().signal(Signal::TERM)?;
    ensure!(mount.daemon().wait()?.success(), "{}", mount.daemon().said());
    ensure!(start.elapsed() < SOON, "the end took {:?}", start.elapsed());
    ensure!(mount.entry().is_none(), "still mounted");
    for client in reading {
        let reads = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        ensure!(reads > 0, "nothing was in flight");
    }
    Ok(())
}

/// Tells a process of this test that it is a client, and which file it reads.
const FILE: &str = "HOMIFS_LIFECYCLE_FILE";
/// Tells it how to end.
const END: &str = "HOMIFS_LIFECYCLE_END";
/// The test that such a process runs.
const CLIENT: &str = "client_process_reads_and_ends_as_it_is_told";

#[test]
fn client_process_reads_and_ends_as_it_is_told() -> Result<()> {
    let (Some(path), Ok(end)) = (env::var_os(FILE), env::var(END)) else { return Ok(()) };
    let path = PathBuf::from(path);
    let (session, file, mut reader) = attached(&path)?;
    let say = |word: &str| {
        println!("\n{word}");
        std::io::stdout().flush()
    };
    let wait = || std::io::stdin().read(&mut [0]).map(drop);
    say("attached")?;
    wait()?;
    match &*end {
        // Without a word to the daemon: nothing is dropped.
        "exit" => std::process::exit(0),
        // The program after it has none of its descriptors.
        "exec" => Err(Command::new("sleep").arg("600").exec().into()),
        "fork" => {
            // SAFETY: The child calls only what forks are to be refused by, and ends without running anything else.
            let child = unsafe { libc::fork() };
            ensure!(child >= 0, "no fork: {}", std::io::Error::last_os_error());
            if child == 0 {
                let refused = matches!(reader.read(&file, 0, &mut vec![0; 3]), Err(ClientError::Invalid(_)))
                    && session.reader(4096).is_err()
                    && !session.is_alive();
                // SAFETY: It ends the process.
                unsafe { libc::_exit(i32::from(!refused)) };
            }
            let mut status = 0;
            // SAFETY: The kernel writes one number, to where one lies.
            ensure!(unsafe { libc::waitpid(child, &raw mut status, 0) } == child);
            ensure!(status == 0, "the child was not refused: {status:#x}");
            // The parent goes on.
            let mut bytes = vec![0; usize::try_from(file.size())?];
            reader.read(&file, 0, &mut bytes)?;
            ensure!(bytes == fs::read(&path)? && session.is_alive(), "the parent's session is gone");
            say("went on")?;
            wait()?;
            Ok(())
        }
        other => bail!("no way to end: {other}"),
    }
}

/// A process of this test's, which is killed if it is still there.
struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<std::process::ChildStdout>,
}

impl Client {
    fn start(path: &Path, end: &str) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args([CLIENT, "--exact", "--nocapture", "--test-threads=1"]).env(FILE, path).env(END, end);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let mut client = Self { child, input, output };
        client.hear("attached")?;
        Ok(client)
    }

    fn hear(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        while self.output.read_line(&mut line)? > 0 {
            if line.trim() == word {
                return Ok(());
            }
            line.clear();
        }
        bail!("the client did not get to say {word:?}")
    }

    fn go_on(&mut self) -> Result<()> {
        Ok(self.input.write_all(b"\n")?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn clients_of(mount: &HomifsMount) -> Result<u64> {
    let told = Command::new(homifs()?).args(["stats", "-o", "json"]).arg(mount.path()).output()?;
    let told: serde_json::Value = serde_json::from_slice(&told.stdout)?;
    told["values"]["clients"].as_u64().with_context(|| format!("no clients in {told}"))
}

#[test]
fn client_that_exits_execs_or_forks_has_its_session_as_long_as_it_lives() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let mount = HomifsMount::new(&image_of("ext4-default")?.0, "clients=1")?;
    for end in ["exit", "exec", "fork"] {
        let mut client = Client::start(&mount.join(KNOWN), end)?;
        ensure!(clients_of(&mount)? == 1, "{end}: not attached");
        client.go_on()?;
        if end == "fork" {
            client.hear("went on")?;
            ensure!(clients_of(&mount)? == 1, "the child's end ended the parent's session");
            client.go_on()?;
        }
        let start = Instant::now();
        while clients_of(&mount)? > 0 {
            ensure!(start.elapsed() < SOON, "{end}: the session lives on");
            thread::sleep(Duration::from_millis(10));
        }
        if end == "exec" {
            ensure!(client.child.try_wait()?.is_none(), "the program after it did not live");
        } else {
            ensure!(client.child.wait()?.success(), "{end}: the client failed");
        }
    }
    // And others are served.
    attached(&mount.join(KNOWN)).map(drop)
}
