//! A session up to the point where it streams: packets one by one, the login, short answers.

use std::io;

use mysql_common::constants::CapabilityFlags;
use mysql_common::packets::{AuthPlugin, HandshakeResponse, SslRequest};
use mysql_common::proto::MySerialize;
use rowtide_net::Transport;
use rowtide_sdk::{Error, Origin, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::auth::{self, Login, Privacy};
use super::greeting::{Greeting, Handshake, null_terminated};
use super::transport::{connect_error, handshake_error, open, settings};
use crate::config::{ConnectOptions, SslMode, Target};
use crate::error::{ServerError, codes, lost, protocol};
use crate::reader::Reader;

/// A packet before the login is complete is small; what is larger is not MySQL.
const LOGIN_PACKET_MAX: usize = 64 * 1024;
/// A packet of a statement's answer: our own return a few short rows.
const ANSWER_PACKET_MAX: usize = 1024 * 1024;
/// The rows of such an answer.
const ROWS_MAX: usize = 100_000;
/// Room for one read.
const READ_SIZE: usize = 8 * 1024;
/// What a session may send and be sent in one packet, as it tells the server.
const PACKET_MAX: u32 = 1024 * 1024 * 1024;
/// utf8mb4_general_ci: what every server knows.
const UTF8MB4: u8 = 45;

/// The first byte of answers ("Generic Response Packets").
pub(super) mod tag {
    pub(in crate::wire) const OK: u8 = 0x00;
    pub(in crate::wire) const MORE_DATA: u8 = 0x01;
    pub(in crate::wire) const EOF: u8 = 0xfe;
    pub(in crate::wire) const ERR: u8 = 0xff;
    /// An EOF packet is shorter than this; longer ones of that tag are rows.
    pub(in crate::wire) const EOF_BELOW: usize = 9;
}

/// A command ("Command Phase").
pub(super) mod command {
    pub(in crate::wire) const QUIT: u8 = 0x01;
    pub(in crate::wire) const QUERY: u8 = 0x03;
}

/// What is agreed on with the server, as far as it can do it. Without CLIENT_DEPRECATE_EOF, so that the
/// end of rows is told apart from a row; without CLIENT_LOCAL_FILES, so that no server can ask for a
/// file.
pub(super) fn wanted_capabilities() -> CapabilityFlags {
    CapabilityFlags::CLIENT_LONG_PASSWORD
        | CapabilityFlags::CLIENT_LONG_FLAG
        | CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_TRANSACTIONS
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_MULTI_RESULTS
        | CapabilityFlags::CLIENT_PS_MULTI_RESULTS
        | CapabilityFlags::CLIENT_PLUGIN_AUTH
        | CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA
        | CapabilityFlags::CLIENT_CONNECT_ATTRS
}

/// An open session that reads packet by packet.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) transport: Transport,
    /// Bytes read and not yet handed out.
    pub(super) input: Vec<u8>,
    /// The number of the next packet, which both sides count together from a command on.
    pub(super) sequence: u8,
    packet_max: usize,
    /// Whether the login is complete; it decides what a broken connection means.
    is_ready: bool,
    /// Where this is, for messages.
    pub(super) place: String,
}

impl Session {
    /// Connects to the one place of the options, and logs in.
    pub(super) async fn open(options: &ConnectOptions) -> Result<(Self, Greeting, Handshake)> {
        let mut session = Self {
            transport: open(options).await?,
            input: Vec::with_capacity(READ_SIZE),
            sequence: 0,
            packet_max: LOGIN_PACKET_MAX,
            is_ready: false,
            place: options.places(),
        };
        let packet = session.receive("logging in").await?;
        refuse(&packet, options)?;
        let handshake = Handshake::parse(&packet)?;
        let offered = CapabilityFlags::from_bits_truncate(handshake.capabilities);
        let needed = CapabilityFlags::CLIENT_PROTOCOL_41 | CapabilityFlags::CLIENT_PLUGIN_AUTH;
        if !offered.contains(needed) {
            return Err(protocol("the server is too old: it speaks an earlier protocol"));
        }
        let mut capabilities = wanted_capabilities() & offered;
        if options.database.is_some() {
            capabilities |= CapabilityFlags::CLIENT_CONNECT_WITH_DB;
        }
        if session.wants_tls(options, offered)? {
            capabilities |= CapabilityFlags::CLIENT_SSL;
            session = session.encrypt(options, capabilities).await?;
        }
        session.authenticate(options, &handshake, capabilities).await?;
        session.is_ready = true;
        session.packet_max = ANSWER_PACKET_MAX;
        let (version, numbers) = handshake.version();
        let greeting = Greeting {
            flavor: handshake.flavor(),
            version: version.to_owned(),
            numbers,
            connection_id: handshake.connection_id,
            is_encrypted: session.transport.is_encrypted(),
            target: options.targets.first().cloned().unwrap_or_else(|| Target::Unix("".into())),
            address: options.address,
        };
        Ok((session, greeting, handshake))
    }

