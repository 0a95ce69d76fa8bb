//! A model checker for mounts: several processes do things to a few files at random while others read them by queues of
//! their own, and every byte that any of them saw must have an explanation. docs/MODEL_CHECKER.md says what is checked.
//!
//! Unsafe code stands in `clock`, which asks for the time, and `mapping`, which maps files.

mod actor;
mod clock;
mod device;
mod device_source;
mod history;
mod mapping;
mod operations;
mod place;
mod record;
mod register;
mod round;
mod stamp;
mod volume;

pub use actor::{Actor, Task};
pub use device::DeviceReader;
pub use device_source::build;
pub use history::{History, Tally, Violation};
pub use record::{Act, Record, Way};
pub use register::{Contradiction, Got, Moment, NEVER, Put, Read, Span, Write, check};
pub use round::{Outcome, Plan, run};
pub use stamp::{Run, Seen, Stamp, WriteId};
pub use volume::{Mounted, Volume};
