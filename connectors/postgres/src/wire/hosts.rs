//! Several servers, and names with several addresses: tried in order until one is what
//! `target_session_attrs` asks for.
//!
//! As libpq does ("Specifying Multiple Hosts"), with one difference: a server that refuses the login
//! does not end the search.

use rowtide_net::resolve;
use rowtide_sdk::{Class, Error, Origin};

use super::transport::unreachable;
use crate::config::{ConnectOptions, SessionAttrs, Target};
use crate::error::codes;

/// What a server reports of itself at the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Role {
    is_standby: bool,
    /// Whether transactions may not write, by default.
    is_read_only: bool,
}

impl Role {
    /// From the parameters that a server reports by itself since version 14.
    pub(super) fn reported<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> Self {
        let is_on = |name| parameter(name) == Some("on");
        let is_standby = is_on("in_hot_standby");
        Self { is_standby, is_read_only: is_standby || is_on("default_transaction_read_only") }
    }

    fn words(self) -> &'static str {
        match self {
            Self { is_standby: true, .. } => "a standby",
            Self { is_read_only: true, .. } => "a primary that takes no writes by default",
            _ => "a primary",
        }
    }

    fn fits(self, wanted: SessionAttrs) -> bool {
        match wanted {
            SessionAttrs::Any | SessionAttrs::PreferStandby => true,
            SessionAttrs::ReadWrite => !self.is_read_only,
            SessionAttrs::Primary => !self.is_standby,
            SessionAttrs::Standby => self.is_standby,
        }
    }
}

/// The servers still to be tried, and what became of the others.
pub(super) struct Search {
    /// In reverse order.
    left: Vec<(ConnectOptions, SessionAttrs)>,
    has_several: bool,
    failures: Vec<Error>,
    /// What was reached and is not wanted, in words.
    unfit: Vec<String>,
    wanted: SessionAttrs,
}

impl Search {
    /// Resolves the names of all servers.
    pub(super) async fn begin(options: &ConnectOptions) -> Self {
        let mut failures = Vec::new();
        let mut places = Vec::new();
        for target in &options.targets {
            match (options.address, target) {
                (None, Target::Tcp { host, port }) => {
                    match resolve(host, *port, options.connect_timeout).await {
                        Ok(found) => places.extend(
                            found.into_iter().map(|address| options.at(target, Some(address))),
                        ),
                        Err(error) => failures.push(unreachable(&options.at(target, None), error)),
                    }
                }
                (address, _) => places.push(options.at(target, address)),
            }
        }
        let wanted = options.session_attrs;
        let passes: &[SessionAttrs] = match wanted {
            SessionAttrs::PreferStandby => &[SessionAttrs::Any, SessionAttrs::Standby],
            _ => &[wanted],
        };
        let mut left = Vec::new();
        for pass in passes {
            left.extend(places.iter().rev().map(|place| (place.clone(), *pass)));
        }
        Self { left, has_several: options.targets.len() > 1, failures, unfit: Vec::new(), wanted }
    }

    /// The next server to try, and what it must be.
    pub(super) fn next(&mut self) -> Option<(ConnectOptions, SessionAttrs)> {
        self.left.pop()
    }

    /// Whether a server that took the connection is the one; else the search goes on.
    pub(super) fn accepts(
        &mut self,
        at: &ConnectOptions,
        wanted: SessionAttrs,
        role: Role,
    ) -> bool {
        if role.fits(wanted) {
            return true;
        }
        self.unfit.push(format!("{} is {}", at.target, role.words()));
        false
    }

    /// A server could not be used.
    pub(super) fn failed(&mut self, error: Error) {
        self.failures.push(error);
    }

