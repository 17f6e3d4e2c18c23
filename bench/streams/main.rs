//! What one change costs over real sockets, and what an idle stream costs in memory: many Envoys, each with a delta stream on
//! a connection of its own, to a server in another process.
//!
//! ```text
//! cargo bench --bench streams -- dump --routes N DIR           write what is served, for a peer to serve the same
//! cargo bench --bench streams -- serve --routes N              serve it, and change what standard input names
//! cargo bench --bench streams -- drive --streams S SERVER…     start a server, open S streams, measure it
//! cargo bench --bench streams                                  drive our own server, small
//! ```
//!
//! `drive` knows nothing of the server but what `serve` promises: its first line is its address; a line `route`, `backend` or
//! `endpoint` makes it change that; it answers `collect` with a line once it has given back the memory that it can.

mod client;
mod drive;
mod serve;
#[path = "../world.rs"]
#[allow(dead_code, reason = "shared with the bench `change`")]
mod world;

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use clap::{Parser, Subcommand};
use prost::Message;
use tailscale_gateway::snapshot::{Resource, Snapshot, TypeUrl};
use tailscale_gateway_proto::{envoy::service::discovery::v3::DiscoveryResponse, google::protobuf::Any};
use world::{Kind, Served, World, gateway};

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
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Writes what is served, and what of it each kind of change changes.
    Dump {
        #[arg(long)]
        routes: usize,
        folder: PathBuf,
    },
    /// Serves a world.
    Serve {
        #[arg(long)]
        routes: usize,
    },
    /// Measures a server.
    Drive {
        #[arg(long)]
        streams: usize,
        /// The server's program and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        server: Vec<String>,
    },
}

fn main() -> Result {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Dump { routes, folder }) => dump(World::hosts(routes), &folder),
        Some(Command::Serve { routes }) => serve::serve(World::hosts(routes)),
        Some(Command::Drive { streams, server }) => drive::drive(&server, streams),
        None => {
            let (routes, streams) = if arguments.bench { (1_000, 100) } else { (10, 2) };
            let own = std::env::current_exe()?.to_string_lossy().into_owned();
            drive::drive(&[own, "serve".into(), "--routes".into(), routes.to_string()], streams)
        }
    }
}

/// Two `DiscoveryResponse`s: `resources.pb` with everything, `changes.pb` with what is different after a change of each kind
/// that changes one resource.
fn dump(world: World, folder: &Path) -> Result {
    let Served { mut pipeline, cache } = Served::new(world.changes());
    let before = cache.current(&gateway());
    let mut changes = DiscoveryResponse::default();
    for kind in [Kind::Route, Kind::Endpoint] {
        let [change, back] = world.change(kind);
        pipeline.apply([change]);
        changes.resources.extend(different(&before, &cache.current(&gateway())));
        pipeline.apply([back]);
    }
    assert_eq!(changes.resources.len(), 2, "each of these changes changes one resource");
    let all = TypeUrl::ALL.into_iter().flat_map(|type_url| before.view(type_url).iter());
    let resources =
        DiscoveryResponse { resources: all.map(|resource| packed(resource)).collect(), ..Default::default() };
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("resources.pb"), resources.encode_to_vec())?;
    std::fs::write(folder.join("changes.pb"), changes.encode_to_vec())?;
    Ok(())
}

fn different(before: &Snapshot, after: &Snapshot) -> Vec<Any> {
    let steps = TypeUrl::ALL.into_iter().map(|type_url| after.view(type_url).step_from(before.view(type_url)));
    steps.flat_map(|step| step.updated.iter().map(|resource| packed(resource)).collect::<Vec<_>>()).collect()
}

fn packed(resource: &Resource) -> Any {
    Any { type_url: resource.type_url().as_str().to_owned(), value: resource.message_bytes() }
}
