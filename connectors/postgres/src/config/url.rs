//! `postgres://` URLs, as libpq writes them ("Connection URIs"), without what a walsender client
//! cannot honour: an option that would be ignored is refused.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rowtide_net::{EscapeError, Roots, UrlParts, host_and_port, split_url, unescaped};
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

/// Which of several servers is wanted: libpq's `target_session_attrs`, decided by what a server
/// reports of itself at the login (`in_hot_standby`, `default_transaction_read_only`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionAttrs {
    /// The first one that takes the connection.
    #[default]
    Any,
    /// One whose transactions may write.
    ReadWrite,
    /// One that is no standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby where there is one, else any.
    PreferStandby,
}

impl SessionAttrs {
    /// As the URL names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }
}

/// How to connect, validated.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Where the server listens: of several, the first, or the one that was chosen.
    pub target: Target,
    /// Every place to try, in this order; `target` alone once one was chosen.
    pub targets: Vec<Target>,
    /// The address of `target` that was chosen, where its name has several.
    pub address: Option<SocketAddr>,
    /// Which of the servers is wanted.
    pub session_attrs: SessionAttrs,
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
const PARAMETERS: &str = "host, port, user, password, dbname, target_session_attrs, sslmode, \
    sslrootcert, sslcert, sslkey, channel_binding, application_name and connect_timeout are known";

/// The part that the settings have a place of its own for.
const PASSWORD: &str = "the password";

/// What the URL says so far.
#[derive(Default)]
struct Parts {
    hosts: Vec<String>,
    /// One for each host, or one for all; an empty one is the default.
    ports: Vec<String>,
    session_attrs: Option<SessionAttrs>,
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
    let url = match split_url(rest) {
        Ok(url) => url,
        Err(error) => {
            problems.push(problem(codes::URL, format!("`url` {error}"), error.remedy()));
            return None;
        }
    };
    let mut parts = Parts::default();
    let mut reader = Reader { parts: &mut parts, problems };
    reader.login(&url);
    reader.places(&url.places);
    if !url.path.is_empty() {
        reader.parts.database =
            Some(reader.decoded("the database's name", url.path).unwrap_or_default());
    }
    for (name, value) in url.parameters {
        reader.parameter(name, value);
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
        for place in places {
            let Some((host, port)) = host_and_port(place) else {
                return self.refuse(codes::URL, "`url`: the host cannot be read", FORM);
            };
            let Some(host) = self.decoded("the host", host) else { return };
            self.parts.hosts.push(host);
            self.parts.ports.push(port.to_owned());
        }
        // Nothing is named here: the parameters do.
        if self.parts.hosts.iter().all(String::is_empty) {
            self.parts.hosts.clear();
        }
        if self.parts.ports.iter().all(String::is_empty) {
            self.parts.ports.clear();
        }
    }

    fn parameter(&mut self, name: &str, value: &str) {
        let Some(value) = self.decoded(&format!("the parameter `{name}`"), value) else { return };
        match name {
            _ if value.is_empty() => {}
            "host" => self.parts.hosts = value.split(',').map(str::to_owned).collect(),
            "port" => self.parts.ports = value.split(',').map(str::to_owned).collect(),
            "target_session_attrs" => match session_attrs(&value) {
                Some(attrs) => self.parts.session_attrs = Some(attrs),
                None => {
                    self.bad_value(name, "any, read-write, primary, standby or prefer-standby");
                }
            },
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

fn session_attrs(value: &str) -> Option<SessionAttrs> {
    use SessionAttrs::{Any, PreferStandby, Primary, ReadWrite, Standby};
    [Any, ReadWrite, Primary, Standby, PreferStandby].into_iter().find(|a| a.name() == value)
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
    let ports = ports(&parts, problems);
    let mut need = |part: Option<String>, what: &str, remedy: &str| {
        if part.is_none() {
            problems.push(problem(codes::URL, format!("`url` names no {what}"), remedy));
        }
        part
    };
    let socket = "write it as postgres://user@host:5432/database, or \
        postgres://user@/database?host=/var/run/postgresql for a unix socket folder";
    need(parts.hosts.first().cloned(), "host", socket);
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
    let mut targets = Vec::with_capacity(parts.hosts.len());
    for (host, port) in parts.hosts.into_iter().zip(ports) {
        targets.push(target(host, port, problems)?);
    }
    Some(ConnectOptions {
        target: targets.first()?.clone(),
        targets,
        address: None,
        session_attrs: parts.session_attrs.unwrap_or_default(),
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

/// One port for each host.
fn ports(parts: &Parts, problems: &mut Vec<Finding>) -> Vec<u16> {
    let hosts = parts.hosts.len();
    if parts.hosts.len() > 1 && parts.hosts.iter().any(String::is_empty) {
        problems.push(problem(
            codes::SEVERAL_HOSTS,
            "`url` names several hosts, one of them empty",
            "",
        ));
    }
    if !matches!(parts.ports.len(), 0 | 1) && parts.ports.len() != hosts {
        problems.push(problem(
            codes::SEVERAL_HOSTS,
            format!("`url` names {hosts} hosts and {} ports", parts.ports.len()),
            "give one port for each host, or one for all",
        ));
    }
    let mut ports = Vec::with_capacity(hosts);
    for number in 0..hosts.max(1) {
        let text = parts.ports.get(number).or_else(|| parts.ports.first());
        match text.map(String::as_str).filter(|text| !text.is_empty()).map_or(Ok(5432), str::parse)
        {
            Ok(port @ 1..) => ports.push(port),
            _ => {
                let message = "`url`: the port must be between 1 and 65535";
                problems.push(problem(codes::URL, message, ""));
            }
        }
    }
    ports
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

impl ConnectOptions {
    /// The places to connect to, for messages: `h1:5432,h2:5432`.
    pub fn places(&self) -> String {
        self.targets.iter().map(Target::to_string).collect::<Vec<_>>().join(",")
    }

    /// For one of the places alone.
    pub(crate) fn at(&self, target: &Target, address: Option<SocketAddr>) -> Self {
        let targets = vec![target.clone()];
        Self { target: target.clone(), targets, address, ..self.clone() }
    }
}

/// The URL without the password, for messages.
pub(crate) fn describe(options: &ConnectOptions) -> Cow<'static, str> {
    format!("{}, database {}, user {}", options.target, options.database, options.user).into()
}
