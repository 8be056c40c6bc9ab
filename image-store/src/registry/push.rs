//! Pushing images: blobs that the registry does not have, then the manifest.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};

use ureq::http::Method;

use super::client::{Access, Call, Client};
use super::place::Place;
use super::transport::{Answer, Payload};
use crate::digest::VerifyingReader;
use crate::error::{Doing, Error, ErrorKind, Result};
use crate::manifest::{Descriptor, MANIFEST_LIMIT};
use crate::reference::Reference;
use crate::store::{Outbox, Progress, Record, Step, Store, read_document};

/// Largest number of failures in a row before a chunked upload fails.
const MAX_RESUMES: u32 = 5;

/// How a blob was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upload {
    /// The repository already had it.
    Exists,
    /// It was mounted from another repository of the registry.
    Mounted,
    /// It was uploaded.
    Sent,
}

impl Client {
    /// Pushes an image of the store to `target`; returns the manifest that the registry has then. It is another than in the store if
    /// layers were compressed: see [`ClientOptions::compression`](super::ClientOptions::compression).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the store does not have a layer's blob ([`StoreOptions::keep_blobs`]),
    /// [`ErrorKind::Denied`] if credentials are missing or refused, [`ErrorKind::Network`] if the registry cannot be reached
    /// or fails.
    ///
    /// [`StoreOptions::keep_blobs`]: crate::StoreOptions::keep_blobs
    pub fn push(
        &self,
        store: &Store,
        record: &Record,
        target: &Reference,
        progress: &dyn Progress,
    ) -> Result<Descriptor> {
        let endpoint = self.options.hosts.origin(target)?;
        let access = self.access(target, endpoint, "pull,push");
        let mut outbox = Outbox::new(store, self.options.compression);
        let (descriptor, manifest) = outbox.add(record, &|blob| self.has(&access, blob))?;
        let others = self.others(store, target)?;
        let mut done = Vec::new();
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if blob.is_foreign() || done.contains(&&blob.digest) {
                continue;
            }
            if outbox.is_received(&blob.digest) {
                progress.step(blob, Step::Exists);
                continue;
            }
            progress.step(blob, Step::Started);
            // A layer that was compressed now was probably pushed in the same form.
            let stored = outbox.original(&blob.digest);
            let from =
                others.iter().find(|(_, digests)| digests.contains(stored)).map(|(path, _)| path.as_str());
            let upload = self
                .blob(&outbox, &access, blob, from, progress)
                .doing(|| format!("push {}", blob.digest))?;
            progress.step(blob, if upload == Upload::Sent { Step::Done } else { Step::Exists });
            done.push(&blob.digest);
        }
        let bytes = read_document(outbox.open(&descriptor.digest)?, &descriptor, MANIFEST_LIMIT)?;
        let name = target.tag().map_or_else(|| descriptor.digest.to_string(), str::to_owned);
        let place = self.place(&access, &format!("{}/manifests/{name}", access.endpoint.repository))?;
        let call = Call::new(Method::PUT, place).header("content-type", descriptor.media_type.clone());
        let (answer, _) = self.send(&access, &call.payload(Payload::Bytes(&bytes)), &[])?;
        let said = answer.header("docker-content-digest").filter(|digest| !digest.is_empty());
        if let Some(said) = said.filter(|digest| *digest != descriptor.digest.as_str()) {
            let message = format!("push {}: digest mismatch: the registry reports {said}", descriptor.digest);
            return Err(Error::mismatch(message));
        }
        Ok(descriptor)
    }

    /// Other repositories of the registry that images of the store came from, with their blobs: candidates to mount from.
    fn others(&self, store: &Store, target: &Reference) -> Result<Vec<(String, Vec<crate::digest::Digest>)>> {
        let mut others = Vec::new();
        for record in store.images()? {
            let Some(name) = record.reference() else { continue };
            if name.domain() == target.domain() && name.path() != target.path() {
                others.push((name.path().to_owned(), record.blobs));
            }
        }
        Ok(others)
    }

    /// Whether the repository has a blob.
    fn has(&self, access: &Access, blob: &Descriptor) -> Result<bool> {
        let place = self.place(access, &format!("{}/blobs/{}", access.endpoint.repository, blob.digest))?;
        Ok(self.send(access, &Call::new(Method::HEAD, place), &[404])?.0.status == 200)
    }

    fn blob(
        &self,
        outbox: &Outbox<'_>,
        access: &Access,
        blob: &Descriptor,
        from: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<Upload> {
        if self.has(access, blob)? {
            return Ok(Upload::Exists);
        }
        let Some(session) = self.begin(access, blob, from)? else {
            return Ok(Upload::Mounted);
        };
        let file = outbox.open(&blob.digest)?;
        match self.options.chunk {
            Some(size) => self.upload_chunked(access, blob, &file, session, size, progress)?,
            None => self.upload_whole(access, blob, &file, session, progress)?,
        }
        Ok(Upload::Sent)
    }

    /// Opens an upload session; `None` if the registry mounted the blob `from` another of its repositories instead.
    fn begin(&self, access: &Access, blob: &Descriptor, from: Option<&str>) -> Result<Option<Place>> {
        let start = self.place(access, &format!("{}/blobs/uploads/", access.endpoint.repository))?;
        if let Some(from) = from {
            let place = start.with_query("mount", blob.digest.as_str()).with_query("from", from);
            let scope = format!("{} repository:{from}:pull", access.scope);
            let call = Call::new(Method::POST, place).once();
            // Registries that do not mount it answer with a session, with any error, or with something else. What prevents an
            // upload, too, is the error of the request for one.
            if let Ok((answer, place)) = self.send(&Access { scope, ..access.clone() }, &call, &[]) {
                match (answer.status, location(&answer, &place)) {
                    (201, _) => return Ok(None),
                    (202, Ok(session)) => return Ok(Some(session)),
                    _ => {}
                }
            }
        }
        let (answer, place) = self.send(access, &Call::new(Method::POST, start), &[])?;
        location(&answer, &place).map(Some)
    }

    fn upload_whole(
        &self,
        access: &Access,
        blob: &Descriptor,
        file: &File,
        session: Place,
        progress: &dyn Progress,
    ) -> Result<()> {
        let open = || -> Result<Box<dyn Read + '_>> {
            let mut file = file.try_clone()?;
            file.seek(SeekFrom::Start(0))?;
            let counted = Counted { inner: file, seen: |count| progress.step(blob, Step::Advanced(count)) };
            Ok(Box::new(VerifyingReader::new(counted, &blob.digest, blob.size)))
        };
        let place = session.with_query("digest", blob.digest.as_str());
        let call = Call::new(Method::PUT, place).header("content-type", "application/octet-stream");
        self.send(access, &call.payload(Payload::Stream(&open, blob.size)), &[])?;
        Ok(())
    }

    /// Uploads in chunks. After a failure, asks the registry how much it has received.
    fn upload_chunked(
        &self,
        access: &Access,
        blob: &Descriptor,
        file: &File,
        mut session: Place,
        size: u64,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (mut at, mut failures) = (0_u64, 0);
        while at < blob.size {
            let length = size.max(1).min(blob.size - at);
            let open = || -> Result<Box<dyn Read + '_>> {
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(at))?;
                Ok(Box::new(file.take(length)))
            };
            let call = Call::new(Method::PATCH, session.clone())
                .header("content-type", "application/octet-stream")
                .header("content-range", format!("{at}-{}", at + length - 1))
                .once();
            match self.send(access, &call.payload(Payload::Stream(&open, length)), &[416]) {
                Ok((answer, place)) if answer.status != 416 => {
                    session = location(&answer, &place)?;
                    at += length;
                    progress.step(blob, Step::Advanced(length));
                    failures = 0;
                }
                result => {
                    failures += 1;
                    if failures > MAX_RESUMES
                        || result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Denied)
                    {
                        return Err(match result {
                            Ok((answer, place)) => self.status_error(access, &Method::PATCH, &place, answer),
                            Err(error) => error,
                        });
                    }
                    std::thread::sleep(self.options.pause);
                    (session, at) = self.progress_of(access, &session)?;
                }
            }
        }
        let place = session.with_query("digest", blob.digest.as_str());
        self.send(access, &Call::new(Method::PUT, place), &[])?;
        Ok(())
    }

    /// The state of an upload: the session, and the number of bytes received. `Range: 0-N` means N+1 bytes.
    fn progress_of(&self, access: &Access, session: &Place) -> Result<(Place, u64)> {
        let (answer, place) = self.send(access, &Call::new(Method::GET, session.clone()), &[])?;
        let end = answer.header("range").and_then(|range| range.rsplit('-').next()?.parse::<u64>().ok());
        let next = location(&answer, &place).unwrap_or_else(|_| session.clone());
        // Some registries report 0-0 for both no and one byte; no byte is the safe interpretation.
        Ok((next, end.filter(|end| *end > 0).map_or(0, |end| end + 1)))
    }
}

/// The URL to continue an upload at. Registries keep state in its query.
fn location(answer: &Answer, place: &Place) -> Result<Place> {
    let location =
        answer.header("location").ok_or_else(|| Error::invalid("upload: response without Location"))?;
    place.next(location).doing(|| "upload".to_owned())
}

struct Counted<R, F> {
    inner: R,
    seen: F,
}

impl<R: Read, F: Fn(u64)> Read for Counted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        (self.seen)(count as u64);
        Ok(count)
    }
}
