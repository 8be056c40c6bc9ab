//! The commands on containers and volumes.

pub(crate) mod attach;
mod each;
pub(crate) mod exec;
pub(crate) mod logs;
pub(crate) mod pause;
pub(crate) mod ps;
pub(crate) mod rename;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod volume;
pub(crate) mod wait;
