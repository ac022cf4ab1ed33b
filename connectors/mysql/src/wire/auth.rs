//! The ways to log in ("Authentication Methods"): mysql_native_password, caching_sha2_password,
//! sha256_password, MariaDB's client_ed25519, and mysql_clear_password over TLS.
//!
//! A password never leaves in clear where somebody on a network could listen. Over TCP without TLS
//! caching_sha2_password and sha256_password need the server's public key, and whoever stands between
//! could give his own: so it must be allowed (M-68).

use mysql_common::packets::AuthPlugin;
use rowtide_sdk::{Error, Origin, Result};

use super::greeting::Handshake;
use super::public_key::encrypt;
use super::session::{switch_request, tag};
use crate::config::ConnectOptions;
use crate::error::{codes, protocol};

#[cfg(test)]
mod tests;

/// More packets than any of the ways needs.
const ROUNDS_MAX: u8 = 10;

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plugin {
    Native,
    CachingSha2,
    Sha256,
    Clear,
    Ed25519,
}

impl Plugin {
    const ALL: [Self; 5] =
        [Self::Native, Self::CachingSha2, Self::Sha256, Self::Clear, Self::Ed25519];

    fn name(self) -> &'static str {
        match self {
            Self::Native => "mysql_native_password",
            Self::CachingSha2 => "caching_sha2_password",
            Self::Sha256 => "sha256_password",
            Self::Clear => "mysql_clear_password",
            Self::Ed25519 => "client_ed25519",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plugin| plugin.name() == name)
    }

    /// The length of the nonce; a zero byte may follow it.
    fn nonce(self) -> usize {
        if self == Self::Ed25519 { 32 } else { 20 }
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The login is complete.
    Done,
    /// Another packet comes.
    Wait,
    /// An answer is due.
    Send(Vec<u8>),
}

/// How far the stream of a login can be read by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Privacy {
    /// TLS is in use.
    pub(super) is_encrypted: bool,
    /// Nobody on a network can listen: TLS, or a socket of this machine.
    pub(super) is_private: bool,
}

/// A login under way.
pub(super) struct Login<'a> {
    password: &'a str,
    plugin: Plugin,
    nonce: Vec<u8>,
    privacy: Privacy,
    may_ask_for_key: bool,
    /// The server's public key from its file.
    key: Option<Vec<u8>>,
    has_asked_for_key: bool,
    has_switched: bool,
    rounds: u8,
}

/// Reads the file of the server's public key, if there is one.
pub(super) async fn read_key(options: &ConnectOptions) -> Result<Option<Vec<u8>>> {
    let Some(path) = options.server_public_key.clone() else { return Ok(None) };
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
    read.map_err(std::io::Error::other).flatten().map(Some).map_err(|error| {
        let message = format!("the server's public key {shown} cannot be read");
        Error::fatal(Origin::Config, codes::TLS_FILE, message)
            .with_source(error)
            .with_remedy("server-public-key must be the path of a readable PEM file")
    })
}

impl<'a> Login<'a> {
    pub(super) fn new(
        options: &'a ConnectOptions,
        key: Option<Vec<u8>>,
        handshake: &Handshake,
        privacy: Privacy,
    ) -> Self {
        // Any of them will do: the server asks for another where the account has one.
        let plugin = match Plugin::named(&handshake.plugin) {
            Some(plugin @ (Plugin::Native | Plugin::CachingSha2)) => plugin,
            _ => Plugin::Native,
        };
        Self {
            password: options.password.as_ref().map_or("", |password| password.expose()),
            plugin,
            nonce: handshake.nonce.clone(),
            privacy,
            may_ask_for_key: options.get_server_public_key,
            key,
            has_asked_for_key: false,
            has_switched: false,
            rounds: 0,
        }
    }

