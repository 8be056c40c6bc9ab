//! The client side of a connection to a supervisor.

pub(crate) mod attach;
pub(crate) mod outcome;
