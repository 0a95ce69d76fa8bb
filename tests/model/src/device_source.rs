//! The accelerator's own sources, compiled for this processor, as a reader.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use homi_client::{Buffer, NvmeStatus, OpenFile, QueueSet, Session};
use oracle::machine;
use rustix::io::{FdFlags, fcntl_setfd};

/// Most bytes that one read brings.
const ROOM: usize = 64 << 10;

/// Compiles it; nothing where there is no compiler.
///
/// # Errors
/// Where it does not compile.
pub fn build(folder: &Path) -> Result<Option<PathBuf>> {
    if !machine::has_tool("c++") {
        return Ok(None);
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = folder.join("reader");
    let mut command = Command::new("c++");
    command.args(["-O2", "-Wall", "-Wextra", "-Werror", "-std=c++17", "-pthread", "-I"]);
    command
        .arg(here.join("../../gpu/device/include"))
        .arg(here.join("device/reader.cpp"))
        .arg("-o")
        .arg(&program);
    oracle::command::finish(&mut command)?;
    Ok(Some(program))
}

/// A process with a queue pair of ours that it alone uses.
#[derive(Debug)]
pub(crate) struct SourceReader {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    buffer: Buffer,
    _queues: QueueSet,
}

impl SourceReader {
    /// Starts `program` with a queue pair and memory of the session.
    pub(crate) fn start(program: &Path, session: &Session) -> Result<Self> {
        let queues = session.queues(1, 16)?;
        let buffer = session.buffer(ROOM)?;
        let places = queues.places();
        let mut command = Command::new(program);
        let bytes = [
            usize::try_from(buffer.iova())?,
            buffer.memory().length(),
            usize::try_from(places.entries)?,
            places.submissions,
            places.completions,
            places.length,
            places.tail_doorbell,
            places.head_doorbell,
            places.doorbells_length,
            8 << 10,
        ];
        command.args(bytes.map(|number| number.to_string()));
        for descriptor in [queues.memory().as_fd(), queues.doorbells().as_fd()] {
            fcntl_setfd(descriptor, FdFlags::empty())?;
            command.arg(descriptor.as_raw_fd().to_string());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let requests = Some(child.stdin.take().context("no way to ask it")?);
        let answers = BufReader::new(child.stdout.take().context("no way to hear it")?);
        Ok(Self { child, requests, answers, buffer, _queues: queues })
    }

    /// Reads from `offset` on: how many bytes there were, or the status of the command that failed. Past the end there is
    /// nothing as long as the file is held.
    pub(crate) fn read(
        &mut self,
        file: &OpenFile,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<Result<usize, NvmeStatus>> {
        let there = usize::try_from(file.size().saturating_sub(offset))?.min(bytes.len());
        if there == 0 {
            let held = file.is_held();
            return Ok(if held { Ok(0) } else { Err(NvmeStatus(NvmeStatus::NAMESPACE_NOT_READY)) });
        }
        let block = u64::from(file.block_size());
        let start = offset / block * block;
        let skip = usize::try_from(offset - start)?;
        let there = there.min(ROOM - usize::try_from(block)? - skip);
        let length = u64::try_from(skip + there)?.next_multiple_of(block);
        let mut line = String::new();
        let requests = self.requests.as_mut().context("it was ended")?;
        writeln!(requests, "{} {} {} {start} {length}", file.nsid(), file.block_shift(), file.size())?;
        ensure!(self.answers.read_line(&mut line)? > 0, "it has ended");
        let status = line.trim().parse()?;
        if status != 0 {
            return Ok(Err(NvmeStatus(status)));
        }
        let bytes = bytes.get_mut(..there).context("more than was asked for")?;
        self.buffer.memory().read(skip, bytes);
        Ok(Ok(there))
    }
}

impl Drop for SourceReader {
    fn drop(&mut self) {
        // It ends when nobody can ask it any more.
        self.requests = None;
        let _ = self.child.wait();
    }
}
