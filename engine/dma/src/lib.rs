//! Placeholder while the rooms are laid.
/// A buffer.
#[derive(Debug)]
pub struct Buffer(pub Vec<u8>);
