//! The tar reader and the paths of layers: no panic, no path outside the root, and writing and reading again gives the same.

use image_store::layer::change::{Change, change};
use image_store::tar::{BLOCK, Reader, Writer, header::Header};

/// Tests one input.
pub(crate) fn run(input: &[u8]) {
    // Correct the checksums, or nearly all inputs would be refused.
    let mut bytes = input.to_vec();
    for block in bytes.chunks_exact_mut(BLOCK) {
        if block[156..].first().is_some_and(|flag| b"0123567xLKSg".contains(flag)) {
            let mut header = Header(block.try_into().unwrap());
            header.seal();
            block.copy_from_slice(&header.0);
        }
    }
    let mut reader = Reader::new(bytes.as_slice());
    while let Ok(Some(entry)) = reader.next_entry() {
        if let Ok(Change::Make(path) | Change::Whiteout(path) | Change::Opaque(path)) = change(&entry.path) {
            assert!(!path.starts_with(b"/") && !path.split(|b| *b == b'/').any(|c| c == b".." || c == b"."));
        }
        let mut read = 0;
        if reader
            .data(|piece| {
                read += piece.len() as u64;
                Ok(())
            })
            .is_err()
        {
            return;
        }
        if entry.sparse.is_none() {
            assert_eq!(read, entry.size);
            let mut entry = entry;
            entry.size = 0;
            let mut writer = Writer::new(Vec::new());
            if writer.entry(&entry).is_ok() {
                let written = writer.finish().unwrap();
                let again = Reader::new(written.as_slice()).next_entry().unwrap().unwrap();
                let slash = entry.kind == image_store::tar::Kind::Directory;
                assert_eq!(
                    again
                        .path
                        .strip_suffix(b"/")
                        .filter(|_| slash && !entry.path.ends_with(b"/"))
                        .unwrap_or(&again.path),
                    entry.path
                );
                assert_eq!(
                    (again.uid, again.gid, again.mtime, again.mode),
                    (entry.uid, entry.gid, entry.mtime, entry.mode)
                );
            }
        }
    }
}
