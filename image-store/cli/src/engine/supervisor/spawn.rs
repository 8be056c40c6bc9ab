//! Starts supervisors.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use image_store::Store;

use crate::caller;
use crate::engine::frames::{ExecRequest, Frame};
use crate::failure::{Result, invalid, os};

/// Starts a supervisor for a container, or for a further process in it, and returns the connection to it.
pub(crate) fn spawn(store: &Store, id: &str, request: Option<&ExecRequest>) -> Result<UnixStream> {
    let failed = |e: std::io::Error| os(e, "start the container's supervisor");
    let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut command = caller::own_program();
    command.args(["--root".as_ref(), store.root().as_os_str(), "supervise".as_ref(), id.as_ref()]);
    command.args(request.map(|_| "exec"));
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(failed)?;
    if let Some(request) = request {
        let mut bytes = Vec::new();
        Frame::Input(serde_json::to_vec(request).map_err(|e| invalid(e.to_string()))?).encode(&mut bytes);
        std::io::Write::write_all(&mut ours, &bytes).map_err(failed)?;
    }
    Ok(ours)
}