    fn wants_tls(&self, options: &ConnectOptions, offered: CapabilityFlags) -> Result<bool> {
        let mode = options.tls.mode;
        if self.transport.is_private() || mode == SslMode::Disabled {
            return Ok(false);
        }
        let has_tls = offered.contains(CapabilityFlags::CLIENT_SSL);
        if !has_tls && mode != SslMode::Preferred {
            let message = format!(
                "ssl-mode={} asks for TLS, which {} does not offer",
                mode.name(),
                self.place
            );
            return Err(Error::fatal(Origin::Source, codes::NO_TLS, message).with_remedy(
                "give the server ssl_cert and ssl_key, or set ssl-mode=DISABLED in `url`",
            ));
        }
        Ok(has_tls)
    }

    /// Sends SSLRequest ("Protocol::SSLRequest") and speaks TLS from there on. What came before it in
    /// clear behind the greeting could be anybody's.
    async fn encrypt(
        mut self,
        options: &ConnectOptions,
        capabilities: CapabilityFlags,
    ) -> Result<Self> {
        if !self.input.is_empty() {
            return Err(protocol("the server sent something in clear behind its greeting"));
        }
        let mut request = Vec::new();
        SslRequest::new(capabilities, PACKET_MAX, UTF8MB4).serialize(&mut request);
        self.send(&request, "logging in").await?;
        let host = match options.targets.first() {
            Some(Target::Tcp { host, .. }) => host.as_str(),
            _ => "",
        };
        let encrypted = self.transport.encrypt(host, &settings(&options.tls)).await;
        self.transport = encrypted.map_err(|error| handshake_error(&self.place, error))?;
        Ok(self)
    }

