//! Getting images: documents by name or digest, blobs with downloads that go on where they broke off.

use std::io::{self, Read};

use ureq::http::Method;

use super::client::{Access, Call, Client};
use super::place::Place;
use super::transport::Answer;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Descriptor, Document, INDEX_LIMIT, is_document, media};
use crate::reference::Reference;
use crate::store::Source;

/// How often a download that brings nothing new is taken up again.
const RESUMES: u32 = 5;

/// An image at a registry: a [`Source`] of its blobs.
#[derive(Debug)]
pub struct RemoteImage<'c> {
    client: &'c Client,
    access: Access,
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// The bytes of that.
    pub bytes: Vec<u8>,
}

fn accept() -> String {
    [media::OCI_INDEX, media::OCI_MANIFEST, media::DOCKER_LIST, media::DOCKER_MANIFEST].join(", ")
}

impl Client {
    pub(super) fn access(
        &self,
        reference: &Reference,
        endpoint: super::hosts::Endpoint,
        actions: &str,
    ) -> Access {
        if let Some(host) = &endpoint.more {
            self.transport.trust(&endpoint.host, &host.authorities, host.client.as_ref());
        }
        let scope = format!("repository:{}:{actions}", endpoint.repository);
        Access { reference: reference.clone(), endpoint, scope }
    }

    /// Finds an image: at the registry's mirrors first, then at itself.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Denied`], [`ErrorKind::Network`]; [`ErrorKind::Mismatch`] when what comes is not
    /// what the digest in the name says.
    pub fn find(&self, reference: &Reference) -> Result<RemoteImage<'_>> {
        let mut failure = None;
        for endpoint in self.options.hosts.endpoints(reference)? {
            match self.find_at(self.access(reference, endpoint, "pull")) {
                Ok(image) => return Ok(image),
                // The registry itself comes last: what it says counts.
                Err(error) => failure = Some(error),
            }
        }
        let error = failure.unwrap_or_else(|| Error::not_found("there is nowhere to ask"));
        Err(error.context(reference.familiar()))
    }

    fn find_at(&self, access: Access) -> Result<RemoteImage<'_>> {
        let (descriptor, bytes) =
            self.document(&access, access.reference.target(), access.reference.digest())?;
        Ok(RemoteImage { client: self, access, descriptor, bytes })
    }

    /// A manifest or index, hashed as it came.
    fn document(
        &self,
        access: &Access,
        target: &str,
        digest: Option<&Digest>,
    ) -> Result<(Descriptor, Vec<u8>)> {
        let place = self.place(access, &format!("{}/manifests/{target}", access.endpoint.repository))?;
        let call = Call::new(Method::GET, place).header("accept", accept());
        let (answer, _) = self.send(access, &call, &[])?;
        let media_type = answer.header("content-type").unwrap_or_default().to_owned();
        let announced = answer.header("docker-content-digest").and_then(|text| Digest::parse(text).ok());
        let bytes = answer.into_bytes(INDEX_LIMIT, "manifest")?;
        let expected = digest.or(announced.as_ref());
        let mut hasher = Hasher::new(expected.map_or(crate::digest::Algorithm::Sha256, Digest::algorithm));
        hasher.update(&bytes);
        let found = hasher.finish();
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(Error::mismatch(format!("manifest {target}: hashes to {found}, not to {expected}")));
        }
        let document = Document::parse(&bytes, &media_type)?;
        let descriptor = Descriptor::new(document.media_type(), found, bytes.len() as u64);
        Ok((descriptor, bytes))
    }
}

impl RemoteImage<'_> {
    /// The registry it was found at.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.access.endpoint.host
    }
}

impl Source for RemoteImage<'_> {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        if descriptor.digest == self.descriptor.digest {
            return Ok(Box::new(self.bytes.as_slice()));
        }
        if is_document(&descriptor.media_type) {
            let digest = &descriptor.digest;
            let (_, bytes) = self.client.document(&self.access, digest.as_str(), Some(digest))?;
            return Ok(Box::new(io::Cursor::new(bytes)));
        }
        let download = Download { image: self, descriptor: descriptor.clone(), at: 0, body: None, idle: 0 };
        Ok(Box::new(download))
    }
}

/// A blob on its way. When the connection breaks it is taken up at the same byte.
struct Download<'a> {
    image: &'a RemoteImage<'a>,
    descriptor: Descriptor,
    at: u64,
    body: Option<Box<dyn Read + Send>>,
    /// Times it was taken up without a byte having come since.
    idle: u32,
}

impl Download<'_> {
    fn connect(&self) -> Result<Box<dyn Read + Send>> {
        let Self { image, descriptor, at, .. } = self;
        let client = image.client;
        let path = format!("{}/blobs/{}", image.access.endpoint.repository, descriptor.digest);
        let place = client.place(&image.access, &path)?;
        let mut call = Call::new(Method::GET, place.clone());
        if *at > 0 {
            call = call.header("range", format!("bytes={at}-"));
        }
        let (answer, _) = match client.send(&image.access, &call, &[]) {
            // Layers that may not be redistributed are elsewhere.
            Err(error) if error.kind() == ErrorKind::NotFound && descriptor.is_foreign() => {
                self.foreign(&place, error)?
            }
            other => other?,
        };
        let wrong = |why: String| Error::mismatch(format!("blob {}: {why}", descriptor.digest));
        if answer.status == 206 && *at > 0 {
            let range = answer.header("content-range").unwrap_or_default();
            if !range.starts_with(&format!("bytes {at}-")) {
                return Err(wrong(format!("asked to go on at byte {at}, got {range:?}")));
            }
            return Ok(answer.into_reader());
        }
        let length = answer.header("content-length").and_then(|length| length.parse::<u64>().ok());
        if let Some(length) = length.filter(|length| *length != descriptor.size) {
            return Err(wrong(format!("has {length} bytes, its descriptor says {}", descriptor.size)));
        }
        // A registry without ranges starts again: what is known already is passed over.
        let mut body = answer.into_reader();
        let skipped = io::copy(&mut (&mut body).take(*at), &mut io::sink())?;
        if skipped < *at {
            return Err(Error::new(
                ErrorKind::Network,
                format!("blob {}: broke off again", descriptor.digest),
            ));
        }
        Ok(body)
    }

    fn foreign(&self, registry: &Place, missing: Error) -> Result<(Answer, Place)> {
        let RemoteImage { client, access, .. } = self.image;
        let urls = self.descriptor.urls.as_deref().unwrap_or_default();
        for place in urls.iter().filter_map(|url| registry.of_manifest(url).ok()) {
            if let Ok(found) = client.send(access, &Call::new(Method::GET, place), &[]) {
                return Ok(found);
            }
        }
        Err(missing)
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.at >= self.descriptor.size && self.body.is_none() {
                return Ok(0);
            }
            let body = match &mut self.body {
                Some(body) => body,
                None => self.body.insert(self.connect()?),
            };
            match body.read(buffer) {
                // More than was promised is for the one who verifies to see.
                Ok(count) if count > 0 => {
                    self.at += count as u64;
                    self.idle = 0;
                    return Ok(count);
                }
                Ok(_) if self.at >= self.descriptor.size => return Ok(0),
                Err(error) if self.idle >= RESUMES => return Err(error),
                Ok(_) if self.idle >= RESUMES => return Ok(0),
                _ => {
                    self.body = None;
                    self.idle += 1;
                    std::thread::sleep(self.image.client.options.pause);
                }
            }
        }
    }
}
