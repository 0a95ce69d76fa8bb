//! A process that does things to files and looks at them, in an order that its seed decides.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::Result;
use mounts::Numbers;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, XattrFlags, fgetxattr, fsetxattr, linkat, open, renameat, unlink,
};
use rustix::io::Errno;

use crate::clock::now;
use crate::history::CELL;
use crate::mapping::Mapping;
use crate::place::{IDENTITY, Kind, MOST, path};
use crate::record::{Act, Log, Record};
use crate::register::Moment;
use crate::stamp::{Stamp, WriteId};

/// What a process is told.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its number.
    pub actor: u32,
    /// The mount.
    pub root: PathBuf,
    /// Where it writes its records.
    pub log: PathBuf,
    /// What decides about its choices.
    pub seed: u64,
    /// The words of this round.
    pub stamp: Stamp,
    /// When it ends.
    pub until: Moment,
    /// How many names there are.
    pub names: u32,
    /// Whether to cut, punch and replace most of the time.
    pub storm: bool,
}

/// A file that the process has open.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Gone where only the mapping is left.
    pub(crate) file: Option<OwnedFd>,
    pub(crate) identity: u32,
    pub(crate) kind: Kind,
    pub(crate) flags: OFlags,
    pub(crate) mapping: Option<Mapping>,
    /// Bytes that a file which is never cut has at least.
    pub(crate) least: u64,
}

impl Handle {
    pub(crate) fn is_writable(&self) -> bool {
        self.flags.contains(OFlags::RDWR)
    }
}

/// The process.
#[derive(Debug)]
pub struct Actor {
    pub(crate) task: Task,
    pub(crate) numbers: Numbers,
    log: Log,
    sequence: u32,
    files: u32,
    pub(crate) handles: Vec<Handle>,
}

/// Memory that `O_DIRECT` takes: a page more than asked for, and where in it pages begin.
pub(crate) fn aligned(length: usize) -> (Vec<u8>, usize) {
    let memory = vec![0; length + 4096];
    let start = memory.as_ptr().align_offset(4096);
    (memory, start)
}

impl Actor {
    /// Prepares one.
    ///
    /// # Errors
    /// Where its log cannot be made.
    pub fn new(task: Task) -> Result<Self> {
        let mut numbers =
            Numbers(task.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(task.actor + 1) << 32 | 1);
        for _ in 0..10 {
            numbers.next();
        }
        let log = Log::create(&task.log)?;
        Ok(Self { task, numbers, log, sequence: 0, files: 0, handles: Vec::new() })
    }

    /// Works until its time is over.
    ///
    /// # Errors
    /// Where its records cannot be written.
    pub fn run(mut self) -> Result<()> {
        while now() < self.task.until {
            self.step()?;
        }
        self.handles.clear();
        self.log.finish()
    }

    fn step(&mut self) -> Result<()> {
        // A storm has short opens: who writes keeps readers out.
        let (replace, remove, close) = if self.task.storm { (14, 4, 30) } else { (2, 1, 16) };
        let die = u32::try_from(self.numbers.below(100))?;
        if die < replace {
            return self.replace();
        }
        if die < replace + remove {
            return self.remove();
        }
        if self.handles.is_empty() || (self.handles.len() < 3 && die < 30) {
            return self.open();
        }
        let handle = usize::try_from(self.numbers.below(self.handles.len() as u64))?;
        if die >= 100 - close {
            // What is written by a mapping after its file was closed is seen as well.
            let handle = self.handles.swap_remove(handle);
            if handle.mapping.is_some() && handle.file.is_some() && self.numbers.below(2) == 0 {
                self.handles.push(Handle { file: None, ..handle });
            }
            return Ok(());
        }
        self.operate(handle)
    }

    /// A new write's number.
    pub(crate) fn next_write(&mut self) -> WriteId {
        self.sequence += 1;
        WriteId::new(self.task.actor, self.sequence)
    }

    /// Writes a record down.
    pub(crate) fn tell(&mut self, file: u32, begin: Moment, certain: bool, act: Act) -> Result<()> {
        self.tell_until(file, (begin, now()), certain, act)
    }

    /// As [`tell`](Self::tell), of what was over before.
    pub(crate) fn tell_until(
        &mut self,
        file: u32,
        (begin, end): (Moment, Moment),
        certain: bool,
        act: Act,
    ) -> Result<()> {
        // What moved nothing changed nothing.
        if matches!(act, Act::Write { length: 0, .. } | Act::Copy { length: 0, .. }) {
            return Ok(());
        }
        self.log.add(&Record { actor: self.task.actor, file, begin, end, certain, act })
    }

    /// Tells of an error that nobody expects.
    pub(crate) fn fail(&mut self, file: u32, what: &str, error: &io::Error) -> Result<()> {
        self.tell(file, now(), true, Act::Failed { what: format!("{what}: {error}") })
    }

    fn any_name(&mut self) -> u32 {
        u32::try_from(self.numbers.below(self.task.names.into())).unwrap_or(0)
    }