    /// Sends who logs in ("Protocol::HandshakeResponse41"), and answers what the server asks.
    async fn authenticate(
        &mut self,
        options: &ConnectOptions,
        handshake: &Handshake,
        capabilities: CapabilityFlags,
    ) -> Result<()> {
        let key = auth::read_key(options).await?;
        let privacy = Privacy {
            is_encrypted: self.transport.is_encrypted(),
            is_private: self.transport.is_private(),
        };
        let mut login = Login::new(options, key, handshake, privacy);
        let first = login.first_answer()?;
        let attributes = [("program_name", "rowtide"), ("_client_name", "rowtide")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let attributes = capabilities
            .contains(CapabilityFlags::CLIENT_CONNECT_ATTRS)
            .then(|| attributes.into_iter().collect());
        let mut response = Vec::new();
        HandshakeResponse::new(
            Some(first),
            (8, 0, 0),
            Some(options.user.as_bytes()),
            options.database.as_ref().map(String::as_bytes),
            Some(AuthPlugin::from_bytes(login.plugin_name().as_bytes())),
            capabilities,
            attributes,
            PACKET_MAX,
        )
        .serialize(&mut response);
        self.send(&response, "logging in").await?;
        loop {
            let packet = self.receive("logging in").await?;
            refuse(&packet, options)?;
            match login.next_answer(&packet)? {
                auth::Next::Done => return Ok(()),
                auth::Next::Wait => {}
                auth::Next::Send(answer) => self.send(&answer, "logging in").await?,
            }
        }
    }

    /// The next packet, joined where it is in pieces ("MySQL Packets").
    pub(super) async fn receive(&mut self, doing: &str) -> Result<Vec<u8>> {
        const HEADER: usize = 4;
        loop {
            let mut reader = Reader(&self.input);
            if let (Some(length), Some(sequence)) = (reader.uint(3), reader.u8()) {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > self.packet_max {
                    return Err(protocol(format!(
                        "the server announces a packet of {length} bytes, which is no answer of MySQL"
                    )));
                }
                if let Some(packet) = reader.bytes(length) {
                    if sequence != self.sequence {
                        return Err(protocol("the server's packets are out of order"));
                    }
                    let packet = packet.to_vec();
                    self.sequence = self.sequence.wrapping_add(1);
                    self.input.drain(..HEADER + length);
                    return Ok(packet);
                }
            }
            self.input.reserve(READ_SIZE);
            match self.transport.read_buf(&mut self.input).await {
                Ok(0) => return Err(self.broke(doing, io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(self.broke(doing, error)),
            }
        }
    }

    fn broke(&self, doing: &str, error: io::Error) -> Error {
        if self.is_ready { lost(doing, error) } else { connect_error(&self.place, error) }
    }

    /// Sends a packet.
    pub(super) async fn send(&mut self, payload: &[u8], doing: &str) -> Result<()> {
        let length = u32::try_from(payload.len()).ok().filter(|length| *length < 0x00ff_ffff);
        let length = length.ok_or_else(|| protocol("a packet to the server is too large"))?;
        let [low, middle, high, _] = length.to_le_bytes();
        let mut packet = vec![low, middle, high, self.sequence];
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        let mut write = async || {
            self.transport.write_all(&packet).await?;
            self.transport.flush().await
        };
        write().await.map_err(|error| self.broke(doing, error))
    }

    /// Sends a command; packets are counted from it on.
    pub(super) async fn command(&mut self, payload: &[u8], doing: &str) -> Result<()> {
        self.sequence = 0;
        self.send(payload, doing).await
    }

    /// Sends a command that is answered by OK alone.
    pub(super) async fn acknowledged(&mut self, payload: &[u8], doing: &str) -> Result<()> {
        self.command(payload, doing).await?;
        let answer = self.receive(doing).await?;
        match answer.first() {
            Some(&tag::OK) => Ok(()),
            Some(&tag::ERR) => Err(ServerError::parse(&answer).into_error(doing)),
            _ => Err(protocol(format!("{doing}: the server's answer is not OK"))),
        }
    }

    /// The rows of a query, as text ("Text Resultset").
    pub(super) async fn rows(&mut self, sql: &str, doing: &str) -> Result<Vec<Row>> {
        let unreadable = || protocol(format!("{doing}: the server's answer cannot be read"));
        self.command(&query(sql), doing).await?;
        let head = self.receive(doing).await?;
        let columns = match head.first() {
            Some(&tag::ERR) => return Err(ServerError::parse(&head).into_error(doing)),
            Some(&tag::OK) => return Ok(Vec::new()),
            _ => Reader(&head).count().ok_or_else(unreadable)?,
        };
        for _ in 0..columns {
            self.receive(doing).await?;
        }
        let is_end =
            |packet: &[u8]| packet.first() == Some(&tag::EOF) && packet.len() < tag::EOF_BELOW;
        if !is_end(&self.receive(doing).await?) {
            return Err(unreadable());
        }
        let mut rows = Vec::new();
        loop {
            let packet = self.receive(doing).await?;
            if is_end(&packet) {
                return Ok(rows);
            }
            if packet.first() == Some(&tag::ERR) {
                return Err(ServerError::parse(&packet).into_error(doing));
            }
            if rows.len() >= ROWS_MAX {
                return Err(unreadable());
            }
            let mut reader = Reader(&packet);
            let row: Option<Row> = (0..columns).map(|_| field(&mut reader)).collect();
            rows.push(row.ok_or_else(unreadable)?);
        }
    }
}

/// An ERR packet of the login is an error.
pub(super) fn refuse(packet: &[u8], options: &ConnectOptions) -> Result<()> {
    if packet.first() != Some(&tag::ERR) {
        return Ok(());
    }
    let doing = format!("logging in to {}", options.describe());
    let error = ServerError::parse(packet).into_error(&doing);
    if error.code() == codes::LOGIN && options.password.is_none() {
        return Err(error.with_remedy(
            "there is no password: set `password`, for example \
            ${file:/run/secrets/mysql}, or check the user",
        ));
    }
    Err(error)
}

/// A row's fields; `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

fn field(reader: &mut Reader<'_>) -> Option<Option<String>> {
    const NULL: u8 = 0xfb;
    if reader.0.first() == Some(&NULL) {
        reader.u8()?;
        return Some(None);
    }
    Some(Some(String::from_utf8_lossy(reader.lenenc_bytes()?).into_owned()))
}

/// COM_QUERY.
pub(super) fn query(sql: &str) -> Vec<u8> {
    let mut payload = vec![command::QUERY];
    payload.extend_from_slice(sql.as_bytes());
    payload
}

/// The name of a plugin and its data ("Protocol::AuthSwitchRequest"); `None` where it is the old form
/// without a name.
pub(super) fn switch_request(packet: &[u8]) -> Option<(String, &[u8])> {
    let mut reader = Reader(packet.get(1..)?);
    let plugin = null_terminated(&mut reader)?;
    Some((plugin, reader.0))
}
