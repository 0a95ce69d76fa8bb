//! Serves clients that read files by NVMe queues of their own: device-initiated I/O in the mediated tier.
//!
//! A client says hello on the mount's socket, gets queues, registers memory, and presents handles of files. From then on
//! its commands are carried out by a [`Server`]'s threads: each is checked against what that client may read and where
//! it may be written, translated from blocks of the file to blocks of the device, and submitted to the mount's engine
//! with the client's memory as the target.
//!
//! The control side runs on one thread of its own (tokio): it waits for many sockets at a time, and for commands in
//! flight with deadlines. The threads that carry commands out never see it.
#![forbid(unsafe_code)]

mod budget;
mod client;
mod crew;
mod file;
mod guests;
mod ledger;
mod lent;
mod limits;
mod metrics;
mod packet;
mod parts;
mod refusal;
mod rota;
mod scribes;
mod served;
mod server;
mod session;
mod share;
mod snapshot;
mod written;

pub use limits::ClientLimits;
pub use server::{Server, ServerError};
