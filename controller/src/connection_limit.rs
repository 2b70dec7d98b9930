//! Connection limit of a listener, with eviction.
//!
//! A new connection is always accepted. At the limit, the owner of the most connections loses its least recently used
//! one. A flood from one owner so evicts its own connections, and an operator always gets in.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

/// Owner that connections are counted for: a local user, or one customer's network.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ConnectionOwner {
    /// User of the unix socket.
    User(u32),
    /// IPv4 address, or /64 prefix of an IPv6 address.
    Network(Ipv6Addr),
}

impl From<IpAddr> for ConnectionOwner {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::Network(v4.to_ipv6_mapped()),
            IpAddr::V6(v6) => Self::Network(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        }
    }
}

/// Connections of one listener.
#[derive(Debug)]
pub struct ConnectionLimiter {
    limit: usize,
    guard: Mutex<Vec<Arc<ApiConnection>>>,
}

/// One connection.
#[derive(Debug)]
pub struct ApiConnection {
    owner: ConnectionOwner,
    usage: Mutex<ConnectionUse>,
    evicted: CancellationToken,
}

/// Usage of a connection.
#[derive(Clone, Copy, Debug)]
struct ConnectionUse {
    calls: usize,
    since: Instant,
}

/// Handle that removes its connection from the count on drop.
#[derive(Debug)]
pub struct ConnectionGuard {
    connection: Arc<ApiConnection>,
    connection_limit: Arc<ConnectionLimiter>,
}

/// Handle that marks a call as in progress until dropped.
#[derive(Debug)]
pub struct CallGuard(Arc<ApiConnection>);

impl ConnectionLimiter {
    /// Creates an empty set with room for `limit` connections.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, guard: Mutex::default() })
    }

    /// Adds a connection of `owner`. At the limit it evicts another.
    #[must_use]
    pub fn take(self: &Arc<Self>, owner: ConnectionOwner) -> ConnectionGuard {
        let usage = Mutex::new(ConnectionUse { calls: 0, since: Instant::now() });
        let connection = Arc::new(ApiConnection { owner, usage, evicted: CancellationToken::new() });
        let mut guard = lock(&self.guard);
        if guard.len() >= self.limit
            && let Some(eviction_victim) = eviction_victim(&guard, owner)
        {
            guard.swap_remove(eviction_victim).evicted.cancel();
        }
        guard.push(Arc::clone(&connection));
        ConnectionGuard { connection, connection_limit: Arc::clone(self) }
    }
}

/// Picks a connection of the heaviest owner: idle before busy, least recently used first.
fn eviction_victim(guard: &[Arc<ApiConnection>], newcomer: ConnectionOwner) -> Option<usize> {
    let mut counts = BTreeMap::from([(newcomer, 1)]);
    for connection in guard {
        *counts.entry(connection.owner).or_insert(0) += 1;
    }
    let key = |connection: &ApiConnection| {
        let ConnectionUse { calls, since } = *lock(&connection.usage);
        (counts.get(&connection.owner).copied(), calls == 0, Reverse(since))
    };
    guard.iter().enumerate().max_by_key(|(_, connection)| key(connection)).map(|(index, _)| index)
}

impl ApiConnection {
    /// Returns the owner.
    #[must_use]
    pub const fn owner(&self) -> ConnectionOwner {
        self.owner
    }

    /// Ends the connection.
    pub fn evict(&self) {
        self.evicted.cancel();
    }

    /// Records the start of a call.
    #[must_use]
    pub fn call(self: &Arc<Self>) -> CallGuard {
        let mut usage = lock(&self.usage);
        *usage = ConnectionUse { calls: usage.calls + 1, since: Instant::now() };
        CallGuard(Arc::clone(self))
    }
}

impl ConnectionGuard {
    /// Returns the connection.
    #[must_use]
    pub const fn connection(&self) -> &Arc<ApiConnection> {
        &self.connection
    }

    /// Returns a token that is cancelled on eviction.
    #[must_use]
    pub fn evicted(&self) -> CancellationToken {
        self.connection.evicted.clone()
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        lock(&self.connection_limit.guard).retain(|connection| !Arc::ptr_eq(connection, &self.connection));
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let mut usage = lock(&self.0.usage);
        *usage = ConnectionUse { calls: usage.calls.saturating_sub(1), since: Instant::now() };
    }
}

/// Ignores poisoning: no holder of these locks leaves a partial update.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_left(guard: &ConnectionGuard) -> bool {
        guard.evicted().is_cancelled()
    }

    #[test]
    fn heaviest_owner_loses_least_recently_used() {
        let connection_limit = ConnectionLimiter::new(4);
        let crowd: Vec<_> = (0..3).map(|_| connection_limit.take(ConnectionOwner::User(1))).collect();
        let single = connection_limit.take(ConnectionOwner::User(2));
        drop(crowd[0].connection().call());
        let newcomer = connection_limit.take(ConnectionOwner::User(3));
        let left: Vec<_> = crowd.iter().map(has_left).collect();
        assert_eq!(left, [false, true, false]);
        assert!(!has_left(&single) && !has_left(&newcomer));
    }

    #[test]
    fn flood_evicts_its_own_connections() {
        let connection_limit = ConnectionLimiter::new(4);
        let others: Vec<_> = [7, 7, 8].map(|uid| connection_limit.take(ConnectionOwner::User(uid))).into();
        let crowd: Vec<_> = (0..100).map(|_| connection_limit.take(ConnectionOwner::User(9))).collect();
        assert!(others[2..].iter().all(|other| !has_left(other)));
        assert_eq!(others.iter().filter(|other| has_left(other)).count(), 1);
        assert_eq!(crowd.iter().filter(|one| !has_left(one)).count(), 2);
    }

    #[test]
    fn idle_connections_are_evicted_before_busy() {
        let connection_limit = ConnectionLimiter::new(2);
        let busy = connection_limit.take(ConnectionOwner::User(1));
        let call = busy.connection().call();
        let idle = connection_limit.take(ConnectionOwner::User(1));
        let second = connection_limit.take(ConnectionOwner::User(1));
        assert!(has_left(&idle) && !has_left(&busy));
        let calls = [call, second.connection().call()];
        let _third = connection_limit.take(ConnectionOwner::User(1));
        assert!(has_left(&busy) && !has_left(&second));
        drop(calls);
    }

    #[test]
    fn closed_connections_free_their_slot() {
        let connection_limit = ConnectionLimiter::new(2);
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
    fn ipv6_prefix_is_one_owner() {
        let owner = |address: &str| ConnectionOwner::from(address.parse::<IpAddr>().unwrap());
        assert_eq!(owner("2001:db8:0:1::1"), owner("2001:db8:0:1:ffff::2"));
        assert_ne!(owner("2001:db8:0:1::1"), owner("2001:db8:0:2::1"));
        assert_ne!(owner("192.0.2.1"), owner("192.0.2.2"));
    }
}
