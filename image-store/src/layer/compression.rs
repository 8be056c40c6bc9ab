//! Compression of layers: detected by the first bytes, decoded as a stream, encoded reproducibly (`encoder`).
//!
//! eStargz (gzip with many members) and zstd:chunked (zstd with skippable frames) need no special treatment. The media type
//! is checked, not trusted.

use std::io::{self, BufRead, Read, Write};

use crate::error::{Error, Result};

/// Largest window of a zstd frame, as a power of two: 128 MiB, as in zstd(1).
const ZSTD_WINDOW_LOG: u32 = 27;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Uncompressed.
    None,
    /// gzip (RFC 1952), with any number of members.
    Gzip,
    /// Zstandard (RFC 8878), with any number of frames.
    Zstd,
}

impl Compression {
    /// Detects the compression by the first bytes of a stream, at least four.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for bzip2 and xz, which docker-load(1) supports.
    pub fn sniff(start: &[u8]) -> Result<Self> {
        Ok(match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', ..] => {
                return Err(Error::unsupported(
                    "bzip2 compression is not supported: unpack it first (bzip2 -d)",
                ));
            }
            [0xfd, b'7', b'z', b'X', ..] => {
                return Err(Error::unsupported("xz compression is not supported: unpack it first (xz -d)"));
            }
            _ => Self::None,
        })
    }

    /// The media type of an OCI layer with this compression.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        use crate::manifest::media;
        match self {
            Self::None => media::OCI_LAYER,
            Self::Gzip => media::OCI_LAYER_GZIP,
            Self::Zstd => media::OCI_LAYER_ZSTD,
        }
    }

    /// Checks the compression of a layer against its media type. Docker's types say nothing about compression, and layers in
    /// archives have no type (empty).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if a layer is compressed but its type is a plain tar,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for encrypted layers and other types.
    pub fn check(self, media_type: &str) -> Result<()> {
        if media_type.ends_with("+encrypted") {
            return Err(Error::unsupported(format!(
                "layer: encrypted layers are not supported ({media_type:?})"
            )));
        }
        let claimed = match media_type {
            "" => return Ok(()),
            t if t.starts_with("application/vnd.docker.image.rootfs.") => return Ok(()),
            t if !t.starts_with("application/vnd.oci.image.layer.") => {
                return Err(Error::unsupported(format!("layer: media type {media_type:?} is not supported")));
            }
            t if t.ends_with("+gzip") => Self::Gzip,
            t if t.ends_with("+zstd") => Self::Zstd,
            t if t.ends_with(".tar") => Self::None,
            _ => return Ok(()),
        };
        if claimed != self && claimed == Self::None {
            return Err(Error::invalid(format!(
                "layer: compressed with {self:?}, but its media type is {media_type:?}"
            )));
        }
        Ok(())
    }

    /// A reader of the uncompressed bytes.
    ///
    /// # Errors
    /// Those of the zstd library if it cannot allocate memory.
    pub fn decoder<'a, R: BufRead + 'a>(self, input: R) -> Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(input),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }

    /// The bytes as one gzip member or zstd frame.
    pub(super) fn compress(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(bytes.to_vec()),
            Self::Gzip => {
                // No name, no time, operating system "unknown": nothing that depends on this machine.
                let builder = flate2::GzBuilder::new().mtime(0).operating_system(255);
                let mut encoder = builder.write(Vec::new(), flate2::Compression::new(6));
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(bytes, 3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(compression: Compression, parts: &[&[u8]], after: &[u8]) -> Result<Vec<u8>> {
        let mut stream = Vec::new();
        for part in parts {
            stream.extend(compression.compress(part)?);
        }
        stream.extend_from_slice(after);
        assert_eq!(Compression::sniff(&stream)?, compression);
        let mut out = Vec::new();
        compression.decoder(stream.as_slice())?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn many_members_and_frames_are_one_stream() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            assert_eq!(round(compression, &[b"abc", b"", b"def"], b"").unwrap(), b"abcdef");
        }
        let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0xyz";
        assert_eq!(round(Compression::Zstd, &[b"abc"], skippable).unwrap(), b"abc");
        assert_eq!(Compression::sniff(skippable).unwrap(), Compression::Zstd);
    }

    #[test]
    fn bytes_after_a_stream_and_streams_cut_short_are_refused() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            assert!(round(compression, &[b"abc"], b"trailing garbage").is_err(), "{compression:?}");
            let stream = compression.compress(&[7; 1000]).unwrap();
            let mut out = Vec::new();
            let cut = &stream[..stream.len() - 3];
            assert!(compression.decoder(cut).unwrap().read_to_end(&mut out).is_err(), "{compression:?}");
        }
    }

    #[test]
    fn a_compressed_layer_with_the_type_of_a_plain_tar_is_refused() {
        use crate::manifest::media;
        assert!(Compression::Gzip.check(media::OCI_LAYER).is_err());
        assert!(Compression::Gzip.check(media::OCI_LAYER_GZIP).is_ok());
        assert!(Compression::None.check(media::DOCKER_LAYER_GZIP).is_ok());
        assert!(Compression::Gzip.check("application/vnd.cncf.helm.chart.content.v1.tar+gzip").is_err());
        assert!(Compression::Gzip.check("application/vnd.oci.image.layer.v1.tar+gzip+encrypted").is_err());
    }
}