    pub(super) fn plugin_name(&self) -> &'static str {
        self.plugin.name()
    }

    /// What a plugin sends before it is asked anything.
    pub(super) fn first_answer(&mut self) -> Result<Vec<u8>> {
        let scrambled = |plugin: &AuthPlugin<'_>| {
            let answer = plugin.gen_data(Some(self.password), &self.nonce);
            answer.map(|data| data.to_vec()).unwrap_or_default()
        };
        match self.plugin {
            Plugin::Native => Ok(scrambled(&AuthPlugin::MysqlNativePassword)),
            Plugin::CachingSha2 => Ok(scrambled(&AuthPlugin::CachingSha2Password)),
            Plugin::Ed25519 => Ok(scrambled(&AuthPlugin::Ed25519)),
            Plugin::Sha256 if self.password.is_empty() || self.privacy.is_encrypted => {
                Ok(self.clear())
            }
            // The server takes it in clear over TLS alone, not over a unix socket.
            Plugin::Sha256 => self.under_key(0x01),
            Plugin::Clear if self.privacy.is_encrypted => Ok(self.clear()),
            Plugin::Clear => Err(Error::fatal(
                Origin::Source,
                codes::AUTHENTICATION,
                "the server asks for the password in clear, and the connection is not encrypted",
            )
            .with_remedy("set ssl-mode=VERIFY_IDENTITY in `url`")),
        }
    }

    /// Reads a packet that is no ERR.
    pub(super) fn next_answer(&mut self, packet: &[u8]) -> Result<Next> {
        self.rounds += 1;
        if self.rounds > ROUNDS_MAX {
            return Err(out_of_order());
        }
        match packet.split_first() {
            Some((&tag::OK, _)) => Ok(Next::Done),
            Some((&tag::EOF, _)) if !self.has_switched => self.switch(packet).map(Next::Send),
            Some((&tag::MORE_DATA, data)) => self.more_data(data),
            _ => Err(out_of_order()),
        }
    }

    fn switch(&mut self, packet: &[u8]) -> Result<Vec<u8>> {
        self.has_switched = true;
        let unsupported = |name: &str| {
            let message = format!("the server asks for {name:.60}, which is not supported");
            Error::fatal(Origin::Source, codes::AUTHENTICATION, message).with_remedy(
                "give the user caching_sha2_password, or on MariaDB ed25519 or \
                 mysql_native_password",
            )
        };
        let (name, data) =
            switch_request(packet).ok_or_else(|| unsupported("mysql_old_password"))?;
        self.plugin = Plugin::named(&name).ok_or_else(|| unsupported(&name))?;
        let nonce = data.get(..self.plugin.nonce());
        self.nonce = match nonce {
            Some(nonce) => nonce.to_vec(),
            // It needs none.
            None if self.plugin == Plugin::Clear => Vec::new(),
            None => return Err(out_of_order()),
        };
        self.first_answer()
    }

    fn more_data(&mut self, data: &[u8]) -> Result<Next> {
        const FAST_OK: &[u8] = &[3];
        const FULL: &[u8] = &[4];
        match (self.plugin, data) {
            (_, key) if self.has_asked_for_key => {
                self.has_asked_for_key = false;
                let encrypted = encrypt(self.password, &self.nonce, key);
                encrypted.map(Next::Send).ok_or_else(|| unusable_key("the server's public key"))
            }
            (Plugin::CachingSha2, FAST_OK) => Ok(Next::Wait),
            (Plugin::CachingSha2, FULL) if self.privacy.is_private => Ok(Next::Send(self.clear())),
            (Plugin::CachingSha2, FULL) => self.under_key(0x02).map(Next::Send),
            _ => Err(out_of_order()),
        }
    }

    /// The password under the server's public key, or what asks for that key.
    fn under_key(&mut self, ask: u8) -> Result<Vec<u8>> {
        if let Some(key) = &self.key {
            let encrypted = encrypt(self.password, &self.nonce, key);
            return encrypted.ok_or_else(|| unusable_key("the file of server-public-key"));
        }
        // Nobody stands in between on this machine.
        if self.may_ask_for_key || self.privacy.is_private {
            self.has_asked_for_key = true;
            return Ok(vec![ask]);
        }
        let message = format!(
            "{} without TLS sends the password under the server's public key, and asking for that \
             key is not allowed",
            self.plugin.name()
        );
        Err(Error::fatal(Origin::Source, codes::PUBLIC_KEY, message).with_remedy(
            "set ssl-mode=REQUIRED or VERIFY_IDENTITY in `url`; else server-public-key=FILE, or \
             get-server-public-key=true where nobody can stand between",
        ))
    }

    fn clear(&self) -> Vec<u8> {
        let mut answer = self.password.as_bytes().to_vec();
        answer.push(0);
        answer
    }
}

fn unusable_key(whose: &str) -> Error {
    let message = format!("{whose} is no RSA key that fits the password");
    Error::fatal(Origin::Source, codes::PUBLIC_KEY, message)
        .with_remedy("it must be a PEM file with BEGIN PUBLIC KEY; or use TLS")
}

fn out_of_order() -> Error {
    protocol("the server left the order of the login's packets")
}
