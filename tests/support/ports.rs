//! Loopback ports for programs that must be told a number before they bind it.
//!
//! A port is leased, not guessed: it lies outside the range from which the kernel takes ports for outgoing connections, and a
//! lock file keeps every other test process away from it until the lease is dropped. So it can be bound, given up and bound
//! again (a restart), under load too.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::RangeInclusive,
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::tools;

/// The ports that are looked at.
const CANDIDATES: RangeInclusive<u16> = 15_000..=64_999;

/// A port of the loopback interface that nobody else is given while this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// A port that is free on all addresses.
    ///
    /// # Panics
    /// When there is none.
    pub fn lease() -> Self {
        /// How many candidates this process has looked at: none twice in a row, so that a port rests before it is reused.
        static LOOKED_AT: AtomicUsize = AtomicUsize::new(0);
        let outgoing = outgoing_ports();
        let candidates: Vec<u16> = CANDIDATES.filter(|port| !outgoing.contains(port)).collect();
        assert!(
            !candidates.is_empty(),
            "the kernel uses {outgoing:?} for outgoing connections: no port is left for tests"
        );
        let first = process::id() as usize * 97;
        for _ in 0..candidates.len() {
            let number = candidates[(first + LOOKED_AT.fetch_add(1, Ordering::Relaxed)) % candidates.len()];
            if let Some(port) = Self::claim(number) {
                return port;
            }
        }
        panic!("no port from {CANDIDATES:?} is free");
    }

    /// This port, unless it is leased to somebody else or in use.
    pub fn claim(number: u16) -> Option<Self> {
        let locks = tools::cache().join("ports");
        fs::create_dir_all(&locks).expect("the cache folder can be written");
        let lock = File::create(locks.join(number.to_string())).expect("a lock file can be written");
        let free = lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok();
        free.then_some(Self { number, _lock: lock })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// It on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// The ports that the kernel gives to outgoing connections.
fn outgoing_ports() -> RangeInclusive<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = range.split_whitespace().filter_map(|bound| bound.parse().ok());
    match (bounds.next(), bounds.next()) {
        (Some(low), Some(high)) => low..=high,
        _ => 32_768..=60_999,
    }
}
