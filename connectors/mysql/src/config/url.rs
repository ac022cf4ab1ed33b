//! `mysql://` URLs, with the names that MySQL's own clients give to parameters ("Connecting to the
//! Server Using URI-Like Strings"). An option that would be ignored is refused.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rowtide_net::{EscapeError, Roots, UrlParts, host_and_port, split_url, unescaped};
use rowtide_sdk::{Code, Finding, Secret};

use super::problem;
use crate::error::codes;

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A host name or address.
    Tcp {
        /// The name, or an address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// The file of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How much TLS is asked for, as MySQL's clients name it. Over a unix socket there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disabled,
    /// TLS where the server has it; nothing is verified.
    Preferred,
    /// TLS always; nothing is verified.
    Required,
    /// TLS with a certificate of a trusted authority, for any host.
    VerifyCa,
    /// TLS with a certificate of a trusted authority for this host.
    VerifyIdentity,
}

impl SslMode {
    const ALL: [Self; 5] =
        [Self::Disabled, Self::Preferred, Self::Required, Self::VerifyCa, Self::VerifyIdentity];

    /// As the URL names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "DISABLED",
            Self::Preferred => "PREFERRED",
            Self::Required => "REQUIRED",
            Self::VerifyCa => "VERIFY_CA",
            Self::VerifyIdentity => "VERIFY_IDENTITY",
        }
    }

    fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyIdentity)
    }
}

/// What is asked of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// `ssl-mode`.
    pub mode: SslMode,
    /// `ssl-ca`; where it is not given, the system's.
    pub roots: Roots,
    /// `ssl-cert` and `ssl-key`, PEM files.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How to connect, validated.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Every place to try, in this order; there is at least one.
    pub targets: Vec<Target>,
    /// The address that was chosen, where `targets` is one name that has several.
    pub address: Option<SocketAddr>,
    /// The user.
    pub user: String,
    /// The password, if there is one.
    pub password: Option<Secret>,
    /// The database, if the session is to have one.
    pub database: Option<String>,
    /// What is asked of TLS.
    pub tls: TlsOptions,
    /// How long one attempt may take, login included.
    pub connect_timeout: Duration,
    /// Whether the server may be asked for the key that a password is encrypted by where there is no
    /// TLS. Whoever stands between can give a key of his own, and learn the password.
    pub get_server_public_key: bool,
    /// The file of that key, PEM.
    pub server_public_key: Option<PathBuf>,
}

const FORM: &str = "write it as mysql://user@host:3306/?ssl-mode=VERIFY_IDENTITY";
const PARAMETERS: &str = "ssl-mode, ssl-ca, ssl-cert, ssl-key, socket, connect-timeout, \
    get-server-public-key and server-public-key are known";

/// The part that the settings have a place of its own for.
const PASSWORD: &str = "the password";

/// What the URL says so far.
#[derive(Default)]
struct Parts {
    targets: Vec<Target>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    socket: Option<PathBuf>,
    mode: Option<SslMode>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    connect_timeout: Option<Duration>,
    get_server_public_key: bool,
    server_public_key: Option<PathBuf>,
}

impl ConnectOptions {
    /// Reads a URL. `folder` is the folder that relative paths of files start from.
    ///
    /// # Errors
    /// Every problem at once. None of them quotes the URL, which may hold a password.
    pub fn parse(url: &str, folder: &Path) -> Result<Self, Vec<Finding>> {
        let mut problems = Vec::new();
        let options = parse(url, folder, &mut problems);
        options.filter(|_| problems.is_empty()).ok_or(problems)
    }

    /// The places to connect to, for messages: `h1:3306,h2:3306`.
    pub fn places(&self) -> String {
        self.targets.iter().map(Target::to_string).collect::<Vec<_>>().join(",")
    }

    /// For one of the places alone.
    pub(crate) fn at(&self, target: &Target, address: Option<SocketAddr>) -> Self {
        Self { targets: vec![target.clone()], address, ..self.clone() }
    }

