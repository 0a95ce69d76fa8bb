//! The arguments of a mount helper: `SPEC DIR [-sfnv] [-N namespace] [-o options] [-t type.subtype]`.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use homifs_options::MountOptions;

use crate::HelperError;

/// What mount(8) asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// The device, image or other spec.
    pub(crate) source: OsString,
    /// The mount point.
    pub(crate) directory: OsString,
    /// The lists of all `-o`, in order.
    pub(crate) lists: Vec<String>,
    /// `-s`: unknown options are left out.
    pub(crate) sloppy: bool,
    /// `-f`: everything but the mount itself.
    pub(crate) fake: bool,
    /// `-v`: say what is done.
    pub(crate) verbose: bool,
    /// `-N`: where to mount.
    pub(crate) namespace: Option<OsString>,
}

const USAGE: &str = "usage: mount.homifs SPEC DIRECTORY [-sfnv] [-N namespace] [-o options] [-t homifs]";

fn usage(problem: &str) -> HelperError {
    HelperError::Usage(format!("{problem}; {USAGE}"))
}

/// Reads the arguments. Flags may stand together (`-sf`), and a value may follow its flag at once (`-oro`).
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Invocation, HelperError> {
    let mut arguments = arguments;
    let (mut invocation, mut positional) = (Invocation::default(), Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_bytes() {
            b"--" => positional.extend(arguments.by_ref()),
            [b'-', flags @ ..] if !flags.is_empty() => {
                parse_flags(flags, &mut arguments, &mut invocation)?;
            }
            _ => positional.push(argument),
        }
    }
    let [source, directory] =
        <[OsString; 2]>::try_from(positional).map_err(|_| usage("a spec and a directory are needed"))?;
    // Lines of fstab for mount.fuse name the program before the source.
    let source_bytes = source.as_bytes();
    invocation.source =
        OsStr::from_bytes(source_bytes.strip_prefix(b"homifs#").unwrap_or(source_bytes)).to_owned();
    invocation.directory = directory;
    Ok(invocation)
}

fn parse_flags(
    flags: &[u8],
    arguments: &mut impl Iterator<Item = OsString>,
    invocation: &mut Invocation,
) -> Result<(), HelperError> {
    for (place, flag) in flags.iter().enumerate() {
        match flag {
            b's' => invocation.sloppy = true,
            b'f' => invocation.fake = true,
            b'v' => invocation.verbose = true,
            // There is no /etc/mtab to leave alone any more.
            b'n' => {}
            b'o' | b't' | b'N' => {
                let rest = &flags[place + 1..];
                let value = match rest.is_empty() {
                    false => OsStr::from_bytes(rest).to_owned(),
                    true => {
                        let missing = || usage(&format!("-{} needs a value", char::from(*flag)));
                        arguments.next().ok_or_else(missing)?
                    }
                };
                return take_value(*flag, value, invocation);
            }
            other => return Err(usage(&format!("unknown flag -{}", char::from(*other)))),
        }
    }
    Ok(())
}

fn take_value(flag: u8, value: OsString, invocation: &mut Invocation) -> Result<(), HelperError> {
    let text = |value: OsString| value.into_string().map_err(|_| usage("an option is not UTF-8"));
    match flag {
        b'N' => invocation.namespace = Some(value),
        b'o' => invocation.lists.push(text(value)?),
        _ => {
            let format = text(value)?;
            if !matches!(format.as_str(), "homifs" | "fuse.homifs" | "fuse") {
                return Err(usage(&format!("this helper mounts homifs, not {format}")));
            }
        }
    }
    Ok(())
}

