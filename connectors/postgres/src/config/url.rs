//! `postgres://` URLs, as libpq writes them ("Connection URIs"), without what a walsender client
//! cannot honour: an option that would be ignored is refused.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rowtide_sdk::{Code, Finding, Secret};

use super::{is_application_name, problem};
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
    /// A unix socket: the file `.s.PGSQL.<port>` in a folder.
    Unix {
        /// The folder.
        folder: PathBuf,
        /// The port in the file's name.
        port: u16,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { folder, port } => write!(f, "{}/.s.PGSQL.{port}", folder.display()),
        }
    }
}

/// How much TLS is asked for, as in libpq ("SSL Mode Descriptions"). Over a unix socket there is
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS where the server has it; nothing is verified.
    Prefer,
    /// TLS always; the certificate is verified only where `sslrootcert` is given.
    Require,
    /// TLS with a certificate of a trusted authority, for any host.
    VerifyCa,
    /// TLS with a certificate of a trusted authority for this host.
    VerifyFull,
}

/// Whom to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The authorities of the operating system.
    System,
    /// The certificates of a PEM file.
    File(PathBuf),
}

/// Whether SCRAM must be tied to the TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where both sides can.
    Prefer,
    /// Always: any other login is refused.
    Require,
}

/// What is asked of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// `sslmode`.
    pub mode: SslMode,
    /// `sslrootcert`; where it is not given, the system's.
    pub roots: Roots,
    /// `sslcert` and `sslkey`, PEM files.
    pub client: Option<(PathBuf, PathBuf)>,
    /// `channel_binding`.
    pub channel_binding: ChannelBinding,
}

/// How to connect, validated.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Where the server listens.
    pub target: Target,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The password, if there is one.
    pub password: Option<Secret>,
    /// What is asked of TLS.
    pub tls: TlsOptions,
    /// How connections name themselves.
    pub application_name: String,
    /// How long one attempt may take, login included.
    pub connect_timeout: Duration,
    /// The session's `logical_decoding_work_mem`, where it is not the server's.
    pub logical_decoding_work_mem: Option<String>,
    pub(super) names_application: bool,
    pub(super) url_connect_timeout: Option<Duration>,
}

const FORM: &str = "write it as postgres://user@host:5432/database?sslmode=verify-full";
const PARAMETERS: &str = "host, port, user, password, dbname, sslmode, sslrootcert, sslcert, \
    sslkey, channel_binding, application_name and connect_timeout are known";

/// What the URL says so far.
#[derive(Default)]
struct Parts {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    mode: Option<SslMode>,
    root: Option<String>,
    cert: Option<String>,
    key: Option<String>,
    channel_binding: Option<ChannelBinding>,
    application_name: Option<String>,
    connect_timeout: Option<Duration>,
}

/// Parses the URL; what is wrong with it is added to `problems`. No message quotes the URL, which
/// may hold a password.
pub(super) fn parse(
    url: &str,
    folder: &Path,
    problems: &mut Vec<Finding>,
) -> Option<ConnectOptions> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let Some(rest) = rest else {
        problems.push(problem(codes::URL, "`url` does not start with postgres://", FORM));
        return None;
    };
    if rest.contains('#') {
        problems.push(problem(codes::URL, "`url` holds a #", "write # as %23"));
        return None;
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    let mut parts = Parts::default();
    let mut reader = Reader { parts: &mut parts, problems };
    reader.authority(authority);
    if !path.is_empty() {
        reader.parts.database = reader.decoded("the database's name", path);
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        reader.parameter(pair);
    }
    finish(parts, folder, problems)
}