    /// The URL without the password, for messages.
    pub(crate) fn describe(&self) -> String {
        format!("{}, user {}", self.places(), self.user)
    }
}

fn parse(url: &str, folder: &Path, problems: &mut Vec<Finding>) -> Option<ConnectOptions> {
    let rest = url.strip_prefix("mysql://").or_else(|| url.strip_prefix("mariadb://"));
    let Some(rest) = rest else {
        problems.push(problem(
            codes::URL,
            "`url` does not start with mysql:// or mariadb://",
            FORM,
        ));
        return None;
    };
    let url = match split_url(rest) {
        Ok(url) => url,
        Err(error) => {
            problems.push(problem(codes::URL, format!("`url` {error}"), error.remedy()));
            return None;
        }
    };
    let mut reader = Reader { parts: Parts::default(), folder, problems };
    reader.login(&url);
    reader.places(&url.places);
    if !url.path.is_empty() {
        reader.parts.database = reader.decoded("the database's name", url.path);
    }
    for (name, value) in url.parameters {
        reader.parameter(name, value);
    }
    finish(reader.parts, problems)
}

struct Reader<'a> {
    parts: Parts,
    folder: &'a Path,
    problems: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    fn refuse(&mut self, code: Code, message: impl Into<String>, remedy: &str) {
        self.problems.push(problem(code, message, remedy));
    }

    fn decoded(&mut self, what: &str, text: &str) -> Option<String> {
        let refuse = |error: EscapeError| {
            let message = format!("`url`: {what} {error}");
            let or = if what == PASSWORD { ", or put it into `password`, as it is" } else { "" };
            self.refuse(codes::URL, message, &format!("{}{or}", error.remedy()));
        };
        unescaped(text).map_err(refuse).ok()
    }

    fn login(&mut self, url: &UrlParts<'_>) {
        // One that cannot be read is not missing.
        self.parts.user = url.user.map(|user| self.decoded("the user", user).unwrap_or_default());
        self.parts.password = url.password.and_then(|password| self.decoded(PASSWORD, password));
    }

    fn places(&mut self, places: &[&str]) {
        if places == [""] {
            return;
        }
        for place in places {
            if let Some(target) = self.target(place) {
                self.parts.targets.push(target);
            }
        }
    }

    fn target(&mut self, place: &str) -> Option<Target> {
        let Some((host, port)) = host_and_port(place) else {
            self.refuse(codes::URL, "`url`: the host cannot be read", FORM);
            return None;
        };
        let host = self.decoded("the host", host)?;
        let port = match port {
            "" => Ok(3306),
            port => port.parse(),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:%".contains(&byte);
        match port {
            _ if host.is_empty() => {
                let message = "`url` names several hosts, or a port, and a host is empty";
                self.refuse(codes::SEVERAL_HOSTS, message, FORM);
            }
            _ if !host.bytes().all(is_name) => {
                self.refuse(codes::URL, "`url`: the host cannot be read", FORM);
            }
            Ok(port @ 1..) => return Some(Target::Tcp { host, port }),
            _ => self.refuse(codes::URL, "`url`: the port must be between 1 and 65535", ""),
        }
        None
    }

    fn parameter(&mut self, name: &str, value: &str) {
        let Some(value) = self.decoded(&format!("the parameter `{name}`"), value) else { return };
        let file = || Some(self.folder.join(&value));
        match name {
            _ if value.is_empty() => {}
            "ssl-ca" => self.parts.ca = file(),
            "ssl-cert" => self.parts.cert = file(),
            "ssl-key" => self.parts.key = file(),
            "server-public-key" => self.parts.server_public_key = file(),
            "socket" if value.starts_with('/') => self.parts.socket = Some(value.into()),
            "socket" => self.bad_value(name, "the path of a file, from / on"),
            "ssl-mode" => {
                let named = |mode: &SslMode| mode.name().eq_ignore_ascii_case(&value);
                match SslMode::ALL.into_iter().find(named) {
                    Some(mode) => self.parts.mode = Some(mode),
                    None => self.bad_value(
                        name,
                        "DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY",
                    ),
                }
            }
            "connect-timeout" => match value.parse() {
                Ok(seconds @ 1..=600) => {
                    self.parts.connect_timeout = Some(Duration::from_secs(seconds));
                }
                _ => self.bad_value(name, "a number of seconds between 1 and 600"),
            },
            "get-server-public-key" => match value.as_str() {
                "true" => self.parts.get_server_public_key = true,
                "false" => self.parts.get_server_public_key = false,
                _ => self.bad_value(name, "true or false"),
            },
            _ => {
                let message = format!("`url`: the parameter `{name}` is not known");
                self.refuse(codes::URL_PARAMETER, message, PARAMETERS);
            }
        }
    }

    fn bad_value(&mut self, name: &str, expected: &str) {
        let message = format!("`url`: the parameter `{name}` must be {expected}");
        self.refuse(codes::URL_PARAMETER, message, "");
    }
}

