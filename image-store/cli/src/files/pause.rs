//! Pauses a container while its files are read.

use libcontainer::{Container, Status};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

use crate::container::find::{exits_within, running};
use crate::failure::{Result, os};

/// A container that is paused until this is dropped. Meanwhile, this process is not ended by Ctrl-C and the like: nobody would resume
/// the container.
pub(super) struct Paused {
    container: Container,
    mask: SigSet,
}

impl Paused {
    /// Pauses a container; `None` if it is not running, is paused already, or cannot be paused, which a warning tells then.
    pub(super) fn begin(id: &str) -> Result<Option<Self>> {
        let Some((container, Status::Running)) = running(id) else { return Ok(None) };
        let failed = |errno: nix::errno::Errno| os(std::io::Error::from(errno), "block signals");
        let ending: SigSet =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect();
        let mut mask = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&ending), Some(&mut mask)).map_err(failed)?;
        match container.pause() {
            Ok(()) => Ok(Some(Self { container, mask })),
            Err(error) => {
                if !exits_within(&container, 0) {
                    eprintln!(
                        "knarr-image: warning: container {id} is not paused while its files are read: {error}"
                    );
                }
                let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None);
                Ok(None)
            }
        }
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        if let Err(error) = self.container.resume()
            && !exits_within(&self.container, 0)
        {
            eprintln!("knarr-image: warning: {error}: resume the container with unpause");
        }
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None);
    }
}
