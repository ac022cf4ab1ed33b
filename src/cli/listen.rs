//! The address of `ops.listen`: what a run listens on, and a check tries.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};

use rowtide_sdk::{Code, Finding, Severity};

use crate::config::Config;
use crate::offsets;
use crate::ops::http;
use crate::ops::status::Status;

/// RT1030: nothing can listen on the address of `ops.listen`.
const CANNOT_LISTEN: Code = Code("RT1030");

/// The setting.
pub(super) const PLACE: &str = "ops.listen";

/// Why nothing can listen on the address.
pub(super) fn refused(address: SocketAddr, error: &io::Error) -> Finding {
    let remedy = match error.kind() {
        ErrorKind::AddrInUse => {
            "stop what listens there (`ss -ltnp` names it), or choose another port"
        }
        ErrorKind::AddrNotAvailable => {
            "choose an address that this machine has (`ip address` lists them); 127.0.0.1 is always one"
        }
        ErrorKind::PermissionDenied => {
            "choose a port from 1024 on, which needs no right of its own"
        }
        _ => "choose another address",
    };
    let message = format!("nothing can listen on {address}: {error}");
    Finding::new(Severity::Error, CANNOT_LISTEN, message).at(PLACE).with_remedy(remedy)
}

/// Whether a run could listen on the address. It is let go of at once. That a running process of this
/// configuration has it is as it should be.
pub(super) async fn check(config: &Config, address: SocketAddr) -> Option<Finding> {
    let error = TcpListener::bind(address).err()?;
    if error.kind() == ErrorKind::AddrInUse && is_our_own(config, address).await {
        let message = format!("the running process of this configuration listens on {address}");
        return Some(
            Finding::new(Severity::Info, CANNOT_LISTEN, message)
                .at(PLACE)
                .with_remedy("this is as it should be while it runs"),
        );
    }
    Some(refused(address, &error))
}

/// Whether the process at the address runs a connector of this configuration: another process may have
/// one of the same name, but then nobody holds the state of ours.
async fn is_our_own(config: &Config, address: SocketAddr) -> bool {
    let held = config.connectors.iter().filter(|connector| {
        let sink = &connector.sink.factory;
        match sink.keeps_position() {
            true => sink.is_held(),
            false => offsets::is_held(&config.state_dir, &connector.name),
        }
    });
    let held: Vec<&str> = held.map(|connector| connector.name.as_str()).collect();
    if held.is_empty() {
        return false;
    }
    let Ok(answer) = http::get(address, "/status").await else { return false };
    let status: Result<Status, _> = serde_json::from_str(&answer);
    status.is_ok_and(|status| {
        status.connectors.iter().any(|connector| held.contains(&connector.name.as_str()))
    })
}