impl Invocation {
    /// The options to mount with.
    ///
    /// mount(8) puts `rw` into every list that does not say `ro`. Where the kernel's own driver could not write, since the
    /// source is no file of this machine, it tells nothing about what the user wants, and is left out.
    pub(crate) fn options(&self) -> Result<MountOptions, HelperError> {
        let mut options = MountOptions::default();
        for list in &self.lists {
            let kept = |option: &&str| *option != "rw" || self.can_be_written();
            let list = homifs_options::split(list).filter(kept).collect::<Vec<_>>().join(",");
            if self.sloppy {
                options.apply_tolerant(&list)?;
            } else {
                options.apply(&list)?;
            }
        }
        Ok(options)
    }
}

impl Invocation {
    /// Whether the source can be written by the kernel's own driver: it is a device or an image, not something that only
    /// the engine knows, and neither it nor the medium is protected. Of the latter mount(8) warns, so that is done here.
    fn can_be_written(&self) -> bool {
        let source = self.source.to_string_lossy();
        if source.split_once(':').is_some_and(|(scheme, _)| matches!(scheme, "soft" | "vfio-user")) {
            return false;
        }
        let opened = std::fs::File::options().write(true).open(&self.source);
        let protected = opened.is_err_and(|error| {
            matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
        });
        let protected = protected || is_protected_device(&self.source);
        if protected {
            eprintln!("homifs: {source} is write-protected, mounted read-only");
        }
        !protected
    }
}

/// Whether this is a block device that refuses writes, which opening it does not tell.
fn is_protected_device(path: &OsStr) -> bool {
    let Ok(metadata) = std::fs::metadata(path) else { return false };
    if !metadata.file_type().is_block_device() {
        return false;
    }
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ro")).is_ok_and(|told| told.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Invocation, HelperError> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn parse_as_mount_calls_it() {
        let invocation = parsed(&["/dev/vdb", "/mnt", "-o", "rw,threads=3,nosuid"]).unwrap();
        assert_eq!(
            (invocation.source.to_str(), invocation.directory.to_str()),
            (Some("/dev/vdb"), Some("/mnt"))
        );
        let options = invocation.options().unwrap();
        assert_eq!(options.threads, Some(3));
        assert!(!options.read_only);
        // What only the engine knows cannot be written by the kernel's driver.
        let invocation = parsed(&["soft:disk.img", "/mnt", "-o", "rw"]).unwrap();
        assert!(invocation.options().unwrap().read_only);
    }

    #[test]
    fn parse_flags_together_and_values_at_once() {
        let invocation =
            parsed(&["-sfnv", "a.img", "-oro,norecovery", "-N/proc/1/ns/mnt", "-tfuse.homifs", "d"]);
        let invocation = invocation.unwrap();
        assert!(invocation.sloppy && invocation.fake && invocation.verbose);
        assert_eq!(invocation.namespace, Some("/proc/1/ns/mnt".into()));
        assert!(invocation.options().unwrap().norecovery);
    }

    #[test]
    fn parse_after_two_hyphens_everything_is_a_name() {
        let invocation = parsed(&["--", "-image", "-dir"]).unwrap();
        assert_eq!(
            (invocation.source.to_str(), invocation.directory.to_str()),
            (Some("-image"), Some("-dir"))
        );
    }

    #[test]
    fn parse_program_before_source_is_left_out() {
        assert_eq!(parsed(&["homifs#disk.img", "/mnt"]).unwrap().source, "disk.img");
    }

    #[test]
    fn parse_wrong_calls_are_usage_errors() {
        let wrong: [&[&str]; 6] =
            [&[], &["a"], &["a", "b", "c"], &["a", "b", "-x"], &["a", "b", "-o"], &["a", "b", "-t", "ext4"]];
        for words in wrong {
            assert_eq!(parsed(words).unwrap_err().exit_code(), 1, "{words:?}");
        }
    }

    #[test]
    fn options_unknown_one_is_refused_unless_sloppy() {
        assert!(parsed(&["a", "b", "-o", "nonsense=1"]).unwrap().options().is_err());
        assert!(parsed(&["a", "b", "-s", "-o", "nonsense=1,ro"]).unwrap().options().is_ok());
    }
}
