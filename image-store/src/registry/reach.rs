//! Whether servers are on this machine or link-local ("near"), by the addresses that are connected to: names in /etc/hosts
//! or the DNS and forms such as `127.1` do not show it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport};

use super::hosts::is_near_address;
use crate::error::{Error, ErrorKind};

/// Whether all connections to an authority so far went to near addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Near(Arc<Mutex<HashMap<String, bool>>>);

impl Near {
    pub(super) fn contains(&self, authority: &str) -> bool {
        let near = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        near.get(authority).copied().unwrap_or(false)
    }

    /// An authority that was not near once cannot become near: its owner decides what its name resolves to.
    fn add(&self, authority: &str, is_near: bool) {
        let mut near = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        near.entry(authority.to_owned()).and_modify(|known| *known &= is_near).or_insert(is_near);
    }
}

/// A connector that checks the resolved addresses before the next one connects to them.
#[derive(Debug)]
pub(super) struct ReachConnector {
    pub(super) near: Near,
    /// Refuses near addresses.
    pub(super) elsewhere: bool,
    /// A proxy is configured. It may be near, because the user chose it; how it resolves names is not known here.
    pub(super) proxied: bool,
}

impl<In: Transport> Connector<In> for ReachConnector {
    type Out = In;

    fn connect(&self, details: &ConnectionDetails<'_>, below: Option<In>) -> Result<Option<In>, ureq::Error> {
        // ureq connects to the proxy itself with a configuration without a proxy.
        if below.is_some() || (self.proxied && details.config.proxy().is_none()) {
            return Ok(below);
        }
        let is_near = |address: &std::net::SocketAddr| is_near_address(address.ip());
        if self.elsewhere && details.addrs.iter().any(is_near) {
            let message =
                "a token server on this machine or a link-local address is refused for a remote registry";
            return Err(std::io::Error::from(Error::new(ErrorKind::Denied, message)).into());
        }
        let authority = details.uri.authority().map_or("", |authority| authority.as_str());
        self.near.add(authority, details.addrs.iter().all(is_near));
        Ok(below)
    }
}
