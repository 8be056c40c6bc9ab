//! Pulling images: documents by name or digest, and blobs; interrupted downloads are resumed.

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

/// Largest number of times that a download is resumed without receiving any data.
const MAX_RESUMES: u32 = 5;

/// An image in a registry, and the [`Source`] of its blobs.
#[derive(Debug)]
pub struct RemoteImage<'c> {
    client: &'c Client,
    access: Access,
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// The contents of that document.
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
        Access { reference: reference.clone(), endpoint, scope, others: false }
    }

    /// Finds an image, first in the registry's mirrors, then in the registry itself.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such image, [`ErrorKind::Denied`] if credentials are missing or refused,
    /// [`ErrorKind::Network`] if the registry cannot be reached or fails, [`ErrorKind::Mismatch`] if the digest differs.
    pub fn find(&self, reference: &Reference) -> Result<RemoteImage<'_>> {
        let mut failure = None;
        let endpoints = self.options.hosts.endpoints(reference)?;
        let last = endpoints.len().saturating_sub(1);
        for (at, endpoint) in endpoints.into_iter().enumerate() {
            let access = self.access(reference, endpoint, "pull");
            match self.find_at(Access { others: at < last, ..access }) {
                Ok(image) => return Ok(image),
                // The registry itself comes last: its error is reported.
                Err(error) => failure = Some(error),
            }
        }
        let error = failure
            .unwrap_or_else(|| Error::not_found("no registry configured for short names: give HOST/NAME"));
        Err(error.context(reference.familiar()))
    }

    fn find_at(&self, access: Access) -> Result<RemoteImage<'_>> {
        let (descriptor, bytes) =
            self.document(&access, access.reference.target(), access.reference.digest())?;
        // The blobs are taken from where the manifest was found.
        let access = Access { others: false, ..access };
        Ok(RemoteImage { client: self, access, descriptor, bytes })
    }

    /// Fetches a manifest or index and verifies its digest.
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
            return Err(Error::mismatch(format!(
                "manifest {target}: digest mismatch: content has {found}, expected {expected}"
            )));
        }
        let document = Document::parse(&bytes, &media_type)?;
        let descriptor = Descriptor::new(document.media_type(), found, bytes.len() as u64);
        Ok((descriptor, bytes))
    }
}

impl RemoteImage<'_> {
    /// The host of the registry or mirror that has the image.
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

/// A download of a blob, resumed if the connection breaks.
struct Download<'a> {
    image: &'a RemoteImage<'a>,
    descriptor: Descriptor,
    at: u64,
    body: Option<Box<dyn Read + Send>>,
    /// How often it was resumed without receiving any data since.
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
            // Non-distributable layers have other URLs.
            Err(error) if error.kind() == ErrorKind::NotFound && descriptor.is_foreign() => {
                self.foreign(&place, error)?
            }
            other => other?,
        };
        let wrong = |why: String| Error::mismatch(format!("blob {}: {why}", descriptor.digest));
        if answer.status == 206 && *at > 0 {
            let range = answer.header("content-range").unwrap_or_default();
            if !range.starts_with(&format!("bytes {at}-")) {
                return Err(wrong(format!("requested a range from byte {at}, got {range:?}")));
            }
            return Ok(answer.into_reader());
        }
        let length = answer.header("content-length").and_then(|length| length.parse::<u64>().ok());
        if let Some(length) = length.filter(|length| *length != descriptor.size) {
            return Err(wrong(format!("size mismatch: {length} bytes, expected {}", descriptor.size)));
        }
        // A registry without support for ranges starts again: skip what was received already.
        let mut body = answer.into_reader();
        let skipped = io::copy(&mut (&mut body).take(*at), &mut io::sink())?;
        if skipped < *at {
            return Err(Error::new(
                ErrorKind::Network,
                format!("blob {}: connection lost again", descriptor.digest),
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
                // The caller verifies the size.
                Ok(count) if count > 0 => {
                    self.at += count as u64;
                    self.idle = 0;
                    return Ok(count);
                }
                Ok(_) if self.at >= self.descriptor.size => return Ok(0),
                Err(error) if self.idle >= MAX_RESUMES => {
                    let blob = &self.descriptor.digest;
                    return Err(Error::from(error).context(format!("blob {blob}")).into());
                }
                Ok(_) if self.idle >= MAX_RESUMES => return Ok(0),
                _ => {
                    self.body = None;
                    self.idle += 1;
                    std::thread::sleep(self.image.client.options.pause);
                }
            }
        }
    }
}
