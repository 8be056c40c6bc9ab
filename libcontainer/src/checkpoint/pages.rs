//! Are the pages there that the maps of them speak of? CRIU reads beyond the end of a file that is too short for ever, and logs that.
//!
//! Of CRIU's images only these are looked into, and nothing of them is used.

use super::images::ImageDir;
use crate::error::{Error, ErrorKind, Result};
use prost::Message;
use std::io::{BufReader, Read};

/// The first word of most images since CRIU 1.1, and the second ones of two (criu/include/magic.h).
const COMMON: u32 = 0x5456_4319;
const PAGEMAP: u32 = 0x5608_4025;
const PSTREE: u32 = 0x5027_3030;
/// The pages of this entry are in the file: not in the parent's, and not to be fetched.
const PRESENT: u32 = 4;
/// An entry is some thirty bytes, and one of a process with a hundred thousand threads is larger than most.
const LONGEST: u32 = 1 << 20;
/// `pstree_entry` of criu/images/pstree.proto.
#[derive(Clone, Copy, PartialEq, Message)]
struct Process {
    #[prost(uint32, required, tag = "1")]
    pid: u32,
}

/// `pagemap_head` of criu/images/pagemap.proto.
#[derive(Clone, Copy, PartialEq, Message)]
struct Head {
    #[prost(uint32, required, tag = "1")]
    pages: u32,
}

/// `pagemap_entry`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Entry {
    /// As it was until CRIU 4.
    #[prost(uint32, required, tag = "2")]
    count: u32,
    #[prost(bool, optional, tag = "3")]
    in_parent: Option<bool>,
    #[prost(uint32, optional, tag = "4")]
    flags: Option<u32>,
    #[prost(uint64, optional, tag = "5")]
    long_count: Option<u64>,
}

impl Entry {
    fn pages(&self) -> u64 {
        let present = match self.flags {
            Some(flags) => flags & PRESENT != 0,
            None => self.in_parent != Some(true),
        };
        if present { self.long_count.unwrap_or(u64::from(self.count)) } else { 0 }
    }
}

/// Refuses a checkpoint with fewer pages than it needs. Pages of an earlier one in the same directory do not count.
pub(super) fn check(images: &ImageDir, page_size: u64) -> Result<()> {
    const TREE: &str = "pstree.img";
    read(TREE, images.open_file(TREE)?, PSTREE, &mut |entry| {
        let name = format!("pagemap-{}.img", decode::<Process>(TREE, entry)?.pid);
        match images.open_file(&name) {
            // One that has ended, and is only to be waited for, has none.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => check_map(images, page_size, &name, other?),
        }
    })
}

/// The pages of one process.
fn check_map(images: &ImageDir, page_size: u64, name: &str, map: impl Read) -> Result<()> {
    let damaged = |what: String| Error::invalid(format!("checkpoint: {name}: {what}"));
    let (mut head, mut wanted) = (None, 0_u64);
    read(name, map, PAGEMAP, &mut |entry| {
        if head.is_none() {
            head = Some(decode::<Head>(name, entry)?.pages);
            return Ok(());
        }
        let bytes = decode::<Entry>(name, entry)?.pages().checked_mul(page_size);
        wanted =
            bytes.and_then(|n| n.checked_add(wanted)).ok_or_else(|| damaged("too many pages".to_owned()))?;
        Ok(())
    })?;
    let pages = format!("pages-{}.img", head.ok_or_else(|| damaged("is empty".to_owned()))?);
    let length = match images.open_file(&pages) {
        Ok(file) => file.metadata().map_or(0, |meta| meta.len()),
        Err(_) if wanted == 0 => 0,
        Err(e) => return Err(e),
    };
    if length < wanted {
        return Err(damaged(format!("{pages} has {length} bytes instead of {wanted}")));
    }
    Ok(())
}

fn decode<M: Message + Default>(name: &str, entry: &[u8]) -> Result<M> {
    M::decode(entry).map_err(|e| Error::invalid(format!("checkpoint: {name}: {e}")))
}

/// Hands on the entries of an image, a length and a message each, one after the other.
fn read(name: &str, file: impl Read, magic: u32, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let damaged = |e: std::io::Error| Error::invalid(format!("checkpoint: {name}: {e}"));
    let mut file = BufReader::new(file);
    let mut magics = || Ok((word(&mut file)?, word(&mut file)?));
    if magics().map_err(damaged)? != (Some(COMMON), Some(magic)) {
        return Err(Error::invalid(format!("checkpoint: {name}: not an image of this kind")));
    }
    let mut entry = Vec::new();
    while let Some(length) = word(&mut file).map_err(damaged)? {
        if length > LONGEST {
            return Err(Error::invalid(format!("checkpoint: {name}: entry too large ({length} bytes)")));
        }
        entry.resize(length as usize, 0);
        file.read_exact(&mut entry).map_err(damaged)?;
        each(&entry)?;
    }
    Ok(())
}

/// A number of four bytes; `None` at the end of the file.
fn word(file: &mut (impl Read + ?Sized)) -> std::io::Result<Option<u32>> {
    let mut bytes = [0u8; 4];
    if file.read(bytes.get_mut(..1).unwrap_or_default())? == 0 {
        return Ok(None);
    }
    file.read_exact(bytes.get_mut(1..).unwrap_or_default())?;
    Ok(Some(u32::from_le_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = [COMMON.to_le_bytes(), PAGEMAP.to_le_bytes()].concat();
        for entry in entries {
            bytes.extend(u32::try_from(entry.len()).unwrap().to_le_bytes());
            bytes.extend(entry);
        }
        bytes
    }

    #[test]
    fn pages_are_counted_as_old_and_new_criu_write_them() {
        let entry = |count, in_parent, flags, long_count| {
            Entry { count, in_parent, flags, long_count }.encode_to_vec()
        };
        let list = [
            Head { pages: 7 }.encode_to_vec(),
            entry(2, None, None, None),
            entry(3, Some(true), None, None),
            entry(0, None, Some(4), Some(5)),
            entry(0, None, Some(2), Some(100)),
        ];
        let whole = image(&list);
        let counted = |bytes: &[u8], magic: u32| {
            let mut counts = Vec::new();
            read("x", bytes, magic, &mut |entry| {
                counts.push(match counts.len() {
                    0 => decode::<Head>("x", entry)?.pages.into(),
                    _ => decode::<Entry>("x", entry)?.pages(),
                });
                Ok(())
            })
            .map(|()| counts)
        };
        assert_eq!(counted(&whole, PAGEMAP).unwrap(), [7, 2, 0, 5, 0]);
        for end in [0, 3, 7, whole.len() - 1] {
            assert!(counted(&whole[..end], PAGEMAP).is_err(), "{end}");
        }
        assert!(counted(&whole, PSTREE).is_err());
        let mut long = image(&list[..1]);
        long.extend([255; 4]);
        assert!(counted(&long, PAGEMAP).is_err());
        assert!(counted(&image(&[list[0].clone(), vec![255]]), PAGEMAP).is_err());
    }
}
