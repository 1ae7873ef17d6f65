//! Open sockets: who is connected, how to wake them, how to end them.
//!
//! Everything here is a hint but for endings: a lost wake-up costs a delay, since
//! envelopes are always read from the mailbox.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, watch};
use wardline_wire::ids::{AccountId, DeviceAddress};
use wardline_wire::proto::{Envelope, PreKeysLow};

/// Ephemeral envelopes waiting for one socket; more are dropped.
const EPHEMERAL_WAITING: usize = 32;

/// Why the relay ends a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Device or account is gone.
    Revoked,
    /// Status or role changed: log in again.
    Changed,
    /// A newer socket of the same device.
    Replaced,
    /// The relay goes down.
    ShuttingDown,
}

/// A socket, as others reach it.
pub(crate) struct Socket {
    id: u64,
    pub(crate) address: DeviceAddress,
    pub(crate) auth_epoch: u64,
    wake: Notify,
    ephemeral: mpsc::Sender<Envelope>,
    low: watch::Sender<Option<PreKeysLow>>,
    ending: watch::Sender<Option<Ending>>,
}

/// The socket's own ends.
pub(crate) struct Signals {
    pub(crate) ephemeral: mpsc::Receiver<Envelope>,
    pub(crate) low: watch::Receiver<Option<PreKeysLow>>,
    pub(crate) ending: watch::Receiver<Option<Ending>>,
}

impl Socket {
    /// Returns once there may be new envelopes; a wake-up before the call counts.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Wakes a socket that the hub may no longer know.
    #[cfg(test)]
    pub(crate) fn nudge(&self) {
        self.wake.notify_one();
    }

    fn end(&self, ending: Ending) {
        // The first reason stays.
        self.ending.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(ending);
            }
            first
        });
    }
}

/// All open sockets of this process.
#[derive(Default)]
pub(crate) struct Hub {
    sockets: Mutex<HashMap<DeviceAddress, Arc<Socket>>>,
    next_id: AtomicU64,
}

impl Hub {
    /// Adds a socket; an older one of the same device ends.
    pub(crate) fn join(&self, address: DeviceAddress, auth_epoch: u64) -> (Arc<Socket>, Signals) {
        let (ephemeral, ephemeral_out) = mpsc::channel(EPHEMERAL_WAITING);
        let (low, low_out) = watch::channel(None);
        let (ending, ending_out) = watch::channel(None);
        let socket = Arc::new(Socket {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            address,
            auth_epoch,
            wake: Notify::new(),
            ephemeral,
            low,
            ending,
        });
        let older = self.lock().insert(address, Arc::clone(&socket));
        if let Some(older) = older {
            older.end(Ending::Replaced);
        }
        let signals = Signals {
            ephemeral: ephemeral_out,
            low: low_out,
            ending: ending_out,
        };
        (socket, signals)
    }

    /// Removes a socket, unless a newer one took its place.
    pub(crate) fn leave(&self, socket: &Socket) {
        let mut sockets = self.lock();
        if sockets
            .get(&socket.address)
            .is_some_and(|current| current.id == socket.id)
        {
            sockets.remove(&socket.address);
        }
    }

    /// There are new envelopes.
    pub(crate) fn wake(&self, address: DeviceAddress) {
        if let Some(socket) = self.get(address) {
            socket.wake.notify_one();
        }
    }

    /// Hands an ephemeral envelope over, or drops it.
    pub(crate) fn ephemeral(&self, address: DeviceAddress, envelope: Envelope) {
        let handed_over = self
            .get(address)
            .is_some_and(|socket| socket.ephemeral.try_send(envelope).is_ok());
        let result = if handed_over { "delivered" } else { "dropped" };
        metrics::counter!("wardline_relay_ephemeral_total", "result" => result).increment(1);
    }

    /// One-time prekeys run out.
    pub(crate) fn prekeys_low(&self, address: DeviceAddress, low: PreKeysLow) {
        if let Some(socket) = self.get(address) {
            let _ = socket.low.send(Some(low));
        }
    }

    /// Ends a device's socket.
    pub(crate) fn end(&self, address: DeviceAddress, ending: Ending) {
        if let Some(socket) = self.get(address) {
            socket.end(ending);
        }
    }

    /// Ends the sockets of all devices of an account.
    pub(crate) fn end_account(&self, account: AccountId, ending: Ending) {
        for socket in self.all() {
            if socket.address.account == account {
                socket.end(ending);
            }
        }
    }

    /// Ends every socket.
    pub(crate) fn end_all(&self, ending: Ending) {
        for socket in self.all() {
            socket.end(ending);
        }
    }

    /// Every socket at this moment.
    pub(crate) fn all(&self) -> Vec<Arc<Socket>> {
        self.lock().values().cloned().collect()
    }

    fn get(&self, address: DeviceAddress) -> Option<Arc<Socket>> {
        self.lock().get(&address).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceAddress, Arc<Socket>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use wardline_wire::ids::DeviceId;

    use super::*;

    fn address() -> DeviceAddress {
        DeviceAddress {
            account: AccountId::from([1; 16]),
            device: DeviceId::FIRST,
        }
    }

    #[test]
    fn the_newest_socket_wins_and_the_older_one_does_not_take_it_down() {
        let hub = Hub::default();
        let (older, older_signals) = hub.join(address(), 1);
        let (newer, newer_signals) = hub.join(address(), 1);
        assert_eq!(*older_signals.ending.borrow(), Some(Ending::Replaced));
        hub.leave(&older);
        hub.end(address(), Ending::Revoked);
        assert_eq!(*newer_signals.ending.borrow(), Some(Ending::Revoked));
        hub.leave(&newer);
        assert!(hub.all().is_empty());
    }

    #[test]
    fn ephemeral_envelopes_are_dropped_when_nobody_takes_them() {
        let hub = Hub::default();
        let (_socket, mut signals) = hub.join(address(), 1);
        for seq in 0..1000 {
            let envelope = Envelope {
                seq,
                ..Envelope::default()
            };
            hub.ephemeral(address(), envelope);
        }
        let mut taken = 0;
        while signals.ephemeral.try_recv().is_ok() {
            taken += 1;
        }
        assert_eq!(taken, EPHEMERAL_WAITING);
    }
}
