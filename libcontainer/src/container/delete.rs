//! What a removal takes and returns.

use super::Container;
use crate::error::Error;

/// Which containers `delete` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delete {
    /// A container that is stopped, or created and not started; a running one is an error.
    Stopped,
    /// Any container; its processes are killed first.
    Force,
}

/// The error of [`Container::delete`], with the container, so that the call can be repeated.
#[non_exhaustive]
pub struct DeleteError {
    /// What failed.
    pub error: Error,
    /// The container; parts of it may be left.
    pub container: Box<Container>,
}

impl std::fmt::Debug for DeleteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeleteError({:?}, {:?})", self.container.id(), self.error)
    }
}

impl std::fmt::Display for DeleteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for DeleteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

impl From<DeleteError> for Error {
    fn from(failed: DeleteError) -> Self {
        failed.error
    }
}
