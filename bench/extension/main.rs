//! What a call of an Envoy Gateway costs: the hook at the end of a translation, with all its resources, over a connection of its
//! own to our real extension server and to one that decodes them into types and encodes them again, which is what an extension
//! written on the generated messages does before it does anything.
//!
//! ```text
//! cargo bench --bench extension -- 1000 10000             both servers at these sizes; a line of JSON for each row
//! cargo bench --bench extension -- --only little 10000    one of the cases, to profile it
//! ```
//!
//! Both servers have runtimes of their own in this process and are called in turns by the same client, one call at a time, as an
//! Envoy Gateway does.

mod client;
mod peer;
#[path = "../../tests/support/mod.rs"]
mod support;
mod world;

use std::{
    error::Error,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use prost::Message;
use serde_json::json;
use tailscale_gateway::{
    extension::{Bound, Calls, ServerOptions, serve},
    metrics::Metrics,
    snapshot::{Hosted, PublishedHosted, SnapshotCache},
};
use tailscale_gateway_proto::envoy_gateway::{PostTranslateModifyRequest, PostTranslateModifyResponse};
use tokio::runtime::Runtime;
use world::{Ours, World};

use self::{client::Client, support::ports::Port};

/// The allocator of the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Either way of being wrong ends the program.
type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Parser)]
struct Arguments {
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    /// Only this case.
    #[arg(long)]
    only: Option<Ours>,
    /// How many clusters and routes there are.
    sizes: Vec<usize>,
}

/// Calls of one server for one case in a row; then it is another's turn.
const TURN: usize = 10;

fn main() -> Result {
    let arguments = Arguments::parse();
    let sizes = match (arguments.sizes.as_slice(), arguments.bench) {
        ([], true) => vec![1_000, 10_000],
        ([], false) => vec![20],
        (sizes, _) => sizes.to_vec(),
    };
    for size in sizes {
        // Enough for the slowest of a hundred to be more than one call.
        let rounds = match (arguments.bench, size) {
            (false, _) => 1,
            (true, 0..5_000) => 100,
            (true, _) => 40,
        };
        measure(size, rounds, arguments.only)?;
    }
    Ok(())
}

/// A server, what it needed for each call by its own account, and what the client saw.
struct Measured {
    name: &'static str,
    client: Client,
    took: Box<dyn Fn() -> Vec<Duration>>,
    inside: Vec<Duration>,
    outside: Vec<Duration>,
    bytes: (usize, usize),
}

/// Measures both servers in all cases, in turns.
fn measure(size: usize, rounds: usize, only: Option<Ours>) -> Result {
    let driver = Runtime::new()?;
    let (ours, plain) = (Runtime::new()?, Runtime::new()?);
    let mut cases = Vec::new();
    for case in Ours::ALL.into_iter().filter(|case| only.is_none_or(|only| only == *case)) {
        let World { request, hosted } = World::new(size, case);
        let (address, calls) = start(&ours, hosted)?;
        let took: Box<dyn Fn() -> Vec<Duration>> =
            Box::new(move || calls.last().iter().take(TURN).map(|call| call.took).collect());
        let (typed, times) = peer::start(&plain)?;
        let servers = [("ours", address, took), ("prost", typed, Box::new(move || times.take()))];
        let mut measured = Vec::new();
        for (name, address, took) in servers {
            let mut client = driver.block_on(Client::connect(address))?;
            // The first call of a connection finds out how much it may send.
            let response = driver.block_on(client.translate(request.clone()))?;
            check(case, name, &request, &response)?;
            took();
            let bytes = (request.len(), response.len());
            measured.push(Measured { name, client, took, inside: Vec::new(), outside: Vec::new(), bytes });
        }
        cases.push((case, request, measured));
    }
    for _ in 0..rounds {
        for (_, request, servers) in &mut cases {
            for server in servers {
                for _ in 0..TURN {
                    let request = request.clone();
                    let began = Instant::now();
                    let response = driver.block_on(server.client.translate(request))?;
                    server.outside.push(began.elapsed());
                    drop(response);
                }
                server.inside.extend((server.took)());
            }
        }
    }
    for (case, _, servers) in &mut cases {
        for server in servers {
            report(size, *case, server);
        }
    }
    ours.shutdown_background();
    plain.shutdown_background();
    Ok(())
}

/// Starts our server.
fn start(runtime: &Runtime, hosted: Hosted) -> Result<(SocketAddr, Arc<Calls>)> {
    let port = Port::lease();
    let address = port.address();
    let calls = Arc::new(Calls::default());
    let metrics = Arc::new(Metrics::new(Arc::new(SnapshotCache::new())));
    let hosted = Arc::new(PublishedHosted::new(Arc::new(hosted)));
    let bound = runtime.block_on(async { Bound::tcp(address) })?;
    let server = serve(bound, hosted, metrics, Arc::clone(&calls), ServerOptions::default(), std::future::pending());
    runtime.spawn(async move {
        // It is this server's as long as it runs.
        let _port = port;
        server.await
    });
    Ok((address, calls))
}

/// Both answer with all that they were sent, and ours with what the case is about.
fn check(case: Ours, server: &str, request: &Bytes, response: &Bytes) -> Result {
    let sent = PostTranslateModifyRequest::decode(request.clone())?;
    let got = PostTranslateModifyResponse::decode(response.clone())?;
    let whole = got.clusters.len() >= sent.clusters.len() && got.routes.len() == sent.routes.len();
    let same = got.clusters == sent.clusters && got.routes == sent.routes;
    let changes = server == "ours" && case != Ours::Nothing;
    // Types put unknown fields and the order of fields aside, so that only our bytes can be compared.
    if !whole || (server == "ours" && same == changes) {
        let counts = |clusters: &[Bytes], routes: &[Bytes]| (clusters.len(), routes.len());
        let (sent, got) = (counts(&sent.clusters, &sent.routes), counts(&got.clusters, &got.routes));
        return Err(format!("{server} with {case:?} answers what it should not: {sent:?} became {got:?}").into());
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result is the purpose")]
fn report(size: usize, case: Ours, server: &mut Measured) {
    let milliseconds = |times: &mut Vec<Duration>, share: f64| {
        times.sort_unstable();
        times[(share * (times.len() - 1) as f64).ceil() as usize].as_secs_f64() * 1e3
    };
    let (request, response) = server.bytes;
    let mean = server.outside.iter().sum::<Duration>().as_secs_f64() / server.outside.len() as f64;
    println!(
        "{}",
        json!({
            "resources": size, "case": case.as_str(), "server": server.name, "calls": server.outside.len(),
            "request_bytes": request, "response_bytes": response,
            "inside_p50_ms": milliseconds(&mut server.inside, 0.5), "inside_p99_ms": milliseconds(&mut server.inside, 0.99),
            "p50_ms": milliseconds(&mut server.outside, 0.5), "p99_ms": milliseconds(&mut server.outside, 0.99),
            "bytes_per_second": (request + response) as f64 / mean,
        })
    );
}
