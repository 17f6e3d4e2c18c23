//! A datagram and its answer, through whatever is between.

use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::wait::until;

/// Sends datagrams to an address until one arrives at a backend, which answers it; the answer has to come back.
///
/// # Panics
/// When something else arrives, or nothing.
pub async fn exchange(backend: &UdpSocket, through: SocketAddr) {
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("there is a free port");
    // A datagram may be lost before the listener is there.
    let (question, from) = until("a datagram to arrive", async || {
        client.send_to(b"question", through).await.map_err(|error| error.to_string())?;
        let mut buffer = [0; 64];
        let (len, from) = backend.try_recv_from(&mut buffer).map_err(|error| error.to_string())?;
        Ok((buffer[..len].to_vec(), from))
    })
    .await;
    assert_eq!(question, b"question");
    backend.send_to(b"answer", from).await.expect("it is sent");
    let mut buffer = [0; 64];
    let (len, from) = client.recv_from(&mut buffer).await.expect("it arrives");
    assert_eq!((&buffer[..len], from), (&b"answer"[..], through));
}
