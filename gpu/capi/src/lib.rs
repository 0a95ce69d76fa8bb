//! libhomifs: the client of device-initiated I/O for C, and for all that can call C.
//!
//! The functions are those of `homi-client`; here their arguments are checked and their errors kept for the caller.
//! `include/homifs.h` is made from the functions and structures as they stand here
//! (`cargo run -p homifs-c --example homifs_header`), and a test keeps the two alike.
//!
//! The crate has unsafe code because callers give addresses. What they promise for them stands in the header.

#[macro_use]
mod declare;
mod boundary;
mod constants;
mod error;
mod file;
mod header;
mod memory;
mod read;
mod session;
mod snapshot;

pub use constants::CONSTANTS;
pub use declare::{Constant, Function, Member, Record};
pub use header::{functions, header, records};
