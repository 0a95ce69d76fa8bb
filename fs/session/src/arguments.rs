//! Taking a request apart.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;
use zerocopy::FromBytes;

use crate::filesystem::Answer;

/// What a request carries after its header and nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Arguments<'a> {
    rest: &'a [u8],
}

/// A request that is shorter than what it is to carry: the kernel's fault or a protocol that is not known here, and an
/// error for the program rather than a guess.
fn cut_short() -> Errno {
    tracing::error!(
        "a request of the kernel's FUSE is shorter than the protocol says; it is answered with EIO"
    );
    Errno::IO
}

impl<'a> Arguments<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// The next structure.
    pub(crate) fn take<T: FromBytes>(&mut self) -> Answer<T> {
        let (value, rest) = T::read_from_prefix(self.rest).map_err(|_| cut_short())?;
        self.rest = rest;
        Ok(value)
    }

    /// The next name: what comes before the next NUL.
    pub(crate) fn name(&mut self) -> Answer<&'a OsStr> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or_else(cut_short)?;
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        Ok(OsStr::from_bytes(name))
    }

    /// The next bytes.
    pub(crate) fn bytes(&mut self, length: u32) -> Answer<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| cut_short())?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::wire::{ForgetOne, MkdirIn};

    #[test]
    fn structure_then_names() {
        let mut bytes = MkdirIn { mode: 0o755, umask: 0o22 }.as_bytes().to_vec();
        bytes.extend(b"one\0two\0");
        let mut arguments = Arguments::new(&bytes);
        assert_eq!(arguments.take::<MkdirIn>().unwrap().mode, 0o755);
        assert_eq!(arguments.name().unwrap(), "one");
        assert_eq!(arguments.name().unwrap(), "two");
        assert_eq!(arguments.name(), Err(Errno::IO));
    }

    #[test]
    fn cut_short_is_an_error() {
        assert!(Arguments::new(&[0; 15]).take::<ForgetOne>().is_err());
        assert!(Arguments::new(&[0; 3]).bytes(4).is_err());
        assert!(Arguments::new(b"no end").name().is_err());
    }
}
