//! Whether servers are this machine or on its link, by the addresses that connections are really made to: a
//! name in /etc/hosts, a name of the DNS and `127.1` say nothing of that. Knows nothing of requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport};

use super::hosts::is_near_address;
use crate::error::{Error, ErrorKind};

/// By authority, whether each connection so far went to this machine or its link.
#[derive(Clone, Debug, Default)]
pub(super) struct Near(Arc<Mutex<HashMap<String, bool>>>);

impl Near {
    pub(super) fn contains(&self, authority: &str) -> bool {
        let near = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        near.get(authority).copied().unwrap_or(false)
    }

    /// Who was elsewhere once does not become near: its owner decides what the name resolves to next.
    fn add(&self, authority: &str, is_near: bool) {
        let mut near = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        near.entry(authority.to_owned()).and_modify(|known| *known &= is_near).or_insert(is_near);
    }
}

/// Looks at the addresses before the connector that uses them.
#[derive(Debug)]
pub(super) struct ReachConnector {
    pub(super) near: Near,
    /// Nothing near is connected to.
    pub(super) elsewhere: bool,
    /// Connections may go by way of a proxy, which may be near, for it is the user's. What a name means there is
    /// not known here.
    pub(super) proxied: bool,
}

impl<In: Transport> Connector<In> for ReachConnector {
    type Out = In;

    fn connect(&self, details: &ConnectionDetails<'_>, below: Option<In>) -> Result<Option<In>, ureq::Error> {
        // ureq connects to the proxy itself with a configuration that has none.
        if below.is_some() || (self.proxied && details.config.proxy().is_none()) {
            return Ok(below);
        }
        let is_near = |address: &std::net::SocketAddr| is_near_address(address.ip());
        if self.elsewhere && details.addrs.iter().any(is_near) {
            let message = "a remote registry must not name a token server on this machine or its link";
            return Err(std::io::Error::from(Error::new(ErrorKind::Denied, message)).into());
        }
        let authority = details.uri.authority().map_or("", |authority| authority.as_str());
        self.near.add(authority, details.addrs.iter().all(is_near));
        Ok(below)
    }
}
