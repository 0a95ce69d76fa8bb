//! Changes options of the lower mount while it is used.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fspick};

use crate::mount::told;
use crate::sys::attributes;
use crate::{Lower, LowerAttributes};

/// Why the kernel's driver did not change an option, and what it says itself.
#[derive(Debug, thiserror::Error)]
#[error("the kernel's driver refuses {step}: {source}{told}")]
pub struct RemountError {
    /// What it was asked.
    step: String,
    /// Its answer.
    pub source: Errno,
    /// Its words.
    told: String,
}

impl Lower {
    /// Makes the volume read-only or writable where that is said, and hands further words to its driver. A volume that is
    /// made read-only is clean on its device; as long as a file is open for writing it is refused.
    ///
    /// # Errors
    /// What the kernel's driver says; nothing is changed then, unless it says so.
    pub fn remount(
        &self,
        read_only: Option<bool>,
        words: &[String],
        attributes: &LowerAttributes,
    ) -> Result<(), RemountError> {
        let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
        let plain = |step: &str| {
            let step = step.to_owned();
            move |source| RemountError { step, source, told: String::new() }
        };
        let context = fspick(&self.mount.root, c"", flags).map_err(plain("to be changed"))?;
        let refused = |step: String| {
            let context: &OwnedFd = &context;
            move |source| RemountError { step, source, told: told(context) }
        };
        if let Some(read_only) = read_only {
            let word = if read_only { "ro" } else { "rw" };
            fsconfig_set_flag(&context, word).map_err(refused(word.to_owned()))?;
        }
        for (word, wanted) in
            [("lazytime", attributes.lazytime), ("sync", attributes.sync), ("dirsync", attributes.dirsync)]
        {
            if wanted {
                fsconfig_set_flag(&context, word).map_err(refused(word.to_owned()))?;
            }
        }
        for word in words {
            let set = match word.split_once('=') {
                Some((name, value)) => fsconfig_set_string(&context, name, value),
                None => fsconfig_set_flag(&context, word.as_str()),
            };
            set.map_err(refused(format!("the option '{word}'")))?;
        }
        fsconfig_reconfigure(&context).map_err(refused("the change".to_owned()))?;
        attributes::set_access_times(&self.mount.mount, attributes).map_err(plain("access times"))
    }
}
