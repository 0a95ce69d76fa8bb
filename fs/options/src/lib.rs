//! Mount options: one table, from which parsing, help, man page and rendering are made.
//!
//! ```
//! use homifs_options::MountOptions;
//!
//! let options: MountOptions = "ro,partition=2,cache=1G,nosuid".parse()?;
//! assert_eq!(options.partition, Some(2));
//! assert_eq!(options.to_string(), "ro,nosuid,partition=2,cache=1G");
//! # Ok::<(), homifs_options::OptionError>(())
//! ```
#![forbid(unsafe_code)]

mod clients;
mod error;
mod flags;
mod help;
mod options;
mod parse;
mod remount;
mod suggest;
mod table;
mod value;

pub use clients::ClientOptions;
pub use error::OptionError;
pub use flags::MountFlags;
pub use help::{help_text, man_section};
pub use options::{Direct, Engine, Format, LogLevel, MountOptions, Reads, Recovery};
pub use parse::{asks_for_help, split};
pub use remount::{Remount, asks_for_remount};
pub use value::{Unit, parse_quantity, render_quantity};
