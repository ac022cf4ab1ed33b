//! How the stream stands, for whoever watches the slot beside it; and what that one learns for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use crate::lsn::Lsn;

/// Written by the stream, read by the guard. Each figure is right by itself; together they may be of
/// two moments.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse(Arc<Figures>, CancellationToken);

#[derive(Debug, Default)]
struct Figures {
    handed_over: AtomicU64,
    is_inside: AtomicBool,
    told: AtomicU64,
}

impl Pulse {
    /// The last place handed over, and whether it lies inside a transaction.
    pub(crate) fn handed_over(&self, confirm: Lsn, is_inside: bool) {
        self.0.handed_over.store(confirm.0, Ordering::Relaxed);
        self.0.is_inside.store(is_inside, Ordering::Relaxed);
    }

    /// The guard has learned that the server takes no new connections: it stops.
    pub(crate) fn server_stops(&self) {
        self.1.cancel();
    }

    /// Waits until the guard learns that the server stops.
    pub(crate) async fn stopping(&self) {
        self.1.cancelled().await;
    }

    /// What the server was told is saved.
    pub(crate) fn told(&self, lsn: Lsn) {
        self.0.told.store(lsn.0, Ordering::Relaxed);
    }

    /// The highest LSN confirmed to the server.
    pub(crate) fn confirmed(&self) -> Lsn {
        Lsn(self.0.told.load(Ordering::Relaxed))
    }

    /// Whether everything handed over is saved and confirmed.
    pub(crate) fn is_idle(&self) -> bool {
        let handed_over = self.0.handed_over.load(Ordering::Relaxed);
        !self.0.is_inside.load(Ordering::Relaxed) && self.confirmed().0 >= handed_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_confirmed_is_in_flight() {
        let pulse = Pulse::default();
        assert!(pulse.is_idle());
        pulse.handed_over(Lsn(100), false);
        assert!(!pulse.is_idle());
        pulse.told(Lsn(100));
        assert!(pulse.is_idle());
        pulse.handed_over(Lsn(100), true);
        assert!(!pulse.is_idle());
    }
}
