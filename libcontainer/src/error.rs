//! The crate's error type: a kind to match on, a chain of short contexts, and the cause at its end.
//!
//! A message reads `what was being done: on what: which call: why (ERRNO); how to mend it`. `Display` is the whole chain on one line.
//! Apart from `sys`, this module uses no other.

use crate::sys::Errno;
use std::borrow::Cow;
use std::fmt;
use std::io;

/// The class of an error, coarse enough to decide what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something does not exist; [`Error::object`] says what.
    NotFound,
    /// Something already exists; [`Error::object`] says what.
    Exists,
    /// The container's status does not allow the operation.
    WrongState,
    /// config.json, a process description or an id is malformed or contradicts itself.
    InvalidSpec,
    /// The request is valid, but this version or this host cannot fulfil it.
    Unsupported,
    /// The caller lacks a privilege.
    Permission,
    /// Something is in use: a cgroup with processes, a locked state directory.
    Busy,
    /// A system call failed; see [`Error::errno`].
    Os,
    /// A bug of this library: a state that must not occur.
    Internal,
}

/// Why the program of a process could not be executed; see [`Error::program_error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProgramError {
    /// No such file: not at the given path, or, for a name without a slash, in no directory of `PATH`. Shells exit with 127.
    NotFound,
    /// The user cannot execute it: no execute permission, a directory on the way that cannot be searched, or not a regular
    /// file. Shells exit with 126.
    NotExecutable,
    /// It was found, but execve(2) failed: it is not an executable for this machine, or its interpreter is missing.
    Refused,
}

/// The object that an error is about, where [`ErrorKind`] alone does not tell; see [`Error::object`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Object {
    /// The container with this id.
    Container,
    /// The directory with the states of all containers.
    StateRoot,
    /// The bundle: its directory, or config.json in it.
    Bundle,
    /// The root file system: `root.path`, or a directory of an [`Overlay`](crate::Overlay).
    Root,
    /// `process.cwd`.
    WorkingDirectory,
    /// The program of the process; [`Error::program_error`] says why it could not be executed.
    Program,
    /// A child of this process: the process that was waited for is somebody else's.
    Child,
    /// The exit status of a process that has ended. Its parent has reaped it, or the kernel has, and it was not kept.
    ExitStatus,
}

/// How far an operation got before it failed; see [`Error::stage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The bundle and the specification are read and checked: nothing was done yet.
    Plan,
    /// The state directory and the cgroup are made.
    Reserve,
    /// The process is made, and prepared up to its program: namespaces, mounts, limits, ids, the working directory.
    Prepare,
    /// A hook of config.json runs.
    Hook,
    /// The program is looked for and executed.
    Execute,
}

/// States that occur only if this crate has a bug.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Internal {
    #[error("unexpected message from the child: {0}")]
    ChildMessage(String),
    #[error("no process whose root could be opened")]
    NoTarget,
    #[error("waitid returned without a child")]
    NoStatus,
    #[error("encode {0}: {1}")]
    Encode(&'static str, #[source] serde_json::Error),
}

/// An error with its context. It is as small as a pointer.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    cause: Cause,
    /// Innermost first.
    contexts: Vec<Cow<'static, str>>,
    hint: Option<Cow<'static, str>>,
    object: Option<Object>,
    stage: Option<Stage>,
    /// Further failures of a tear-down that continued after the first.
    others: Vec<Error>,
}

