//! `checkpoint`: saves a running container to an image directory, through CRIU.

use super::criu::{self, check_empty_namespaces, image_path};
use super::{Command, Context, Failure, Outcome};
use crate::setup;
use goflags::{Flag, Order, Parsed};
use libcontainer::{CgroupMode, CheckpointOptions};
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

pub(super) const COMMAND: Command = Command {
    name: "checkpoint",
    summary: "checkpoint a running container",
    usage: "<container-id>",
    about: "Saves the state of a container's processes to a directory and deletes the container. `restore` brings it back.\n\
            Requires criu(8) 3.17 or newer in PATH.",
    flags: &[
        criu::IMAGE_PATH,
        criu::WORK_PATH,
        Flag::text(&["parent-path"], "directory of an earlier pre-dump, relative to the image directory"),
        Flag::bool(&["leave-running"], "leave the container running"),
        Flag::bool(&["tcp-established"], "allow open TCP connections"),
        Flag::bool(&["tcp-skip-in-flight"], "skip in-flight TCP connections"),
        Flag::bool(&["link-remap"], "allow files that are open but deleted"),
        criu::EXTERNAL_SOCKETS,
        criu::SHELL_JOB,
        Flag::bool(&["lazy-pages"], "serve memory pages on demand at --page-server"),
        Flag::integer(&["status-fd"], "descriptor that receives a zero byte when lazy pages are ready")
            .default("-1"),
        Flag::text(&["page-server"], "ADDRESS:PORT to serve pages at, or of the page server to send them to"),
        Flag::bool(&["file-locks"], "keep file locks"),
        Flag::bool(&["pre-dump"], "save memory only and leave the container running"),
        criu::CGROUPS_MODE,
        criu::EMPTY_NAMESPACE,
        Flag::bool(&["auto-dedup"], "remove duplicate memory pages"),
    ],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    own: false,
    hidden: false,
    run,
};

fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let container = context.container(parsed)?;
    let mut options = CheckpointOptions::new(image_path(parsed));
    options.work = criu::path(parsed, "work-path");
    options.parent = criu::path(parsed, "parent-path");
    options.leave_running = parsed.is("leave-running");
    options.pre_dump = parsed.is("pre-dump");
    options.tcp_established = parsed.is("tcp-established");
    options.tcp_skip_in_flight = parsed.is("tcp-skip-in-flight");
    options.link_remap = parsed.is("link-remap");
    options.external_unix_sockets = parsed.is("ext-unix-sk");
    options.shell_job = parsed.is("shell-job");
    options.file_locks = parsed.is("file-locks");
    options.auto_dedup = parsed.is("auto-dedup");
    options.lazy_pages = parsed.is("lazy-pages");
    options.page_server = page_server(parsed.text("page-server"))?;
    options.status = status(parsed)?;
    options.cgroups = CgroupMode::parse(parsed.text("manage-cgroups-mode"))?;
    check_empty_namespaces(parsed)?;
    let keeps_running = options.leave_running || options.pre_dump;
    make_dirs(&options.image)?;
    container.checkpoint(options).map_err(|e| Failure::from(e).prefixed("checkpoint failed"))?;
    if !keeps_running {
        setup::remove(context, container);
    }
    Ok(0)
}

/// Makes a directory and those above it.
fn make_dirs(path: &Path) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| Failure::os(format_args!("--image-path {path:?}"), "mkdir", e))
}

fn page_server(text: &str) -> Result<Option<(String, u16)>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let usage = || Failure::new("Use --page-server ADDRESS:PORT to specify page server");
    let (address, port) =
        text.rsplit_once(':').filter(|(address, _)| !address.is_empty()).ok_or_else(usage)?;
    let port =
        port.parse().map_err(|_| Failure::new(format!("--page-server {text:?}: invalid port number")))?;
    Ok(Some((address.trim_matches(['[', ']']).to_owned(), port)))
}

/// `--status-fd`, as a new descriptor: the one with this number is the caller's.
fn status(parsed: &Parsed) -> Result<Option<File>, Failure> {
    let number = parsed.integer("status-fd");
    if !parsed.is_set("status-fd") || number == -1 {
        return Ok(None);
    }
    let file = File::options().write(true).open(format!("/proc/self/fd/{number}"));
    file.map(Some).map_err(|e| Failure::os(format_args!("invalid --status-fd argument {number}"), "open", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_server_is_an_address_and_a_port() {
        assert_eq!(page_server("").unwrap(), None);
        assert_eq!(page_server("0.0.0.0:27277").unwrap(), Some(("0.0.0.0".into(), 27277)));
        assert_eq!(page_server("[::1]:1").unwrap(), Some(("::1".into(), 1)));
        for bad in ["x", ":1", "a:", "a:70000", "a:b"] {
            assert!(page_server(bad).is_err(), "{bad}");
        }
    }
}
