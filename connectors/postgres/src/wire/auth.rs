//! The login ("Start-up", "SASL Authentication"): trust, password, md5, SCRAM-SHA-256 with and
//! without channel binding.

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding as Binding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;
use rowtide_sdk::{Error, Origin, Result};

use super::frame::{Body, tag};
use super::session::{Message, Session, unexpected};
use crate::config::{ChannelBinding, ConnectOptions};
use crate::error::{codes, protocol};

/// The kinds of AUTHENTICATION message.
mod kind {
    pub(super) const OK: i32 = 0;
    pub(super) const CLEARTEXT: i32 = 3;
    pub(super) const MD5: i32 = 5;
    pub(super) const SASL: i32 = 10;
    pub(super) const SASL_CONTINUE: i32 = 11;
    pub(super) const SASL_FINAL: i32 = 12;
}

/// A server may ask for as many rounds of hashing as it likes; PostgreSQL's default is 4096. Above
/// this it would keep the process busy for many seconds.
const SCRAM_ITERATIONS_MAX: u32 = 5_000_000;

/// Answers what the server asks until it accepts the login.
pub(super) async fn authenticate(session: &mut Session, options: &ConnectOptions) -> Result<()> {
    let message = session.next_in_login(options).await?;
    let (asked, data) = request(&message)?;
    if asked != kind::SASL && options.tls.channel_binding == ChannelBinding::Require {
        return Err(refused("channel_binding=require, but the server does not ask for SCRAM"));
    }
    let mut out = BytesMut::new();
    match asked {
        kind::OK => return Ok(()),
        kind::CLEARTEXT => {
            if !session.transport.is_private() {
                tracing::warn!(
                    target = %options.target,
                    "the server asks for the password in clear over an unencrypted connection; use \
                     sslmode=verify-full or scram-sha-256"
                );
            }
            frontend::password_message(password(options)?, &mut out).map_err(unwritable)?;
        }
        kind::MD5 => {
            let salt = *data.first_chunk().ok_or_else(|| protocol("a salt is missing"))?;
            let hash = md5_hash(options.user.as_bytes(), password(options)?, salt);
            frontend::password_message(hash.as_bytes(), &mut out).map_err(unwritable)?;
        }
        kind::SASL => scram(session, options, data).await?,
        other => {
            return Err(refused(format!(
                "the server asks for {}, which is not supported",
                match other {
                    2 => "Kerberos V5",
                    7 => "GSSAPI",
                    9 => "SSPI",
                    _ => "an authentication that is not known",
                }
            )));
        }
    }
    if !out.is_empty() {
        session.send(&out, options).await?;
    }
    expect(session, options, kind::OK).await.map(drop)
}

/// The kind of an AUTHENTICATION message, and its data.
fn request(message: &Message) -> Result<(i32, &[u8])> {
    if message.tag != tag::AUTHENTICATION {
        return Err(unexpected(message.tag, "instead of asking for a login"));
    }
    let mut body = Body(&message.body);
    let kind = body.i32().ok_or_else(|| protocol("a request for a login has no kind"))?;
    Ok((kind, body.0))
}

async fn expect(session: &mut Session, options: &ConnectOptions, wanted: i32) -> Result<Vec<u8>> {
    let message = session.next_in_login(options).await?;
    let (kind, data) = request(&message)?;
    if kind == wanted {
        Ok(data.to_vec())
    } else {
        Err(refused("the server left the order of the login's messages"))
    }
}

fn password(options: &ConnectOptions) -> Result<&[u8]> {
    match &options.password {
        Some(password) => Ok(password.expose().as_bytes()),
        None => Err(no_password()),
    }
}

/// The server asks for a password and there is none.
pub(super) fn no_password() -> Error {
    Error::fatal(
        Origin::Config,
        codes::LOGIN,
        "the server asks for a password and none is configured",
    )
    .with_remedy("set `password`, for example ${file:/run/secrets/pg}")
}

/// A way to log in that cannot be gone.
pub(super) fn refused(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::fatal(Origin::Source, codes::AUTHENTICATION, message)
        .with_remedy("let pg_hba.conf ask this user for scram-sha-256")
}

fn unwritable(error: std::io::Error) -> Error {
    protocol("the login cannot be written: the password holds a zero byte").with_source(error)
}

/// SCRAM-SHA-256 (RFC 5802, 7677), tied to the TLS session where both sides can.
async fn scram(session: &mut Session, options: &ConnectOptions, offered: &[u8]) -> Result<()> {
    let (mechanism, binding) = mechanism(session, options, offered)?;
    let mut scram = ScramSha256::new(password(options)?, binding);
    let mut out = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut out).map_err(unwritable)?;
    session.send(&out, options).await?;

    let challenge = expect(session, options, kind::SASL_CONTINUE).await?;
    if iterations(&challenge).is_none_or(|count| count > SCRAM_ITERATIONS_MAX) {
        return Err(refused("the server asks for an impossible number of SCRAM iterations"));
    }
    let not_scram = |error: std::io::Error| {
        refused("the server's part of the SCRAM exchange is wrong").with_source(error)
    };
    scram.update(&challenge).map_err(not_scram)?;
    out.clear();
    frontend::sasl_response(scram.message(), &mut out).map_err(unwritable)?;
    session.send(&out, options).await?;

    let proof = expect(session, options, kind::SASL_FINAL).await?;
    scram.finish(&proof).map_err(|error| {
        refused("the server could not prove that it knows the password: it may be another server")
            .with_source(error)
    })
}

/// The number of iterations in a server-first-message: `r=…,s=…,i=4096`.
fn iterations(challenge: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(challenge).ok()?;
    text.split(',').find_map(|part| part.strip_prefix("i="))?.parse().ok()
}

fn mechanism(
    session: &Session,
    options: &ConnectOptions,
    offered: &[u8],
) -> Result<(&'static str, Binding)> {
    let offers = |name: &str| offered.split(|&byte| byte == 0).any(|one| one == name.as_bytes());
    let wanted = options.tls.channel_binding;
    let possible = match wanted {
        ChannelBinding::Disable => None,
        ChannelBinding::Prefer | ChannelBinding::Require => session.transport.end_point_binding(),
    };
    match possible {
        Some(hash) if offers(SCRAM_SHA_256_PLUS) => {
            Ok((SCRAM_SHA_256_PLUS, Binding::tls_server_end_point(hash.to_vec())))
        }
        _ if wanted == ChannelBinding::Require => Err(refused(
            "channel_binding=require, but channel binding is not possible with this connection",
        )),
        // Says that we could have, so that a server which can as well notices a man in the middle.
        Some(_) if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, Binding::unrequested())),
        None if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, Binding::unsupported())),
        _ => Err(refused("the server offers no SASL mechanism that is supported")),
    }
}

#[cfg(test)]
mod tests {
    use super::iterations;

    #[test]
    fn iterations_are_read_from_the_challenge() {
        assert_eq!(iterations(b"r=abc,s=QSXCR+Q6sek8bf92,i=4096"), Some(4096));
        assert_eq!(iterations(b"r=abc,s=x,i=99999999999"), None);
        assert_eq!(iterations(b"\xff"), None);
    }
}