/// The end of an error's chain. Callers of runc match the texts of a program that cannot be executed.
#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("{0}")]
    Message(Cow<'static, str>),
    #[error("{call}: {}", reason(source))]
    Call { call: Cow<'static, str>, source: io::Error },
    #[error("exec: {name:?}: executable file not found in $PATH")]
    NotInPath { name: String },
    #[error("exec: {name:?}: stat {name}: {}", reason(source))]
    NoProgram { name: String, source: io::Error },
    #[error("exec: {name:?}: {}", reason(source))]
    NotExecutable { name: String, source: io::Error },
    #[error("exec {name}: {}", reason(source))]
    Refused { name: String, source: io::Error },
    #[error("the process exited before its program was executed: {0}")]
    Died(String),
    #[error("{0}")]
    Criu(Cow<'static, str>),
    #[error(transparent)]
    Internal(Internal),
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn of(kind: ErrorKind, cause: Cause) -> Self {
        Error(Box::new(Inner {
            kind,
            cause,
            contexts: Vec::new(),
            hint: None,
            object: None,
            stage: None,
            others: Vec::new(),
        }))
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Error::of(kind, Cause::Message(message.into()))
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(ErrorKind::InvalidSpec, message)
    }

    pub(crate) fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(ErrorKind::Unsupported, message)
    }

    /// The system call `call` failed.
    pub(crate) fn os(call: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        Error::of(kind_of(&source), Cause::Call { call: call.into(), source })
    }

    /// No directory of `PATH` has a program `name`.
    pub(crate) fn not_in_path(name: &str) -> Self {
        Error::of(ErrorKind::NotFound, Cause::NotInPath { name: name.to_owned() })
    }

    /// The search for the program `name` ended with `errno`.
    pub(crate) fn find_program(name: &str, errno: i32) -> Self {
        let (name, source) = (name.to_owned(), io::Error::from(Errno(errno)));
        match errno {
            libc::ENOENT if !name.contains('/') => Error::not_in_path(&name),
            libc::ENOENT => Error::of(kind_of(&source), Cause::NoProgram { name, source }),
            _ => Error::of(kind_of(&source), Cause::NotExecutable { name, source }),
        }
    }

    /// execve(2) of the program `name` failed with `errno`.
    pub(crate) fn exec(name: &str, errno: i32) -> Self {
        let source = io::Error::from(Errno(errno));
        let error = Error::of(kind_of(&source), Cause::Refused { name: name.to_owned(), source });
        match errno {
            libc::ENOENT => {
                error.hint("its interpreter (from the #! line) or its dynamic loader does not exist")
            }
            libc::ENOEXEC => error.hint("not an executable for this machine, or a script without #!"),
            _ => error,
        }
    }

    /// A child exited before its exec; `how` is its exit status, or what it was doing.
    pub(crate) fn died(how: impl fmt::Display) -> Self {
        Error::of(ErrorKind::Os, Cause::Died(how.to_string()))
    }

    /// CRIU failed; its log has the reasons.
    pub(crate) fn criu(message: impl Into<Cow<'static, str>>) -> Self {
        Error::of(ErrorKind::Os, Cause::Criu(message.into()))
    }

    pub(crate) fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint.get_or_insert(hint.into());
        self
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Names the object that this is about, unless an inner call has.
    pub(crate) fn about(mut self, object: Object) -> Self {
        self.0.object.get_or_insert(object);
        self
    }

    /// Names the stage at which this happened, unless an inner call has.
    pub(crate) fn at(mut self, stage: Stage) -> Self {
        self.0.stage.get_or_insert(stage);
        self
    }

    /// A hook failed: what it ran, and how far that got, is not the container's.
    pub(crate) fn in_hook(mut self) -> Self {
        (self.0.stage, self.0.object) = (Some(Stage::Hook), None);
        self
    }

    pub(crate) fn wrap(mut self, context: impl Into<Cow<'static, str>>) -> Self {
        self.0.contexts.push(context.into());
        self
    }

    /// Joins the failures of a tear-down into one error; `None` when there were none.
    pub(crate) fn join(errors: Vec<Error>) -> Option<Error> {
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        first.0.others.extend(errors);
        Some(first)
    }

    /// See [`Error::died`].
    pub(crate) fn is_death(&self) -> bool {
        matches!(self.0.cause, Cause::Died(_))
    }

    /// See [`Error::criu`].
    pub(crate) fn is_from_criu(&self) -> bool {
        matches!(self.0.cause, Cause::Criu(_))
    }

    /// The coarse kind of this error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The object that this is about. With [`ErrorKind::NotFound`] it is what was not found, with [`ErrorKind::Exists`] what exists.
    /// `None` for all others, such as the source of a mount.
    pub fn object(&self) -> Option<Object> {
        self.0.object.or_else(|| self.program_error().map(|_| Object::Program))
    }

    /// The stage at which a container, or a process in one, could not be made or started; `None` for other operations.
    pub fn stage(&self) -> Option<Stage> {
        if self.program_error().is_some() { Some(Stage::Execute) } else { self.0.stage }
    }

    /// Why the program of the process could not be executed; `None` when something else failed, the program of a hook among it.
    pub fn program_error(&self) -> Option<ProgramError> {
        match &self.0.cause {
            _ if self.0.stage == Some(Stage::Hook) => None,
            Cause::NotInPath { .. } | Cause::NoProgram { .. } => Some(ProgramError::NotFound),
            Cause::NotExecutable { .. } => Some(ProgramError::NotExecutable),
            Cause::Refused { .. } => Some(ProgramError::Refused),
            Cause::Message(_) | Cause::Call { .. } | Cause::Died(_) | Cause::Criu(_) | Cause::Internal(_) => {
                None
            }
        }
    }

    /// The program, as the process names it, when it was found and execve(2) failed ([`ProgramError::Refused`]).
    pub fn refused_program(&self) -> Option<&str> {
        match &self.0.cause {
            Cause::Refused { name, .. } if self.0.stage != Some(Stage::Hook) => Some(name),
            _ => None,
        }
    }

    /// The errno of the system call that failed, if one did.
    pub fn errno(&self) -> Option<i32> {
        let source = std::error::Error::source(&self.0.cause)?;
        source.downcast_ref::<io::Error>()?.raw_os_error()
    }
}

impl From<Internal> for Error {
    fn from(internal: Internal) -> Self {
        Error::of(ErrorKind::Internal, Cause::Internal(internal))
    }
}

fn kind_of(source: &io::Error) -> ErrorKind {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::EROFS) => ErrorKind::Permission,
        Some(libc::ENOENT | libc::ESRCH) => ErrorKind::NotFound,
        Some(libc::EBUSY | libc::EAGAIN) => ErrorKind::Busy,
        Some(libc::EEXIST) => ErrorKind::Exists,
        _ => ErrorKind::Os,
    }
}

