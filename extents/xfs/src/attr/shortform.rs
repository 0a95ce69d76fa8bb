//! Attributes within their inode (`xfs_attr_sf_hdr`, `xfs_attr_sf_entry`).

use extents_core::{Error, Result};

use crate::attr::{AttrFlags, Attribute, Value};

const STRUCTURE: &str = "short attribute list";

/// The attributes in a local fork, in the order in which they are stored.
pub(super) fn attributes(fork: &[u8]) -> Result<impl Iterator<Item = Result<Attribute<'_>>>> {
    let Some((&[high, low, count, _], _)) = fork.split_first_chunk::<4>() else {
        return Err(bad("too short"));
    };
    let total = usize::from(u16::from_be_bytes([high, low]));
    let mut rest = fork.get(4..total).ok_or_else(|| bad("its size is not that of the fork"))?;
    let mut left = count;
    Ok(std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let split = split_attribute(rest);
        if let Some((_, behind)) = split {
            rest = behind;
        } else {
            left = 0;
        }
        Some(split.map(|(attribute, _)| attribute).ok_or_else(|| bad("an attribute is cut off")))
    }))
}

fn split_attribute(bytes: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let (&[name, value, flags], rest) = bytes.split_first_chunk::<3>()?;
    let (name, rest) = rest.split_at_checked(usize::from(name))?;
    let (value, rest) = rest.split_at_checked(usize::from(value))?;
    Some((Attribute { flags: AttrFlags::from_bits_retain(flags), name, value: Value::Here(value) }, rest))
}

#[cold]
fn bad(problem: &'static str) -> Error {
    Error::corrupt(STRUCTURE, problem)
}
