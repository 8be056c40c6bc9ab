//! `create`, `run` and `restore` around their call into libcontainer. Everything that can be refused is refused by [`prepare`], before a
//! process exists; [`announce`] reports the new container, or undoes what was prepared.

use crate::context::Context;
use crate::descriptors::{listen_fds, preserved_fds};
use crate::failure::Failure;
use crate::foreground::Streams;
use crate::notify::{self, Notify};
use crate::process_spec::add_env;
use crate::receivers::Receivers;
use goflags::Parsed;
use libcontainer::{Bundle, Container, ContainerId, CreateOptions, Delete, Runtime, Stdio};

/// Whether the process outlives this command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Detached,
    /// This command copies the process's streams.
    Foreground,
}

/// Everything that a new container needs. It goes into one call of libcontainer, whose result goes to [`announce`].
pub(crate) struct Prepared {
    pub(crate) runtime: Runtime,
    pub(crate) id: ContainerId,
    pub(crate) bundle: Bundle,
    pub(crate) options: CreateOptions,
    pub(crate) streams: Streams,
    pub(crate) reports: Reports,
}

/// The recipients of reports on a new container.
pub(crate) struct Reports {
    id: ContainerId,
    receivers: Receivers,
    notify: Option<Notify>,
    /// Of the bundle; those of a container include them.
    warnings: Vec<String>,
}

/// Reads the bundle, connects to the sockets and opens the streams.
pub(crate) fn prepare(context: &Context<'_>, parsed: &Parsed, mode: Mode) -> Result<Prepared, Failure> {
    let id = ContainerId::new(parsed.positional(0))?;
    let mut bundle = load_bundle(parsed)?;
    let terminal = wants_terminal(&bundle);
    let listen = listen_fds();
    let preserve_fds = preserved_fds(parsed, listen)?;
    if listen > 0 {
        // The container's first process learns that the sockets are for it.
        add_env(&mut bundle, [format!("LISTEN_FDS={listen}"), "LISTEN_PID=1".to_owned()]);
    }
    let receivers = Receivers::connect(context, parsed, terminal, mode == Mode::Detached)?;
    let (streams, stdio) = match mode {
        Mode::Detached => (Streams::default(), if terminal { Stdio::Terminal } else { Stdio::inherit() }),
        Mode::Foreground => Streams::open(terminal)?,
    };
    let mut options = create_options(context, parsed, stdio);
    options.preserve_fds = preserve_fds;
    let runtime = context.runtime()?;
    let notify = Notify::new(context, &id);
    if let Some(notify) = &notify {
        notify.prepare(&mut bundle).inspect_err(|_| notify::remove(context, &id))?;
    }
    let reports = Reports { id: id.clone(), receivers, notify, warnings: bundle.warnings().to_vec() };
    Ok(Prepared { runtime, id, bundle, options, streams, reports })
}

/// Reports a new container and returns it. If it was not made, or cannot be reported, nothing is left of it.
pub(crate) fn announce(
    context: &Context<'_>,
    reports: Reports,
    made: Result<Container, Failure>,
) -> Result<(Container, Option<Notify>), Failure> {
    let warnings = made.as_ref().map_or(reports.warnings.as_slice(), Container::warnings);
    warnings.iter().for_each(|warning| context.log.warning(warning));
    let mut container = made.inspect_err(|_| notify::remove(context, &reports.id))?;
    match reports.receivers.announce(&mut container) {
        Ok(()) => Ok((container, reports.notify)),
        Err(failure) => {
            remove(context, container);
            Err(failure)
        }
    }
}

/// Removes a container and its notify socket; an error is logged. By force: without its own pid namespace, a container may have
/// processes left.
pub(crate) fn remove(context: &Context<'_>, container: Container) {
    let id = container.id().clone();
    if let Err(error) = container.delete(Delete::Force) {
        context.log.warning(&error.to_string());
    }
    notify::remove(context, &id);
}

/// The bundle of `--bundle`.
pub(crate) fn load_bundle(parsed: &Parsed) -> Result<Bundle, Failure> {
    Ok(Bundle::load(match parsed.text("bundle") {
        "" => ".",
        path => path,
    })?)
}

/// The options that the flags ask for, without descriptors.
pub(crate) fn create_options(context: &Context<'_>, parsed: &Parsed, stdio: Stdio) -> CreateOptions {
    let mut options = CreateOptions::new(stdio);
    options.no_pivot = parsed.is("no-pivot");
    options.no_new_keyring = parsed.is("no-new-keyring");
    options.systemd_cgroup = context.systemd_cgroup;
    options.rootless_cgroups = context.rootless;
    options
}

/// Whether the container's process has a terminal.
pub(crate) fn wants_terminal(bundle: &Bundle) -> bool {
    bundle.spec().process().as_ref().and_then(libcontainer::spec::Process::terminal).unwrap_or(false)
}