fn finish(parts: Parts, problems: &mut Vec<Finding>) -> Option<ConnectOptions> {
    let mode = parts.mode.unwrap_or(SslMode::Preferred);
    let client = match (parts.cert, parts.key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => {
            let message = "`url`: ssl-cert and ssl-key belong together, and one of them is missing";
            problems.push(problem(codes::SETTING, message, ""));
            None
        }
    };
    check_tls(mode, parts.ca.is_some(), client.is_some(), parts.socket.is_some(), problems);
    let targets = match parts.socket {
        Some(socket) => {
            let is_here =
                |target: &Target| matches!(target, Target::Tcp { host, .. } if host == "localhost");
            if !parts.targets.iter().all(is_here) {
                let message = "`url` names a host and a socket";
                problems.push(problem(codes::SEVERAL_HOSTS, message, "leave one of them out"));
            }
            vec![Target::Unix(socket)]
        }
        None => parts.targets,
    };
    if targets.is_empty() && problems.is_empty() {
        problems.push(problem(codes::URL, "`url` names no host", FORM));
    }
    if parts.user.is_none() {
        problems.push(problem(codes::URL, "`url` names no user", FORM));
    }
    Some(ConnectOptions {
        targets,
        address: None,
        user: parts.user?,
        password: parts.password.map(Secret::new),
        database: parts.database,
        tls: TlsOptions { mode, roots: parts.ca.map_or(Roots::System, Roots::File), client },
        connect_timeout: parts.connect_timeout.unwrap_or(Duration::from_secs(10)),
        get_server_public_key: parts.get_server_public_key,
        server_public_key: parts.server_public_key,
    })
}

/// Settings of TLS that would have no effect are refused: somebody believes in them.
fn check_tls(
    mode: SslMode,
    has_ca: bool,
    has_client: bool,
    has_socket: bool,
    problems: &mut Vec<Finding>,
) {
    let name = mode.name();
    let unused = if has_ca && !mode.verifies() {
        format!("ssl-ca has no effect with ssl-mode={name}, which verifies nothing")
    } else if has_client && mode == SslMode::Disabled {
        format!("ssl-cert has no effect with ssl-mode={name}")
    } else if has_socket && !matches!(mode, SslMode::Disabled | SslMode::Preferred) {
        format!("ssl-mode={name} has no effect with a socket, over which there is no TLS")
    } else {
        return;
    };
    let remedy = match has_socket {
        true => "leave it out",
        false => {
            "use ssl-mode=VERIFY_IDENTITY, or VERIFY_CA where the host's name is not in the certificate"
        }
    };
    problems.push(problem(codes::SETTING, format!("`url`: {unused}"), remedy));
}

#[cfg(test)]
mod tests;
