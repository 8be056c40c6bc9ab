//! The `knarr` command.
fn main() {}