    /// Why no server was found.
    pub(super) fn error(mut self) -> Error {
        if self.unfit.is_empty() && (!self.has_several || self.failures.len() == 1) {
            // Of one name's addresses the one that was reached tells most, else any.
            let telling = self.failures.iter().position(|error| error.class() == Class::Fatal);
            let telling = telling.unwrap_or_else(|| self.failures.len().saturating_sub(1));
            if telling < self.failures.len() {
                return self.failures.swap_remove(telling);
            }
        }
        let wanted = self.wanted.name();
        let all = self.failures.iter().map(Error::message_with_causes);
        let mut words: Vec<String> = Vec::new();
        for one in self.unfit.iter().cloned().chain(all) {
            if !words.contains(&one) {
                words.push(one);
            }
        }
        let first = |class| self.failures.iter().find(|error: &&Error| error.class() == class);
        let (class, code) =
            match (self.unfit.is_empty(), first(Class::Transient), first(Class::Fatal)) {
                (true, None, Some(error)) => (Class::Fatal, error.code()),
                (true, Some(error), _) => (Class::Transient, error.code()),
                _ => (Class::Transient, codes::NO_FITTING_SERVER),
            };
        let message = format!(
            "none of the servers can be used (target_session_attrs={wanted}): {}",
            words.join("; ")
        );
        Error::new(class, Origin::Source, code, message)
            .with_remedy("check the hosts and `target_session_attrs` in `url`")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::PostgresConfig;

    fn options(url: &str) -> ConnectOptions {
        let config: PostgresConfig = serde_json::from_value(serde_json::json!({
            "url": url, "slot": "s", "publication": "p"
        }))
        .unwrap();
        config.connect_options(Path::new(".")).unwrap()
    }

    fn role(standby: &'static str, read_only: &'static str) -> Role {
        Role::reported(|name| match name {
            "in_hot_standby" => Some(standby),
            "default_transaction_read_only" => Some(read_only),
            _ => None,
        })
    }

    #[test]
    fn a_server_is_what_it_reports() {
        use SessionAttrs::{Any, Primary, ReadWrite, Standby};
        let table = [
            (role("off", "off"), [true, true, true, false]),
            (role("off", "on"), [true, false, true, false]),
            (role("on", "off"), [true, false, false, true]),
        ];
        for (role, expected) in table {
            let found = [Any, ReadWrite, Primary, Standby].map(|wanted| role.fits(wanted));
            assert_eq!(found, expected, "{role:?}");
        }
    }

    #[tokio::test]
    async fn servers_are_tried_in_order_and_standbys_first_where_preferred() {
        let url = "postgres://u@127.0.0.1:1,127.0.0.2:2/db?target_session_attrs=prefer-standby";
        let mut search = Search::begin(&options(url)).await;
        let mut tried = Vec::new();
        while let Some((at, wanted)) = search.next() {
            assert_eq!(at.targets.len(), 1);
            tried.push((at.address.unwrap().port(), wanted.name()));
            if !search.accepts(&at, wanted, role("off", "off")) {
                continue;
            }
            break;
        }
        assert_eq!(tried, [(1, "standby"), (2, "standby"), (1, "any")]);
    }

    #[tokio::test]
    async fn the_error_names_every_server() {
        let url = "postgres://u@127.0.0.1:1,127.0.0.1:2/db?target_session_attrs=primary";
        let mut search = Search::begin(&options(url)).await;
        let (at, wanted) = search.next().unwrap();
        assert!(!search.accepts(&at, wanted, role("on", "off")));
        let (at, _) = search.next().unwrap();
        search.failed(unreachable(&at, std::io::ErrorKind::ConnectionRefused.into()));
        assert!(search.next().is_none());
        let error = search.error();
        assert_eq!((error.code(), error.class()), (codes::NO_FITTING_SERVER, Class::Transient));
        for words in ["127.0.0.1:1 is a standby", "127.0.0.1:2"] {
            assert!(error.message().contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn one_server_keeps_its_own_error() {
        let mut search = Search::begin(&options("postgres://u@127.0.0.1:1/db")).await;
        let (at, _) = search.next().unwrap();
        search.failed(unreachable(&at, std::io::ErrorKind::ConnectionRefused.into()));
        assert_eq!(search.error().code(), codes::UNREACHABLE);
    }
}
