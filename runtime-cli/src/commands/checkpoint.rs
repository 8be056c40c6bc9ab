//! `checkpoint`: saves a running container to a folder of images, through CRIU.

use super::{Command, Context, Failure, Outcome};
use crate::args::{Flag, Order, Parsed};
use crate::notify;
use libcontainer::{CgroupMode, CheckpointOptions, Delete};
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// In the current directory, as runc has it.
const IMAGES: &str = "checkpoint";

pub(super) const COMMAND: Command = Command {
    name: "checkpoint",
    summary: "checkpoint a running container",
    usage: "<container-id>",
    about: "Saves the processes of a container, their memory and what they have open into a folder, and deletes the container.\n\
            `restore` makes it again. The work is done by criu(8), 3.17 or newer, which is found in PATH.",
    flags: &[
        Flag::text(&["image-path"], "folder for CRIU's images; by default ./checkpoint"),
        Flag::text(&["work-path"], "folder for CRIU's work files and logs; by default that of the images"),
        Flag::text(&["parent-path"], "folder of an earlier pre-dump, relative to the images' folder"),
        Flag::bool(&["leave-running"], "let the container go on"),
        Flag::bool(&["tcp-established"], "allow open TCP connections"),
        Flag::bool(&["tcp-skip-in-flight"], "skip TCP connections that are being made"),
        Flag::bool(&["link-remap"], "allow open files that were removed"),
        Flag::bool(&["ext-unix-sk"], "allow unix sockets to the outside"),
        Flag::bool(&["shell-job"], "allow a container that has a terminal of the host"),
        Flag::bool(&["lazy-pages"], "serve memory pages on demand, at --page-server"),
        Flag::integer(&["status-fd"], "a zero byte is written here when lazy pages can be fetched")
            .default("-1"),
        Flag::text(
            &["page-server"],
            "ADDRESS:PORT where pages are served, or of a page server that takes them",
        ),
        Flag::bool(&["file-locks"], "keep file locks"),
        Flag::bool(&["pre-dump"], "save memory only, and let the container go on"),
        Flag::text(&["manage-cgroups-mode"], "soft, full, strict or ignore (default: soft)"),
        Flag::texts(
            &["empty-ns"],
            "make this namespace, but do not restore its contents; always so for network",
        ),
        Flag::bool(&["auto-dedup"], "remove memory pages that are held twice"),
    ],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    run,
};

fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let container = context.container(parsed)?;
    let mut options = CheckpointOptions::new(image_path(parsed));
    options.work = work_path(parsed);
    options.parent =
        Some(PathBuf::from(parsed.text("parent-path"))).filter(|path| !path.as_os_str().is_empty());
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
    check_empty(parsed)?;
    let goes_on = options.leave_running || options.pre_dump;
    make_folders(&options.image)?;
    container.checkpoint(options).map_err(|e| Failure::from(e).prefixed("checkpoint failed"))?;
    if !goes_on {
        let id = container.id().clone();
        if let Err(error) = container.delete(Delete::Force) {
            context.log.warning(&error.to_string());
        }
        notify::forget(context, &id);
    }
    Ok(0)
}

/// `--image-path`.
pub(super) fn image_path(parsed: &Parsed) -> PathBuf {
    match parsed.text("image-path") {
        "" => IMAGES.into(),
        path => path.into(),
    }
}

/// `--work-path`.
pub(super) fn work_path(parsed: &Parsed) -> Option<PathBuf> {
    Some(PathBuf::from(parsed.text("work-path"))).filter(|path| !path.as_os_str().is_empty())
}

/// `--empty-ns`: network namespaces are empty without being asked for.
pub(super) fn check_empty(parsed: &Parsed) -> Result<(), Failure> {
    match parsed.all("empty-ns").find(|name| *name != "network") {
        Some(other) => Err(Failure::new(format!("--empty-ns: namespace {other:?} is not supported"))),
        None => Ok(()),
    }
}

/// With the folders above it.
fn make_folders(path: &Path) -> Result<(), Failure> {
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

/// Opened anew: the number's own descriptor is the caller's.
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
