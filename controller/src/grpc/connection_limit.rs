//! The connections that a listener has, and who goes when one more comes than there is room for.
//!
//! Nobody waits: a newcomer is let in, and whoever has the most connections loses the one that it has used least. So a
//! crowd from one place costs that place, and an operator gets in.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::access::Peer;

/// Whom connections are counted for: a user, or what one customer of a network has of addresses.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ConnectionOwner {
    /// Of the unix socket.
    User(u32),
    /// An IPv4 address, or the upper half of an IPv6 one.
    Network(Ipv6Addr),
}

impl From<&Peer> for ConnectionOwner {
    fn from(peer: &Peer) -> Self {
        match peer {
            Peer::Unix { uid, .. } => Self::User(*uid),
            Peer::Tcp { address: IpAddr::V4(v4), .. } => Self::Network(v4.to_ipv6_mapped()),
            Peer::Tcp { address: IpAddr::V6(v6), .. } => {
                Self::Network(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64))
            }
        }
    }
}

/// The places of one listener.
#[derive(Debug)]
pub struct Connections {
    limit: usize,
    taken: Mutex<Vec<Arc<Connection>>>,
}

/// One connection's place.
#[derive(Debug)]
pub struct Connection {
    owner: ConnectionOwner,
    use_: Mutex<ConnectionUse>,
    evicted: CancellationToken,
}

/// How a connection is used.
#[derive(Clone, Copy, Debug)]
struct ConnectionUse {
    calls: usize,
    since: Instant,
}

/// A place that is given back when this is dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    place: Arc<Connection>,
    connection_limit: Arc<Connections>,
}

/// A call that is under way until this is dropped.
#[derive(Debug)]
pub struct CallGuard(Arc<Connection>);

impl Connections {
    /// As many as `limit`, all free.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default() })
    }

    /// A place for a connection of `owner`. If there is none left, somebody else has to leave.
    #[must_use]
    pub fn take(self: &Arc<Self>, owner: ConnectionOwner) -> ConnectionGuard {
        let use_ = Mutex::new(ConnectionUse { calls: 0, since: Instant::now() });
        let place = Arc::new(Connection { owner, use_, evicted: CancellationToken::new() });
        let mut taken = lock(&self.taken);
        if taken.len() >= self.limit
            && let Some(eviction_victim) = eviction_victim(&taken, owner)
        {
            taken.swap_remove(eviction_victim).evicted.cancel();
        }
        taken.push(Arc::clone(&place));
        ConnectionGuard { place, connection_limit: Arc::clone(self) }
    }
}

/// Of those of whoever has the most, one without calls if possible, and of these the one that was used longest ago.
fn eviction_victim(taken: &[Arc<Connection>], newcomer: ConnectionOwner) -> Option<usize> {
    let mut counts = BTreeMap::from([(newcomer, 1)]);
    for place in taken {
        *counts.entry(place.owner).or_insert(0) += 1;
    }
    let key = |place: &Connection| {
        let ConnectionUse { calls, since } = *lock(&place.use_);
        (counts.get(&place.owner).copied(), calls == 0, Reverse(since))
    };
    taken.iter().enumerate().max_by_key(|(_, place)| key(place)).map(|(index, _)| index)
}

impl Connection {
    /// Says that a call has begun.
    #[must_use]
    pub fn call(self: &Arc<Self>) -> CallGuard {
        let mut use_ = lock(&self.use_);
        *use_ = ConnectionUse { calls: use_.calls + 1, since: Instant::now() };
        CallGuard(Arc::clone(self))
    }
}

impl ConnectionGuard {
    /// The place.
    #[must_use]
    pub const fn place(&self) -> &Arc<Connection> {
        &self.place
    }

    /// Is cancelled once somebody else has the place.
    #[must_use]
    pub fn evicted(&self) -> CancellationToken {
        self.place.evicted.clone()
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        lock(&self.connection_limit.taken).retain(|place| !Arc::ptr_eq(place, &self.place));
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let mut use_ = lock(&self.0.use_);
        *use_ = ConnectionUse { calls: use_.calls.saturating_sub(1), since: Instant::now() };
    }
}

/// No holder of these locks leaves anything half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_left(taken: &ConnectionGuard) -> bool {
        taken.evicted().is_cancelled()
    }

    #[test]
    fn whoever_has_the_most_loses_the_one_used_longest_ago() {
        let connection_limit = Connections::new(4);
        let crowd: Vec<_> = (0..3).map(|_| connection_limit.take(ConnectionOwner::User(1))).collect();
        let single = connection_limit.take(ConnectionOwner::User(2));
        drop(crowd[0].place().call());
        let newcomer = connection_limit.take(ConnectionOwner::User(3));
        let left: Vec<_> = crowd.iter().map(has_left).collect();
        assert_eq!(left, [false, true, false]);
        assert!(!has_left(&single) && !has_left(&newcomer));
    }

    #[test]
    fn a_crowd_pushes_out_its_own() {
        let connection_limit = Connections::new(4);
        let others: Vec<_> = [7, 7, 8].map(|uid| connection_limit.take(ConnectionOwner::User(uid))).into();
        let crowd: Vec<_> = (0..100).map(|_| connection_limit.take(ConnectionOwner::User(9))).collect();
        assert!(others[2..].iter().all(|other| !has_left(other)));
        assert_eq!(others.iter().filter(|other| has_left(other)).count(), 1);
        assert_eq!(crowd.iter().filter(|one| !has_left(one)).count(), 2);
    }

    #[test]
    fn a_call_keeps_a_connection_while_there_are_idle_ones() {
        let connection_limit = Connections::new(2);
        let busy = connection_limit.take(ConnectionOwner::User(1));
        let call = busy.place().call();
        let idle = connection_limit.take(ConnectionOwner::User(1));
        let second = connection_limit.take(ConnectionOwner::User(1));
        assert!(has_left(&idle) && !has_left(&busy));
        let calls = [call, second.place().call()];
        let _third = connection_limit.take(ConnectionOwner::User(1));
        assert!(has_left(&busy) && !has_left(&second));
        drop(calls);
    }

    #[test]
    fn a_place_is_given_back() {
        let connection_limit = Connections::new(2);
        for _ in 0..10 {
            drop(connection_limit.take(ConnectionOwner::User(1)));
        }
        let kept = [
            connection_limit.take(ConnectionOwner::User(1)),
            connection_limit.take(ConnectionOwner::User(1)),
        ];
        assert!(!kept.iter().any(has_left));
    }

    #[test]
    fn a_customer_of_a_network_is_one_owner() {
        let owner =
            |address: &str| ConnectionOwner::from(&Peer::of_tcp(address.parse().unwrap(), false, None));
        assert_eq!(owner("2001:db8:0:1::1"), owner("2001:db8:0:1:ffff::2"));
        assert_ne!(owner("2001:db8:0:1::1"), owner("2001:db8:0:2::1"));
        assert_ne!(owner("192.0.2.1"), owner("192.0.2.2"));
    }
}
