//! A client for registries: pull, push, list and search. Source: OCI distribution specification.
//!
//! Registries are not trusted: sizes and digests are verified, responses are limited, credentials are only sent to the registry
//! that they are for and to the token server that it names, and nothing is redirected from https to http.

mod challenge;
mod client;
mod credentials;
mod hosts;
mod hosts_toml;
mod lists;
mod login;
mod place;
mod proxy;
mod pull;
mod push;
mod reach;
mod registries;
mod secrets;
mod tls;
mod token;
mod transport;
mod trust;
mod url;

pub use client::{Client, ClientOptions};
pub use credentials::{Credential, Credentials};
pub use hosts::{Hosts, Mirror};
pub use lists::SearchResult;
pub use login::Saved;
pub use proxy::Proxies;
pub use pull::RemoteImage;
pub use push::Upload;
pub use registries::{MirrorRule, Registries, Rule};
