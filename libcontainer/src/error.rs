//! The one error type of the crate: a kind to match on, a chain of short contexts, and the system call's own error.
//!
//! A message reads `what was being done: on what: which call: why (ERRNO); how to mend it`. `Display` is the whole chain on one line.
//! This room knows no other room.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// What went wrong, coarse enough to decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such container, file or process.
    NotFound,
    /// A container or cgroup of that name is there already.
    Exists,
    /// The container's status does not allow the operation.
    WrongState,
    /// config.json, a process description or an id is malformed or contradicts itself.
    InvalidSpec,
    /// The request is valid, but this version or this host can not fulfil it.
    Unsupported,
    /// The caller lacks a privilege.
    Permission,
    /// Something is in use: a cgroup with processes, a locked state directory.
    Busy,
    /// A system call failed; see [`Error::errno`].
    Os,
}

/// An error with its history. Cheap to carry: one pointer.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    /// Innermost first.
    contexts: Vec<Cow<'static, str>>,
    source: Option<io::Error>,
    hint: Option<Cow<'static, str>>,
    /// What execve(2) refused.
    program: Option<String>,
    /// Further failures of a tear-down that went on after the first.
    others: Vec<Error>,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Error(Box::new(Inner {
            kind,
            contexts: vec![message.into()],
            source: None,
            hint: None,
            program: None,
            others: Vec::new(),
        }))
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(ErrorKind::InvalidSpec, message)
    }

    pub(crate) fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(ErrorKind::Unsupported, message)
    }

    /// An error of a system call, `call` naming it.
    pub(crate) fn os(call: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        let kind = kind_of(&source);
        Error(Box::new(Inner {
            kind,
            contexts: vec![call.into()],
            source: Some(source),
            hint: None,
            program: None,
            others: Vec::new(),
        }))
    }

    pub(crate) fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint.get_or_insert(hint.into());
        self
    }

    /// execve(2) of `program` failed.
    pub(crate) fn exec(program: &str, source: io::Error) -> Self {
        let mut error = Error::os(format!("exec {program}"), source);
        error.0.program = Some(program.to_owned());
        error
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
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

    /// The coarse kind of this error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The program, as the process names it, if all was ready for it and the kernel refused to execute it (execve(2)): no program for
    /// this machine, or its interpreter is missing.
    pub fn refused_program(&self) -> Option<&str> {
        self.0.program.as_deref()
    }

    /// The errno of the system call that failed, if one did.
    pub fn errno(&self) -> Option<i32> {
        self.0.source.as_ref().and_then(io::Error::raw_os_error)
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        for (i, context) in inner.contexts.iter().rev().enumerate() {
            if i > 0 {
                f.write_str(": ")?;
            }
            f.write_str(context)?;
        }
        if let Some(source) = &inner.source {
            match source.raw_os_error() {
                Some(errno) => write!(f, ": {}", crate::sys::errno::text(errno))?,
                None => write!(f, ": {source}")?,
            }
        }
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
        self.0.source.as_ref().map(|e| e as _)
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
}