/// The text of a system call's error: with an errno as Go programs print it, which callers of runc match.
fn reason(source: &io::Error) -> String {
    source.raw_os_error().map_or_else(|| source.to_string(), crate::sys::errno::text)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        for context in inner.contexts.iter().rev() {
            write!(f, "{context}: ")?;
        }
        write!(f, "{}", inner.cause)?;
        if let Some(hint) = &inner.hint {
            write!(f, " ({hint})")?;
        }
        for other in &inner.others {
            write!(f, "; {other}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}, {self})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.source()
    }
}

/// Adds a context to the error of a result; the closure runs on failure only.
pub(crate) trait Context<T> {
    fn context(self, context: &'static str) -> Result<T>;
    fn with_context<C: Into<Cow<'static, str>>>(self, context: impl FnOnce() -> C) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context(self, context: &'static str) -> Result<T> {
        self.map_err(|e| e.wrap(context))
    }
    fn with_context<C: Into<Cow<'static, str>>>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|e| e.wrap(context()))
    }
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, context: &'static str) -> Result<T> {
        self.map_err(|e| Error::os(context, e))
    }
    fn with_context<C: Into<Cow<'static, str>>>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|e| Error::os(context(), e))
    }
}

impl<T> Context<T> for std::result::Result<T, crate::sys::Errno> {
    fn context(self, context: &'static str) -> Result<T> {
        self.map_err(|e| Error::os(context, e.into()))
    }
    fn with_context<C: Into<Cow<'static, str>>>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|e| Error::os(context(), e.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_doing_the_target_the_call_and_the_errno() {
        let e = Error::os("openat2", io::Error::from_raw_os_error(libc::EACCES))
            .wrap("open \"/x\"")
            .wrap("create c1")
            .hint("run as root");
        assert_eq!(
            e.to_string(),
            "create c1: open \"/x\": openat2: permission denied (EACCES) (run as root)"
        );
        assert_eq!((e.kind(), e.errno()), (ErrorKind::Permission, Some(libc::EACCES)));
    }

    #[test]
    fn an_error_says_why_the_program_could_not_be_executed() {
        use ProgramError::{NotExecutable, NotFound, Refused};
        let cases = [
            (Error::not_in_path("ls"), NotFound, r#"exec: "ls": executable file not found in $PATH"#),
            (
                Error::find_program("ls", libc::ENOENT),
                NotFound,
                r#"exec: "ls": executable file not found in $PATH"#,
            ),
            (
                Error::find_program("/ls", libc::ENOENT),
                NotFound,
                r#"exec: "/ls": stat /ls: no such file or directory (ENOENT)"#,
            ),
            (
                Error::find_program("ls", libc::EACCES),
                NotExecutable,
                r#"exec: "ls": permission denied (EACCES)"#,
            ),
            (
                Error::find_program("/bin", libc::EISDIR),
                NotExecutable,
                r#"exec: "/bin": is a directory (EISDIR)"#,
            ),
            (
                Error::exec("/ls", libc::ENOENT),
                Refused,
                "exec /ls: no such file or directory (ENOENT) (its interpreter (from the #! line) or its dynamic loader does not exist)",
            ),
            (
                Error::exec("/ls", libc::ENOEXEC),
                Refused,
                "exec /ls: exec format error (ENOEXEC) (not an executable for this machine, or a script without #!)",
            ),
        ];
        for (error, why, text) in cases {
            let refused = (why == Refused).then_some("/ls");
            assert_eq!((error.program_error(), error.refused_program()), (Some(why), refused), "{error}");
            assert_eq!(error.to_string(), text);
            assert_eq!((error.object(), error.stage()), (Some(Object::Program), Some(Stage::Execute)));
            // Contexts, a hint and another kind leave it what it is.
            let error = error.wrap("start c1").hint("mend it").with_kind(ErrorKind::Busy).at(Stage::Prepare);
            assert_eq!((error.program_error(), error.stage()), (Some(why), Some(Stage::Execute)), "{error}");
            // The program of a hook is not the container's.
            let error = error.in_hook();
            assert_eq!((error.program_error(), error.refused_program()), (None, None), "{error}");
            assert_eq!((error.object(), error.stage()), (None, Some(Stage::Hook)), "{error}");
        }
        let missing = io::Error::from_raw_os_error(libc::ENOENT);
        let others = [
            Error::died("exit status 1"),
            Error::criu("criu failed"),
            Error::os("stat", missing),
            Error::invalid("exec: no such file: not found"),
        ];
        assert!(others.iter().all(|e| e.program_error().is_none() && e.refused_program().is_none()));
    }

    #[test]
    fn the_innermost_object_and_stage_are_kept() {
        let error =
            Error::invalid("x").about(Object::Root).about(Object::Bundle).at(Stage::Plan).at(Stage::Prepare);
        assert_eq!((error.object(), error.stage()), (Some(Object::Root), Some(Stage::Plan)));
        let error = Error::invalid("x");
        assert_eq!((error.object(), error.stage()), (None, None));
    }

    #[test]
    fn a_bug_of_the_library_is_its_own_kind() {
        let encode = serde_json::from_str::<u8>("x").unwrap_err();
        for (internal, text) in [
            (
                Internal::ChildMessage("gate 9".to_owned()),
                "start c1: unexpected message from the child: gate 9",
            ),
            (
                Internal::Encode("the state", encode),
                "start c1: encode the state: expected value at line 1 column 1",
            ),
        ] {
            let error = Error::from(internal).wrap("start c1");
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Internal, text));
        }
    }
}
