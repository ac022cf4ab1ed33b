//! The address of `ops.listen`: what a run listens on, and a check tries.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};

use rowtide_sdk::{Code, Finding, Severity};

use crate::config::Config;
use crate::offsets;
use crate::ops::http;
use crate::ops::status::{ConnectorStatus, Status};

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

/// Whether the process at the address runs this configuration. Another one may have connectors of the same
/// names; but where one of them reads its log, it holds the state of ours only if it is ours. A connector
/// that waits holds nothing.
async fn is_our_own(config: &Config, address: SocketAddr) -> bool {
    let Ok(answer) = http::get(address, "/status").await else { return false };
    let Ok(status) = serde_json::from_str::<Status>(&answer) else { return false };
    is_run_by(&status, |name| {
        let connector = config.connectors.iter().find(|connector| connector.name == name)?;
        let sink = &connector.sink.factory;
        Some(match sink.keeps_position() {
            true => sink.is_held(),
            false => offsets::is_held(&config.state_dir, &connector.name),
        })
    })
}

/// Whether a process that says this runs the connectors of which `is_held` tells whether anybody holds
/// their state; none where there is no such connector.
fn is_run_by(status: &Status, is_held: impl Fn(&str) -> Option<bool>) -> bool {
    let held: Vec<Option<bool>> =
        status.connectors.iter().map(|connector| is_held(&connector.name)).collect();
    if held.contains(&Some(true)) {
        return true;
    }
    let waits = |(connector, held): (&ConnectorStatus, &Option<bool>)| {
        held.is_some() && connector.state != "streaming"
    };
    !held.is_empty() && status.connectors.iter().zip(&held).all(waits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::board::Board;

    #[test]
    fn a_process_is_known_by_what_it_holds_or_waits_for() {
        let of = |states: &[(&'static str, &str)], held: &[(&str, bool)]| {
            let names = states.iter().map(|(name, _)| (*name, "mysql", "kafka"));
            let mut status = Status::of(&Board::new(names));
            for (connector, (_, state)) in status.connectors.iter_mut().zip(states) {
                (*state).clone_into(&mut connector.state);
            }
            is_run_by(&status, |name| {
                held.iter().find_map(|(known, is_held)| (*known == name).then_some(*is_held))
            })
        };
        assert!(of(&[("a", "streaming")], &[("a", true)]));
        assert!(of(&[("a", "waiting"), ("b", "streaming")], &[("a", false), ("b", true)]));
        assert!(of(&[("a", "waiting"), ("b", "failed")], &[("a", false), ("b", false)]));
        assert!(!of(&[("a", "streaming")], &[("a", false)]), "another's of the same name");
        assert!(!of(&[("a", "waiting"), ("c", "waiting")], &[("a", false), ("b", false)]));
        assert!(!of(&[], &[("a", false)]));
    }
}
