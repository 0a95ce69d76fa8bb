//! What `mount -o remount` asks of a mount that is there.

use crate::{MountOptions, OptionError, split};

/// Words that the kernel's FUSE shows of a mount, and mount(8) repeats.
const SHOWN: [&str; 8] =
    ["fd", "rootmode", "user_id", "group_id", "max_read", "blksize", "default_permissions", "allow_other"];

/// Whether a list asks for a mount that is there to be changed.
#[must_use]
pub fn asks_for_remount(list: &str) -> bool {
    split(list).any(|word| word == "remount")
}

/// How a mount is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remount {
    /// Whether it is to be read-only, where that is said.
    pub read_only: Option<bool>,
    /// What the mount has then: its flags and the words of the file system below among them.
    pub options: MountOptions,
    /// The words of the file system below that were given.
    pub lower: Vec<String>,
}

impl MountOptions {
    /// These options, changed as a list of `mount -o remount` says.
    ///
    /// # Errors
    /// Where an option is unknown, or one that cannot be changed is to be.
    pub fn remount(&self, list: &str) -> Result<Remount, OptionError> {
        let known = |word: &&str| {
            let name = word.split('=').next().unwrap_or(word);
            *word != "remount" && !SHOWN.contains(&name)
        };
        let words: Vec<&str> = split(list).filter(known).collect();
        let read_only = words.iter().rev().find_map(|word| match *word {
            "ro" => Some(true),
            "rw" => Some(false),
            _ => None,
        });
        let before = Self { lower: Vec::new(), ..self.clone() };
        let mut options = before.clone();
        options.apply(&words.join(","))?;
        let lower = std::mem::take(&mut options.lower);
        let fixed =
            |options: &Self| Self { flags: before.flags, read_only: before.read_only, ..options.clone() };
        if fixed(&options) != before {
            return Err(OptionError::Refused {
                name: "remount",
                why: "what the daemon itself does is fixed as long as it runs; only ro, rw, the flags of every file system \
                      and the options of ext4 or XFS can be changed: unmount, then mount again",
            });
        }
        Ok(Remount { read_only, options, lower })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MountFlags;

    #[test]
    fn remount_takes_flags_and_words_of_the_file_system_and_nothing_of_the_daemon() {
        let mounted: MountOptions = "rw,clients=2,noatime,discard".parse().unwrap();
        let list = "remount,ro,user_id=0,max_read=262144,default_permissions,clients=2,nodev,commit=30";
        assert!(asks_for_remount(list) && !asks_for_remount("ro,nodev"));
        let asked = mounted.remount(list).unwrap();
        assert_eq!((asked.read_only, asked.lower), (Some(true), vec!["commit=30".to_owned()]));
        assert!(asked.options.flags.contains(MountFlags::NODEV | MountFlags::NOATIME));
        assert_eq!(mounted.remount("remount,noexec").unwrap().read_only, None);
        let refused = mounted.remount("remount,clients=3").unwrap_err().to_string();
        assert!(refused.contains("unmount"), "{refused}");
        assert!(mounted.remount("remount,no-such-word").is_err());
    }
}
