//! The homifs command.
fn main() {}
