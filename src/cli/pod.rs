//! The commands that pods with Envoys run: `install`, which puts a copy of this program where the Envoy's container has it, and
//! `drain`, which that container runs before it ends. An Envoy that is told to end does so at once, whoever waits for answers.
//!
//! Never decides when a pod ends: Kubernetes runs these, and stops waiting after the pod's grace period.

use std::{
    env, fs,
    io::{self},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, header::HOST};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{
    net::TcpStream,
    runtime, task,
    time::{self, Instant},
};

use super::complain;
use crate::{
    config::{DrainConfig, InstallConfig},
    model::PROBES_LISTENER,
};

/// How long there have to be no requests: for as long, whoever sends them may not know yet that the pod goes.
const QUIET: Duration = Duration::from_secs(5);
/// How often Envoy is asked.
const EVERY: Duration = Duration::from_millis(500);
/// How long Envoy may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why an Envoy could not be drained.
#[derive(Debug, Error)]
pub enum DrainError {
    /// There is no answer.
    #[error("Envoy's admin page on {admin} does not answer: {reason}")]
    Unanswered {
        /// The page.
        admin: SocketAddr,
        /// What went wrong.
        reason: String,
    },
    /// The answer is none that is expected.
    #[error("Envoy's admin page on {admin} answers {status} to {path}")]
    Refused {
        /// The page.
        admin: SocketAddr,
        /// What was asked for.
        path: &'static str,
        /// The answer.
        status: u16,
    },
}

/// Copies this program.
pub fn install(config: &InstallConfig) -> ExitCode {
    match copy_to(&config.to) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format_args!("{}: {error}", config.to.display())),
    }
}

/// In one step, so that nobody runs half of it.
fn copy_to(path: &Path) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    fs::copy(env::current_exe()?, &unfinished)?;
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755))?;
    fs::rename(&unfinished, path)
}

/// Tells an Envoy that it goes, and waits until nobody sends it requests any more.
pub fn drain(config: &DrainConfig) -> ExitCode {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    match runtime.block_on(drained(config.admin, Duration::from_secs(config.seconds.into()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

async fn drained(admin: SocketAddr, longest: Duration) -> Result<(), DrainError> {
    let end = Instant::now() + longest;
    // From now on it is not ready, takes requests all the same, and asks with every answer that the connection be closed.
    ask(admin, Method::POST, "/healthcheck/fail").await?;
    let mut busy_at = Instant::now();
    let mut before = None;
    while Instant::now() < end && busy_at.elapsed() < QUIET {
        time::sleep(EVERY.min(end - Instant::now())).await;
        let requests = Requests::read(&ask(admin, Method::GET, STATS).await?);
        if requests.active > 0 || before.is_some_and(|before| before != requests.total) {
            busy_at = Instant::now();
        }
        before = Some(requests.total);
    }
    Ok(())
}

/// Of all connection managers, the number of requests under way and of those there ever were.
const STATS: &str = r"/stats?filter=^http\..*\.downstream_rq_(active|total)$";

/// The requests of an Envoy, but for those about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Under way.
    pub active: u64,
    /// There ever were.
    pub total: u64,
}

impl Requests {
    /// Adds up the lines of Envoy's `/stats`.
    pub fn read(stats: &str) -> Self {
        let mut requests = Self::default();
        for line in stats.lines() {
            let Some((name, number)) = line.split_once(": ") else { continue };
            let Ok(number) = number.trim().parse::<u64>() else { continue };
            let Some((manager, what)) = name.strip_prefix("http.").and_then(|rest| rest.rsplit_once('.')) else {
                continue;
            };
            match what {
                _ if manager == "admin" || manager == PROBES_LISTENER => {}
                "downstream_rq_active" => requests.active += number,
                "downstream_rq_total" => requests.total += number,
                _ => {}
            }
        }
        requests
    }
}

async fn ask(admin: SocketAddr, method: Method, path: &'static str) -> Result<String, DrainError> {
    let unanswered = |reason: String| DrainError::Unanswered { admin, reason };
    let answer = time::timeout(TIMEOUT, exchange(admin, method, path)).await;
    let answer = answer.map_err(|_| unanswered(format!("no answer within {} s", TIMEOUT.as_secs())))?;
    let (status, text) = answer.map_err(|error| unanswered(error.to_string()))?;
    if status == 200 { Ok(text) } else { Err(DrainError::Refused { admin, path, status }) }
}

async fn exchange(
    admin: SocketAddr,
    method: Method,
    path: &str,
) -> Result<(u16, String), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(admin).await?)).await?;
    // Ends with the exchange.
    task::spawn(connection);
    let request =
        Request::builder().method(method).uri(path).header(HOST, admin.to_string()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
