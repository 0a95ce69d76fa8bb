//! What a device spec means.

use std::path::Path;

use engine_block::OpenError;
use rustix::fs::FileType;

/// A device spec, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spec<'a> {
    /// An image file or a block device, read through the kernel.
    Path(&'a Path),
    /// An image file or block device behind an NVMe controller in this process.
    Soft(&'a Path),
    /// An NVMe controller in another process, by the socket that it serves (or the directory of that socket).
    VfioUser(&'a Path),
}

impl<'a> Spec<'a> {
    /// Understands a spec. A path that looks like something else can be written with a slash: `./soft:x`.
    ///
    /// # Errors
    /// Where it is empty or names a transport that this build does not have.
    pub(crate) fn parse(spec: &'a str) -> Result<Self, OpenError> {
        if spec.is_empty() {
            return Err(OpenError::Spec(
                "cannot open a device without a name: give the path of an image file or block device".into(),
            ));
        }
        if let Some(path) = spec.strip_prefix("soft:") {
            return named(spec, path, "soft:disk.img").map(Self::Soft);
        }
        if let Some(path) = spec.strip_prefix("vfio-user:") {
            return named(spec, path, "vfio-user:/run/x.sock").map(Self::VfioUser);
        }
        if is_pci_address(spec) {
            return Err(OpenError::Spec(format!(
                "cannot open {spec}: this build has no transport for PCI devices (VFIO comes later); name an image file \
                 or a block device (a file of this very name as ./{spec})"
            )));
        }
        Ok(Self::Path(Path::new(spec)))
    }
}

/// The path behind the name of a transport.
fn named<'a>(spec: &str, path: &'a str, example: &str) -> Result<&'a Path, OpenError> {
    if path.is_empty() {
        return Err(OpenError::Spec(format!("cannot open {spec}: a path is missing, as in {example}")));
    }
    Ok(Path::new(path))
}

/// `0000:3d:00.0`, or `3d:00.0` as lspci shortens it.
fn is_pci_address(spec: &str) -> bool {
    let is_hex =
        |part: &str, digits: usize| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut parts = spec.rsplitn(3, ':');
    let (Some(device), Some(bus)) = (parts.next(), parts.next()) else { return false };
    let domain_fits =
        parts.next().is_none_or(|domain| (4..=8).contains(&domain.len()) && is_hex(domain, domain.len()));
    let device_fits =
        device.split_once('.').is_some_and(|(slot, function)| is_hex(slot, 2) && is_hex(function, 1));
    domain_fits && is_hex(bus, 2) && device_fits
}

/// A file type with its article.
pub(crate) fn in_words(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "of an unknown type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spec_of_a_transport_not_built_or_without_a_path_is_refused_by_name() {
        for spec in ["soft:", "vfio-user:", "0000:3d:00.0", "3d:00.0", "10000:ff:1f.7", ""] {
            let refused = Spec::parse(spec).unwrap_err().to_string();
            assert!(refused.contains(spec), "{refused}");
        }
    }

    #[test]
    fn spec_that_is_a_path_is_taken_as_one() {
        for spec in [
            "disk.img",
            "/dev/vdb",
            "./soft:disk.img",
            "a:b",
            "0000:3d:00",
            "x000:3d:00.0",
            "/dev/pci:3d:00.0",
        ] {
            assert_eq!(Spec::parse(spec).unwrap(), Spec::Path(Path::new(spec)), "{spec}");
        }
    }

    #[test]
    fn spec_of_a_controller_names_its_path() {
        let socket = Spec::parse("vfio-user:/run/x.sock").unwrap();
        assert_eq!(socket, Spec::VfioUser(Path::new("/run/x.sock")));
        assert_eq!(Spec::parse("soft:a:b.img").unwrap(), Spec::Soft(Path::new("a:b.img")));
    }
}