    fn open(&mut self) -> Result<()> {
        let name = self.any_name();
        let kind = Kind::of_name(name);
        let mut flags = OFlags::CLOEXEC | OFlags::RDONLY;
        if self.numbers.below(100) < 55 {
            flags |= match self.numbers.below(8) {
                0 => OFlags::RDWR | OFlags::SYNC,
                1 => OFlags::RDWR | OFlags::APPEND,
                _ => OFlags::RDWR,
            };
        }
        let reads = !flags.contains(OFlags::RDWR);
        let mapped = kind == Kind::Mapped;
        if self.numbers.below(4) == 0
            && (reads || (kind == Kind::Direct && !flags.contains(OFlags::APPEND)))
            && !mapped
        {
            flags |= OFlags::DIRECT;
        }
        let begin = now();
        let file = match open(path(&self.task.root, name), flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return self.tell(0, begin, true, Act::Look { name }),
            Err(error) => return self.fail(0, &format!("open name {name}"), &error.into()),
        };
        let end = now();
        let identity = match identity_of(&file) {
            Ok(identity) => identity,
            // It was made just now.
            Err(Errno::NODATA) => return Ok(()),
            Err(error) => return self.fail(0, &format!("read the attribute of name {name}"), &error.into()),
        };
        let act = Act::Look { name };
        self.log.add(&Record { actor: self.task.actor, file: identity, begin, end, certain: true, act })?;
        let mut handle = Handle { file: Some(file), identity, kind, flags, mapping: None, least: 0 };
        if !flags.contains(OFlags::DIRECT) && self.numbers.below(3) == 0 {
            let writable = mapped && !reads;
            match handle.file.as_ref().map(|file| Mapping::new(file, MOST as usize, writable)) {
                Some(Ok(mapping)) => handle.mapping = Some(mapping),
                Some(Err(error)) => self.fail(identity, "mmap", &error)?,
                None => {}
            }
        }
        self.handles.push(handle);
        Ok(())
    }

    /// Makes a file and has it take a name, with or without anything in it.
    fn replace(&mut self) -> Result<()> {
        let name = self.any_name();
        let kind = Kind::of_name(name);
        self.files += 1;
        let identity = (self.task.actor + 1) << 20 | self.files;
        let target = path(&self.task.root, name);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let at_once = self.numbers.below(4) == 0;
        let begin = now();
        let mode = Mode::from_raw_mode(0o644);
        let new = self.task.root.join(format!("new{identity:x}"));
        let file = match open(if at_once { &target } else { &new }, flags, mode) {
            Ok(file) => file,
            // Somebody else has the name, or there is no space.
            Err(Errno::EXIST) if at_once => return Ok(()),
            Err(Errno::NOSPC) => return Ok(()),
            Err(error) => return self.fail(identity, "create", &error.into()),
        };
        if let Err(error) = fsetxattr(&file, IDENTITY, &identity.to_le_bytes(), XattrFlags::CREATE) {
            return self.fail(identity, "set the attribute", &error.into());
        }
        let handle =
            Handle { file: Some(file), identity, kind, flags: OFlags::RDWR, mapping: None, least: 0 };
        if at_once {
            self.tell(identity, begin, true, Act::Bind { name })?;
            self.handles.push(handle);
            return self.write_some(self.handles.len() - 1);
        }
        self.handles.push(handle);
        let last = self.handles.len() - 1;
        for _ in 0..self.numbers.below(3) {
            self.write_some(last)?;
        }
        if self.numbers.below(3) > 0 {
            // Closed before it is anybody's.
            self.handles.pop();
        }
        let begin = now();
        if self.numbers.below(3) == 0 {
            let linked = linkat(CWD, &new, CWD, &target, AtFlags::empty());
            match linked {
                Ok(()) => self.tell(identity, begin, true, Act::Bind { name })?,
                Err(Errno::EXIST) => {}
                Err(error) => self.fail(identity, "link", &error.into())?,
            }
            if let Err(error) = unlink(&new) {
                self.fail(identity, "unlink what was linked", &error.into())?;
            }
            return Ok(());
        }
        match renameat(CWD, &new, CWD, &target) {
            Ok(()) => self.tell(identity, begin, true, Act::Bind { name }),
            Err(error) => self.fail(identity, "rename", &error.into()),
        }
    }

    fn remove(&mut self) -> Result<()> {
        let name = self.any_name();
        let begin = now();
        match unlink(path(&self.task.root, name)) {
            Ok(()) => self.tell(0, begin, true, Act::Unbind { name }),
            Err(Errno::NOENT) => self.tell(0, begin, true, Act::Look { name }),
            Err(error) => self.fail(0, "unlink", &error.into()),
        }
    }

    /// A first byte.
    pub(crate) fn any_offset(&mut self, most: u64) -> u64 {
        let grain = match self.numbers.below(4) {
            0 => CELL,
            1 => 512,
            _ => 4096,
        };
        self.numbers.below(most / grain) * grain
    }

    /// How many bytes.
    pub(crate) fn any_length(&mut self) -> u64 {
        match self.numbers.below(8) {
            0 => CELL * (1 + self.numbers.below(16)),
            1..4 => 512 * (1 + self.numbers.below(16)),
            4..7 => 4096 * (1 + self.numbers.below(4)),
            _ => 4096 * (1 + self.numbers.below(16)),
        }
    }
}

/// Which file this is.
pub(crate) fn identity_of(file: &OwnedFd) -> Result<u32, Errno> {
    let mut identity = [0; 4];
    match fgetxattr(file, IDENTITY, &mut identity)? {
        4 => Ok(u32::from_le_bytes(identity)),
        _ => Err(Errno::NODATA),
    }
}
