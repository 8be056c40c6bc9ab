//! Names, digests, platforms, times, instructions: no panic, and printing and parsing again gives the same value.

use image_store::{Digest, Reference, dockerfile, platform::Platform, time::parse_rfc3339};

/// Tests one input.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(reference) = Reference::parse(text) {
        assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
        assert_eq!(Reference::parse(&reference.familiar()).unwrap(), reference);
    }
    if let Ok(digest) = Digest::parse(text) {
        assert_eq!(digest.as_str(), text);
    }
    if let Ok(platform) = Platform::parse(text) {
        assert_eq!(platform.rank(&platform), Some(0));
        assert_eq!(Platform::parse(&platform.to_string()).unwrap(), platform);
    }
    let _ = dockerfile::parse(text);
    let _ = parse_rfc3339(text);
}
