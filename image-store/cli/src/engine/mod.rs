//! Runs containers from images, with libcontainer.
//!
//! | file | what it does |
//! |---|---|
//! | `commands/` | the commands on containers and volumes |
//! | `client/`, `keys` | the side of the commands that are connected to a container |
//! | `supervisor/`, `frames`, `log` | the process that keeps a container running, what it tells its clients, and the log |
//! | `prepare`, `names` | creates a container on disk |
//! | `config/`, `options/`, `capabilities`, `seccomp`, `user` | from flags and image to config.json |

mod capabilities;
mod client;
pub(crate) mod commands;
mod config;
mod frames;
#[cfg(test)]
mod golden;
mod keys;
mod log;
mod names;
mod options;
mod prepare;
mod seccomp;
pub(crate) mod supervisor;
mod user;
