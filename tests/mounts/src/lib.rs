//! What tests that mount homifs share: the built programs, mounts that clean up after themselves, and the links that
//! mount(8) needs.
#![forbid(unsafe_code)]

mod engine;
mod fresh_volume;
mod helper_links;
mod homifs_mount;
mod numbers;
mod other_user;
mod past_the_end;
mod programs;
mod python_package;
mod regular_files;
mod sample;

pub use engine::{ControllerProcess, Engine};
pub use fresh_volume::FreshVolume;
pub use helper_links::HelperLinks;
pub use homifs_mount::{Daemon, HomifsMount, mount_entry};
pub use numbers::Numbers;
pub use other_user::as_user;
pub use past_the_end::fill_past_the_end;
pub use programs::{Outcome, helper, homifs, library, outcome};
pub use python_package::PythonPackage;
pub use regular_files::regular_files;
pub use sample::{image_of, sample};
