//! Connections to an address that stays the same while what is behind it changes: a Service, as an Envoy sees it.

use std::net::SocketAddr;

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

/// A relay on loopback; it and what goes through it end when it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    target: watch::Sender<SocketAddr>,
    accepting: AbortHandle,
}

impl Relay {
    /// Starts one that leads there.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("it is bound");
        let (target, targets) = watch::channel(to);
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut targets = targets.clone();
                tokio::spawn(async move {
                    let to = *targets.borrow_and_update();
                    let Ok(mut server) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        // Elsewhere, or the relay is gone.
                        _ = targets.changed() => {}
                    }
                });
            }
        });
        Self { address, target, accepting: accepting.abort_handle() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections, and leads new ones elsewhere.
    pub fn lead_to(&self, to: SocketAddr) {
        self.target.send_replace(to);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
