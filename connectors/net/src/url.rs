//! The URLs of databases: `user:password@host:port,host:port/path?name=value&name=value`, behind the scheme.

use thiserror::Error;

/// The parts of a URL as they are written, escapes and all; each may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlParts<'a> {
    /// Who logs in.
    pub user: Option<&'a str>,
    /// What to log in with.
    pub password: Option<&'a str>,
    /// The servers, see [`host_and_port`]; one that is empty where none is named.
    pub places: Vec<&'a str>,
    /// Behind the first slash.
    pub path: &'a str,
    /// Names and values, in their order.
    pub parameters: Vec<(&'a str, &'a str)>,
}

/// Why a URL cannot be taken apart. Quotes nothing of it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UrlError {
    /// What is behind a `#` is for browsers.
    #[error("holds a #")]
    Fragment,
    /// A part of the password would be taken for a host or a name, and be shown.
    #[error("holds an @ behind a / or a ?")]
    LateAt,
}

impl UrlError {
    /// What mends it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Fragment => "write # as %23",
            Self::LateAt => {
                "write @ as %40, / as %2F and ? as %3F in the user, the password and the name"
            }
        }
    }
}

/// Takes the part of a URL behind `scheme://` apart.
///
/// # Errors
/// Where it cannot be told which part is which.
pub fn split_url(rest: &str) -> Result<UrlParts<'_>, UrlError> {
    if rest.contains('#') {
        return Err(UrlError::Fragment);
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    if path.contains('@') || query.contains('@') && !authority.contains('@') {
        return Err(UrlError::LateAt);
    }
    let (login, places) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    Ok(UrlParts {
        user: Some(user).filter(|user| !user.is_empty()),
        password: Some(password).filter(|password| !password.is_empty()),
        places: places.split(',').collect(),
        path,
        parameters: pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect(),
    })
}

/// `host:port`, either of them possibly empty; an IPv6 address stands in brackets.
pub fn host_and_port(place: &str) -> Option<(&str, &str)> {
    match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            if port.is_empty() { Some((host, "")) } else { Some((host, port.strip_prefix(':')?)) }
        }
        None => Some(place.split_once(':').unwrap_or((place, ""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_may_be_missing() {
        let parts = split_url("me:a:b@x@one:1,[::1]:2/shop?a=1=2&&b").unwrap();
        assert_eq!((parts.user, parts.password), (Some("me"), Some("a:b@x")));
        assert_eq!((parts.places, parts.path), (vec!["one:1", "[::1]:2"], "shop"));
        assert_eq!(parts.parameters, [("a", "1=2"), ("b", "")]);
        let parts = split_url("").unwrap();
        assert_eq!((parts.user, parts.password, parts.path), (None, None, ""));
        assert_eq!((parts.places, parts.parameters), (vec![""], vec![]));
        assert_eq!(split_url(":@h").unwrap().user, None);
    }

    #[test]
    fn what_may_be_a_password_is_not_taken_for_another_part() {
        for url in ["me:a/b@host/shop", "me:a?b@host/shop"] {
            assert_eq!(split_url(url), Err(UrlError::LateAt), "{url}");
        }
        assert_eq!(split_url("me:a#b@host/shop"), Err(UrlError::Fragment));
        assert!(split_url("me:secret@host/shop?user=a@b").is_ok());
    }

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for (place, parts) in [
            ("", Some(("", ""))),
            ("h", Some(("h", ""))),
            ("h:1", Some(("h", "1"))),
            (":1", Some(("", "1"))),
            ("[::1]", Some(("::1", ""))),
            ("[::1]:7", Some(("::1", "7"))),
            ("[::1", None),
            ("[::1]7", None),
        ] {
            assert_eq!(host_and_port(place), parts, "{place}");
        }
    }
}
