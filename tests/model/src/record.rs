//! What each process writes down of what it did and saw.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::register::Moment;
use crate::stamp::{Run, WriteId};

/// By which way bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Through the page cache.
    Buffered,
    /// `O_DIRECT`.
    Direct,
    /// `O_SYNC`.
    Sync,
    /// `O_APPEND`.
    Append,
    /// A mapping.
    Mapped,
    /// A client's queue.
    Queue,
}

/// What was done or seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Bytes were written.
    Write {
        /// How.
        way: Way,
        /// Whose words they are.
        id: WriteId,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// Bytes came from another file.
    Copy {
        /// That file.
        from: u32,
        /// First byte there.
        from_offset: u64,
        /// First byte here.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// The size was set.
    Cut {
        /// To what.
        size: u64,
    },
    /// Bytes became zeros.
    Clear {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Whether the file grows to have them.
        grows: bool,
    },
    /// Blocks were allocated, and the file grew if it did not reach there.
    Grow {
        /// End of it in bytes.
        size: u64,
    },
    /// Bytes were read.
    Read {
        /// How.
        way: Way,
        /// First byte.
        offset: u64,
        /// Bytes asked for.
        length: u64,
        /// What there was; less than asked for where the file ended.
        runs: Vec<Run>,
    },
    /// The size was asked for.
    Size {
        /// What it was.
        size: u64,
    },
    /// The file got this name.
    Bind {
        /// Number of the name.
        name: u32,
    },
    /// A name went away, whatever file had it.
    Unbind {
        /// Number of the name.
        name: u32,
    },
    /// A name was looked up. The record's file is what it led to; 0 for nothing.
    Look {
        /// Number of the name.
        name: u32,
    },
    /// Something failed that may not fail.
    Failed {
        /// What.
        what: String,
    },
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who.
    pub actor: u32,
    /// On which file; 0 for none.
    pub file: u32,
    /// Just before the call.
    pub begin: Moment,
    /// Just after.
    pub end: Moment,
    /// Whether it did all that it says. Else it may have done any part of it, whenever.
    pub certain: bool,
    /// What.
    pub act: Act,
}

/// Writes records down.
#[derive(Debug)]
pub(crate) struct Log(BufWriter<File>);

impl Log {
    /// A new one.
    ///
    /// # Errors
    /// Where the file cannot be made.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(BufWriter::with_capacity(1 << 20, file)))
    }

    /// Adds a record.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn add(&mut self, record: &Record) -> Result<()> {
        serde_json::to_writer(&mut self.0, record)?;
        Ok(self.0.write_all(b"\n")?)
    }

    /// Writes what is still in memory.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn finish(mut self) -> Result<()> {
        Ok(self.0.flush()?)
    }

    /// Reads all records of one.
    ///
    /// # Errors
    /// Where it cannot be read, or is no log.
    pub(crate) fn read(path: &Path) -> Result<Vec<Record>> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let lines = BufReader::with_capacity(1 << 20, file).lines();
        lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
    }
}
