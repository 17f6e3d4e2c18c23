//! Our server, changing what it is told to.

use std::{future, io::BufRead, sync::Arc};

use tailscale_gateway::{
    metrics::Metrics,
    xds::{Registry, ServerOptions, serve as serve_xds},
};
use tokio::net::TcpListener;

use super::{
    Result,
    world::{Kind, Served, World},
};

/// Serves a world until standard input ends.
#[expect(clippy::print_stdout, reason = "standard output is the protocol")]
pub(crate) fn serve(world: World) -> Result {
    let Served { mut pipeline, cache } = Served::new(world.changes());
    let runtime = tokio::runtime::Runtime::new()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    println!("{}", listener.local_addr()?);
    let metrics = Arc::new(Metrics::new(Arc::clone(&cache)));
    let registry = Arc::new(Registry::default());
    runtime.spawn(serve_xds(listener, cache, registry, metrics, ServerOptions::default(), future::pending()));

    let mut next = Kind::ALL.map(|kind| world.change(kind).into_iter().cycle());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match Kind::ALL.iter().position(|kind| kind.as_str() == line) {
            Some(kind) => {
                pipeline.apply([next[kind].next().expect("a cycle has no end")]);
            }
            // There is no garbage: what is free is free.
            None if line == "collect" => println!("collected"),
            None => return Err(format!("no such command: {line}").into()),
        }
    }
    Ok(())
}
