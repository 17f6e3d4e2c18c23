//! A network namespace of the test's own: addresses and ports that nothing else on the machine has, and no way out but those
//! that the test makes.
//!
//! It is for what can not be on the loopback interface of everybody: an address that an API server takes for an endpoint, a
//! program with fixed ports. There is one interface, loopback, with the addresses that the test names. Programs run inside
//! with [`Namespace::command`]; the test itself is outside, and holds sockets from inside ([`Namespace::listen`],
//! [`Namespace::connect`]), so that its backends and clients need no program of their own there. It needs root, or a kernel
//! that lets anybody make a user namespace. When the last process in it has ended, the kernel removes it.

use std::{
    fmt,
    io::{self, IoSliceMut, Write},
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

use super::{
    process::{Process, dying_with_parent, wrapped},
    tools::repository,
};

/// A network namespace; its processes end, and what leads in and out is cut, when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    /// Where sockets are asked for.
    door: PathBuf,
    /// The program behind it, whose namespace this is.
    keeper: Process,
    relays: Mutex<Vec<AbortHandle>>,
    _folder: TempDir,
}

impl Namespace {
    /// Makes one whose loopback interface has these addresses beside `127.0.0.1` and `::1`.
    ///
    /// # Panics
    /// When the kernel does not allow it.
    pub async fn start(addresses: &[IpAddr]) -> Self {
        let folder = TempDir::with_prefix("namespace-").expect("a temporary folder can be made");
        let door = folder.path().join("door");
        let mut keeper = Command::new("unshare");
        keeper.arg("--net");
        if !is_root() {
            keeper.arg("--map-root-user");
        }
        keeper.args(["--", "python3"]).arg(repository().join("tests/support/namespace.py")).arg(&door);
        keeper.args(addresses.iter().map(IpAddr::to_string));
        let keeper = Process::spawn("the network namespace (needs root, or user namespaces for everybody)", keeper);
        keeper.wait_for_line("open").await;
        Self { door, keeper, relays: Mutex::default(), _folder: folder }
    }

    /// The command that runs inside.
    pub fn command(&self, command: Command) -> Command {
        let mut enter = Command::new("nsenter");
        enter.arg("--target").arg(self.keeper.id().to_string()).arg("--net");
        if !is_root() {
            enter.args(["--user", "--preserve-credentials"]);
        }
        enter.arg("--");
        // Who enters a user namespace gets other credentials, and with them the kernel forgets whom it dies with.
        wrapped(enter, dying_with_parent(command))
    }

    /// A socket that listens inside; port 0 is a free one.
    ///
    /// # Panics
    /// When the address can not be bound.
    pub async fn listen(&self, address: SocketAddr) -> TcpListener {
        let socket = ask(&self.door, "listen", address).await;
        let socket = socket.unwrap_or_else(|error| panic!("listening on {address} inside: {error}"));
        let socket = std::net::TcpListener::from(socket);
        socket.set_nonblocking(true).expect("a socket can be made so");
        TcpListener::from_std(socket).expect("the test runs in a runtime")
    }

    /// A connection to an address inside.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        connect(&self.door, address).await
    }

    /// An address outside, on loopback, whose connections lead to this one inside.
    pub async fn lead_in(&self, inside: SocketAddr) -> SocketAddr {
        let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port is free");
        let address = outside.local_addr().expect("it is bound");
        self.relay(outside, Way::In(self.door.clone(), inside));
        address
    }

    /// Leads connections to this address inside to one outside.
    ///
    /// # Panics
    /// When the address inside can not be bound.
    pub async fn lead_out(&self, inside: SocketAddr, outside: SocketAddr) {
        let listener = self.listen(inside).await;
        self.relay(listener, Way::Out(outside));
    }

    fn relay(&self, listener: TcpListener, way: Way) {
        let relay = tokio::spawn(async move {
            // They end with this task.
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let way = way.clone();
                connections.spawn(async move {
                    // Who is refused there is cut off here.
                    let Ok(mut server) = way.open().await else { return };
                    let _without_delay = (client.set_nodelay(true), server.set_nodelay(true));
                    let _cut_by_one_of_both = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        self.relays.lock().expect("no holder panics").push(relay.abort_handle());
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Ok(relays) = self.relays.get_mut() {
            relays.iter().for_each(AbortHandle::abort);
        }
    }
}

/// Where a relay leads.
#[derive(Clone, Debug)]
enum Way {
    /// To an address inside, through the door.
    In(PathBuf, SocketAddr),
    /// To an address outside.
    Out(SocketAddr),
}

impl Way {
    async fn open(&self) -> io::Result<TcpStream> {
        match self {
            Self::In(door, address) => connect(door, *address).await,
            Self::Out(address) => TcpStream::connect(address).await,
        }
    }
}

async fn connect(door: &Path, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = std::net::TcpStream::from(ask(door, "connect", address).await?);
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket)
}

/// A socket that the keeper made.
async fn ask(door: &Path, what: impl fmt::Display, address: SocketAddr) -> io::Result<OwnedFd> {
    let (door, request) = (door.to_owned(), format!("{what} {} {}", address.ip(), address.port()));
    let asking = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(door)?;
        stream.write_all(request.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        receive(&stream)
    });
    asking.await.expect("asking does not panic")
}

/// An answer: a descriptor, or words in its place.
fn receive(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut words = [0; 256];
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut words)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.ok_or_else(|| io::Error::other(String::from_utf8_lossy(&words[..received.bytes]).into_owned()))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
