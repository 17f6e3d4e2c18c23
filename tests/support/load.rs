//! Continuous load that counts what became of each request.
//!
//! It is for "no request failed while …", not for measuring speed. It stops by itself after [`LONGEST`] and after
//! [`MOST`] requests a connection, whatever the test does.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    client::{Connection, Request},
    wait::within,
};

/// The longest time that load goes on.
pub const LONGEST: Duration = Duration::from_secs(300);

/// The most requests that one connection sends.
pub const MOST: u64 = 1_000_000;

/// What became of the requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many responses had which status.
    pub by_status: BTreeMap<u16, u64>,
    /// How many responses came from which [`Backend`](super::backend::Backend).
    pub by_backend: BTreeMap<String, u64>,
    /// How often which error came instead of a response.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    /// How many requests were answered.
    pub fn responses(&self) -> u64 {
        self.by_status.values().sum()
    }

    /// How many requests were not answered with a status from 200 to 299.
    pub fn failures(&self) -> u64 {
        let refused = self.by_status.iter().filter(|(status, _)| !(200..300).contains(*status));
        refused.map(|(_, count)| count).sum::<u64>() + self.errors.values().sum::<u64>()
    }
}

/// Running load.
#[derive(Debug)]
pub struct Load {
    counted: Arc<Counted>,
    stop: CancellationToken,
    connections: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counted {
    tally: Mutex<Tally>,
    /// How many requests have ended, either way.
    ended: watch::Sender<u64>,
}

impl Load {
    /// Sends this request over and over on so many connections, each one after the other.
    pub fn start(request: &Request, connections: usize) -> Self {
        let (counted, stop) = (Arc::<Counted>::default(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(send_until(stop.clone(), request.clone(), counted.clone()));
        }
        Self { counted, stop, connections: tasks }
    }

    /// Waits until so many more requests have ended.
    ///
    /// # Panics
    /// When the deadline passes.
    pub async fn wait_for(&self, more: u64) {
        let mut ended = self.counted.ended.subscribe();
        let enough = *ended.borrow() + more;
        let reached = within(&format!("{more} more requests to end"), ended.wait_for(|ended| *ended >= enough)).await;
        reached.expect("this value keeps the sender");
    }

    /// What became of the requests so far.
    pub fn tally(&self) -> Tally {
        self.counted.tally.lock().expect("no holder panics").clone()
    }

    /// Lets each connection finish the request it is at, and returns what became of all of them.
    ///
    /// # Panics
    /// When a request does not end before the deadline.
    pub async fn stop(mut self) -> Tally {
        self.stop.cancel();
        let all = async { while self.connections.join_next().await.is_some() {} };
        within("the last requests to end", all).await;
        self.tally()
    }
}

/// One connection: opened again whenever the server closed it.
async fn send_until(stop: CancellationToken, request: Request, counted: Arc<Counted>) {
    let end = Instant::now() + LONGEST;
    let mut pause = interval(Duration::from_millis(1));
    let mut connection: Option<Connection> = None;
    for _ in 0..MOST {
        if stop.is_cancelled() || Instant::now() >= end {
            return;
        }
        let open = match connection.as_mut() {
            Some(connection) => connection.is_open().await,
            None => false,
        };
        if !open {
            connection = None;
            match Connection::open(&request).await {
                Ok(opened) => connection = Some(opened),
                Err(error) => {
                    counted.error(error);
                    // Who can not even connect does not spin.
                    pause.tick().await;
                    continue;
                }
            }
        }
        match connection.as_mut().expect("opened above").send(&request).await {
            Ok(response) => counted.response(response.status, response.header("x-backend")),
            Err(error) => {
                connection = None;
                counted.error(error);
            }
        }
    }
}

impl Counted {
    fn response(&self, status: u16, backend: Option<&str>) {
        {
            let mut tally = self.tally.lock().expect("no holder panics");
            *tally.by_status.entry(status).or_default() += 1;
            if let Some(backend) = backend {
                match tally.by_backend.get_mut(backend) {
                    Some(count) => *count += 1,
                    None => drop(tally.by_backend.insert(backend.to_owned(), 1)),
                }
            }
        }
        self.ended.send_modify(|ended| *ended += 1);
    }

    fn error(&self, error: String) {
        *self.tally.lock().expect("no holder panics").errors.entry(error).or_default() += 1;
        self.ended.send_modify(|ended| *ended += 1);
    }
}
