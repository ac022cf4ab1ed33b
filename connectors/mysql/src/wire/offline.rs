//! What is made of a server's packets without a connection: of recorded ones, and of any bytes.

use rowtide_sdk::{Error, Result};

use super::auth::{Login, Next, Privacy};
use super::greeting::{Flavor, Handshake};
use super::session::refuse;
use super::sql;
use crate::config::ConnectOptions;
use crate::error::{ServerError, protocol};

/// What a login says of the server, and what it would have sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// MySQL or MariaDB.
    pub flavor: Flavor,
    /// The version's text and numbers.
    pub version: (String, (u16, u16, u16)),
    /// The answers, the first of them before anything was asked.
    pub answers: Vec<Vec<u8>>,
    /// The packet that greets mysql_async as the server did.
    pub door: Vec<u8>,
}

/// Logs in against packets, of which the first is the greeting; what follows the login is left. Without
/// TLS the stream counts as one that others can read.
///
/// # Errors
/// As for a connection; where the packets end too early.
pub fn login<'p>(
    options: &ConnectOptions,
    is_encrypted: bool,
    packets: impl IntoIterator<Item = &'p [u8]>,
) -> Result<LoggedIn> {
    let mut packets = packets.into_iter();
    let mut next = || packets.next().ok_or_else(|| protocol("the packets end too early"));
    let greeting = next()?;
    refuse(greeting, options)?;
    let handshake = Handshake::parse(greeting)?;
    let privacy = Privacy { is_encrypted, is_private: is_encrypted };
    let mut login = Login::new(options, None, &handshake, privacy);
    let mut answers = vec![login.first_answer()?];
    loop {
        let packet = next()?;
        refuse(packet, options)?;
        match login.next_answer(packet)? {
            Next::Done => break,
            Next::Wait => {}
            Next::Send(answer) => answers.push(answer),
        }
    }
    let (version, numbers) = handshake.version();
    Ok(LoggedIn {
        flavor: handshake.flavor(),
        version: (version.to_owned(), numbers),
        answers,
        door: sql::greeting(&handshake),
    })
}

/// What an ERR packet means where `doing` was asked of the server.
pub fn server_error(packet: &[u8], doing: &str) -> Error {
    ServerError::parse(packet).into_error(doing)
}
