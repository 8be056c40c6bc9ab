//! A client of the OCI distribution protocol: pull, push, lists, search.
//!
//! Everything a registry says is suspect: sizes and digests are checked on the way, bodies are bounded,
//! credentials go to the registry they are for, to the token server it names and to no other host, and nothing
//! goes from https to http.

mod challenge;
mod client;
mod credentials;
mod hosts;
mod hosts_toml;
mod lists;
mod login;
mod place;
mod pull;
mod push;
mod reach;
mod registries;
mod secrets;
mod tls;
mod transport;
mod trust;
mod url;

pub use client::{Client, ClientOptions};
pub use credentials::{Credential, Credentials};
pub use hosts::{Hosts, Mirror};
pub use lists::SearchResult;
pub use login::Saved;
pub use pull::RemoteImage;
pub use push::Upload;
pub use registries::{MirrorRule, Registries, Rule};