struct Reader<'a> {
    parts: &'a mut Parts,
    problems: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    fn refuse(&mut self, code: Code, message: impl Into<String>, remedy: &str) {
        self.problems.push(problem(code, message, remedy));
    }

    fn decoded(&mut self, what: &str, text: &str) -> Option<String> {
        match percent_decode_str(text).decode_utf8() {
            Ok(text) if !text.contains('\0') => Some(text.into_owned()),
            _ => {
                let message = format!("`url`: {what} is not valid percent-encoded UTF-8");
                self.refuse(codes::URL, message, "");
                None
            }
        }
    }

    /// `user:password@host:port`, each part optional.
    fn authority(&mut self, authority: &str) {
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, authority),
        };
        if let Some(login) = login {
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            if !user.is_empty() {
                self.parts.user = self.decoded("the user", user);
            }
            if let Some(password) = password.filter(|password| !password.is_empty()) {
                self.parts.password = self.decoded("the password", password);
            }
        }
        if address.contains(',') {
            self.several_hosts();
            return;
        }
        let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return self.refuse(codes::URL, "`url`: the host cannot be read", FORM),
            },
            None => match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        if !host.is_empty() {
            self.parts.host = self.decoded("the host", host);
        }
        self.parts.port = port.filter(|port| !port.is_empty()).map(str::to_owned);
    }

    fn several_hosts(&mut self) {
        // Only so that a missing host is not complained about as well.
        self.parts.host = Some(String::new());
        self.refuse(
            codes::SEVERAL_HOSTS,
            "`url` names several hosts",
            "a replication slot lives on one server: name that one, or a name that always leads to \
             the primary",
        );
    }

    fn parameter(&mut self, pair: &str) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(value) = self.decoded(&format!("the parameter `{name}`"), value) else { return };
        match name {
            "host" | "hostaddr" | "port" if value.contains(',') => self.several_hosts(),
            _ if value.is_empty() => {}
            "host" => self.parts.host = Some(value),
            "port" => self.parts.port = Some(value),
            "user" => self.parts.user = Some(value),
            "password" => self.parts.password = Some(value),
            "dbname" => self.parts.database = Some(value),
            "sslrootcert" => self.parts.root = Some(value),
            "sslcert" => self.parts.cert = Some(value),
            "sslkey" => self.parts.key = Some(value),
            "application_name" if is_application_name(&value) => {
                self.parts.application_name = Some(value);
            }
            "connect_timeout" => match value.parse() {
                Ok(seconds @ 1..=600) => {
                    self.parts.connect_timeout = Some(Duration::from_secs(seconds));
                }
                _ => self.bad_value(name, "a number of seconds between 1 and 600"),
            },
            "sslmode" => match ssl_mode(&value) {
                Some(mode) => self.parts.mode = Some(mode),
                None => {
                    self.bad_value(name, "disable, prefer, require, verify-ca or verify-full");
                }
            },
            "channel_binding" => match &*value {
                "disable" => self.parts.channel_binding = Some(ChannelBinding::Disable),
                "prefer" => self.parts.channel_binding = Some(ChannelBinding::Prefer),
                "require" => self.parts.channel_binding = Some(ChannelBinding::Require),
                _ => self.bad_value(name, "disable, prefer or require"),
            },
            "application_name" => self.bad_value(name, "1 to 63 printable ASCII characters"),
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

fn ssl_mode(value: &str) -> Option<SslMode> {
    Some(match value {
        "disable" => SslMode::Disable,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => return None,
    })
}

fn finish(parts: Parts, folder: &Path, problems: &mut Vec<Finding>) -> Option<ConnectOptions> {
    let port = match parts.port.as_deref().map_or(Ok(5432), str::parse) {
        Ok(port @ 1..) => port,
        _ => {
            problems.push(problem(codes::URL, "`url`: the port must be between 1 and 65535", ""));
            0
        }
    };
    let mut need = |part: Option<String>, what: &str, remedy: &str| {
        if part.is_none() {
            problems.push(problem(codes::URL, format!("`url` names no {what}"), remedy));
        }
        part
    };
    let socket = "write it as postgres://user@host:5432/database, or \
        postgres://user@/database?host=/var/run/postgresql for a unix socket folder";
    let host = need(parts.host, "host", socket);
    let user = need(parts.user, "user", FORM);
    let database = need(parts.database, "database", FORM);
    let client = match (parts.cert, parts.key) {
        (Some(cert), Some(key)) => Some((folder.join(cert), folder.join(key))),
        (None, None) => None,
        _ => {
            problems.push(problem(
                codes::SETTING,
                "`url`: sslcert and sslkey belong together, and one of them is missing",
                "",
            ));
            None
        }
    };
    let has_roots = parts.root.is_some();
    let (roots, default_mode) = match parts.root.as_deref() {
        None => (Roots::System, SslMode::Prefer),
        // As libpq: trusting the system's authorities makes sense only with the host's name.
        Some("system") => (Roots::System, SslMode::VerifyFull),
        Some(file) => (Roots::File(folder.join(file)), SslMode::Prefer),
    };
    let mode = parts.mode.unwrap_or(default_mode);
    check_tls(mode, parts.root.as_deref(), client.is_some(), problems);
    // libpq verifies the chain when a root is given, for the sake of older configurations.
    let mode = if mode == SslMode::Require && has_roots { SslMode::VerifyCa } else { mode };
    if !problems.is_empty() {
        return None;
    }
    Some(ConnectOptions {
        target: target(host?, port, problems)?,
        user: user?,
        database: database?,
        password: parts.password.map(Secret::new),
        tls: TlsOptions {
            mode,
            roots,
            client,
            channel_binding: parts.channel_binding.unwrap_or(ChannelBinding::Prefer),
        },
        names_application: parts.application_name.is_some(),
        application_name: parts.application_name.unwrap_or_default(),
        connect_timeout: Duration::from_secs(10),
        url_connect_timeout: parts.connect_timeout,
        logical_decoding_work_mem: None,
    })
}

/// Settings of TLS that would have no effect are refused: somebody believes in them.
fn check_tls(mode: SslMode, root: Option<&str>, has_client: bool, problems: &mut Vec<Finding>) {
    let unused = match (mode, root) {
        (SslMode::Disable, Some(_)) => Some("sslrootcert has no effect with sslmode=disable"),
        (SslMode::Disable, None) if has_client => {
            Some("sslcert has no effect with sslmode=disable")
        }
        (SslMode::Prefer, Some(_)) => {
            Some("sslrootcert has no effect with sslmode=prefer, which verifies nothing")
        }
        (SslMode::Require | SslMode::VerifyCa, Some("system")) => {
            Some("sslrootcert=system needs sslmode=verify-full")
        }
        _ => None,
    };
    if let Some(unused) = unused {
        problems.push(problem(
            codes::SETTING,
            format!("`url`: {unused}"),
            "use sslmode=verify-full, or verify-ca where the host's name is not in the certificate",
        ));
    }
}

fn target(host: String, port: u16, problems: &mut Vec<Finding>) -> Option<Target> {
    if !host.starts_with('/') {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:%".contains(&byte);
        if host.bytes().all(is_name) {
            return Some(Target::Tcp { host, port });
        }
        problems.push(problem(codes::URL, "`url`: the host cannot be read", FORM));
        return None;
    }
    Some(Target::Unix { folder: PathBuf::from(host), port })
}

/// The URL without the password, for messages.
pub(crate) fn describe(options: &ConnectOptions) -> Cow<'static, str> {
    format!("{}, database {}, user {}", options.target, options.database, options.user).into()
}
