//! Tags of a repository, repositories of a registry, Docker Hub's search.

use serde::Deserialize;
use ureq::http::Method;

use super::client::{Access, Call, Client};
use super::hosts::real;
use super::place::Place;
use super::secrets::without_values;
use crate::absent::or_default;
use crate::error::{Doing, Error, ErrorKind, Result};
use crate::reference::{DEFAULT_DOMAIN, Reference};

/// Largest page of a list in bytes.
const PAGE_LIMIT: u64 = 8 << 20;
/// Largest number of pages.
const MAX_PAGES: usize = 1000;
/// Largest number of entries on all pages.
const MAX_ENTRIES: usize = 1 << 20;

/// A repository found by a search.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// The name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// The description.
    pub description: Option<String>,
    /// The number of stars.
    #[serde(rename = "star_count", deserialize_with = "or_default")]
    pub stars: u64,
    /// Whether it is a Docker Official Image.
    #[serde(rename = "is_official", deserialize_with = "or_default")]
    pub official: bool,
}

impl Client {
    /// The tags of a repository, in the registry's order.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such repository; otherwise as for [`Client::find`].
    pub fn tags(&self, repository: &Reference) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let access = self.access(repository, self.options.hosts.origin(repository)?, "pull");
        let first = self.place(&access, &format!("{}/tags/list", access.endpoint.repository))?;
        self.pages(&access, first, |page: Page| page.tags.unwrap_or_default())
    }

    /// The repositories of the registry `host` whose names contain `term`.
    ///
    /// # Errors
    /// As for [`Client::find`]; many registries do not offer this list.
    pub fn catalog(&self, host: &str, term: &str) -> Result<Vec<SearchResult>> {
        #[derive(Deserialize)]
        struct Page {
            repositories: Option<Vec<String>>,
        }
        let reference = Reference::parse(&format!("{host}/x"))?;
        let endpoint = self.options.hosts.origin(&reference)?;
        let access = Access { reference, endpoint, scope: "registry:catalog:*".to_owned(), others: false };
        let first = self.place(&access, "_catalog")?;
        let names = self.pages(&access, first, |page: Page| page.repositories.unwrap_or_default())?;
        let found = names.into_iter().filter(|name| name.contains(term));
        Ok(found
            .map(|name| SearchResult { name: format!("{host}/{name}"), ..SearchResult::default() })
            .collect())
    }

    /// Searches Docker Hub for `term`, or another registry for `HOST/TERM`; returns at most `limit` repositories.
    ///
    /// # Errors
    /// As for [`Client::find`].
    pub fn search(&self, term: &str, limit: usize) -> Result<Vec<SearchResult>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default, deserialize_with = "or_default")]
            results: Vec<SearchResult>,
        }
        let first = term.split('/').next().unwrap_or_default();
        let host = (first.contains(['.', ':']) || first == "localhost").then_some(first);
        let host = host.unwrap_or(DEFAULT_DOMAIN);
        let words = term.strip_prefix(host).map_or(term, |rest| rest.trim_start_matches('/'));
        let reference = Reference::parse(&format!("{host}/library/x"))?;
        let mut endpoint = self.options.hosts.origin(&reference)?;
        // If registries.conf replaces Docker Hub by another registry, that one is not special.
        let hub = endpoint.host == real(DEFAULT_DOMAIN);
        if hub {
            endpoint.host = "index.docker.io".to_owned();
        }
        let access = Access { reference, endpoint, scope: String::new(), others: false };
        // The search is an endpoint of the registry protocol's first version.
        let search = self.place(&access, "")?.with_path("/v1/search").with_query("q", words);
        let call = Call::new(Method::GET, search.with_query("n", &limit.min(100).to_string()));
        if !hub {
            let found = self
                .send(&access, &call, &[])
                .and_then(|(answer, _)| answer.into_bytes(PAGE_LIMIT, "search"));
            let parsed = found.ok().and_then(|bytes| serde_json::from_slice::<Answer>(&bytes).ok());
            let found = match parsed {
                Some(answer) => answer.results,
                None => self.catalog(host, words)?,
            };
            return Ok(found.into_iter().take(limit).collect());
        }
        let bytes = self.send(&access, &call, &[])?.0.into_bytes(PAGE_LIMIT, "search")?;
        let answer: Answer =
            serde_json::from_slice(&bytes).map_err(|e| without_values(&e)).doing(|| "search")?;
        Ok(answer.results.into_iter().take(limit).collect())
    }

    /// Fetches all pages of a list: follows `Link: <...>; rel="next"` within the same registry. A list that goes on elsewhere is an
    /// error: it would look complete.
    fn pages<P: for<'de> Deserialize<'de>>(
        &self,
        access: &Access,
        mut place: Place,
        items: impl Fn(P) -> Vec<String>,
    ) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let (answer, at) = self.send(access, &Call::new(Method::GET, place.clone()), &[])?;
            let next = answer.header("link").and_then(next_link).map(|link| at.next(link));
            let bytes = answer.into_bytes(PAGE_LIMIT, "list")?;
            let page: P = serde_json::from_slice(&bytes).map_err(|e| without_values(&e)).doing(|| "list")?;
            all.extend(items(page));
            if all.len() > MAX_ENTRIES {
                return Err(Error::limit(format!("list: more than {MAX_ENTRIES} entries")));
            }
            match next {
                Some(Ok(next)) if !next.takes_credentials() => {
                    let message = format!("{at} refers to {next} for more: another host than the registry");
                    return Err(Error::new(ErrorKind::Denied, message));
                }
                // A page that follows itself is the last one.
                Some(Ok(next)) if next.url() == place.url() => return Ok(all),
                Some(Ok(next)) => place = next,
                Some(Err(error)) => return Err(error.context("list")),
                None => return Ok(all),
            }
        }
        Err(Error::limit(format!("list: more than {MAX_PAGES} pages")))
    }
}

fn next_link(header: &str) -> Option<&str> {
    let (link, rest) = header.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then_some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_link_to_the_next_page_counts() {
        assert_eq!(next_link(r#"</v2/_catalog?last=a&n=1>; rel="next""#), Some("/v2/_catalog?last=a&n=1"));
        assert_eq!(next_link(r#"</v2/x>; rel="prev""#), None);
        assert_eq!(next_link("nonsense"), None);
    }
}
