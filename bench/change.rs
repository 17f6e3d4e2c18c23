//! What one change costs, from the object's change to the bytes being ready for one Envoy, in worlds of several sizes; what
//! the fan-out to many Envoys costs; and what the first compilation of a large world costs. No sockets.
//!
//! Prints, besides Criterion's report, a line of JSON for each case: how many outputs were made and how many bytes were sent.

mod envoy;
mod processor;
mod world;

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use envoy::{Envoy, Names};
use processor::ProcessorTime;
use serde_json::json;
use tailscale_gateway::xds::Options;
use world::{Kind, Served, World, gateway};

/// The allocator of the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `cargo test --bench change` runs each case once, to see that it works: small worlds do.
fn quick() -> bool {
    !std::env::args().any(|argument| argument == "--bench") || std::env::args().any(|argument| argument == "--test")
}

fn sizes() -> &'static [usize] {
    if quick() { &[10] } else { &[100, 1_000, 10_000] }
}

#[expect(clippy::print_stdout, reason = "the report is the purpose")]
fn report(line: &serde_json::Value) {
    println!("{line}");
}

/// One change, one Envoy.
fn one_change(criterion: &mut Criterion<ProcessorTime>) {
    for (shape, make) in [("hosts", World::hosts as fn(usize) -> World), ("one-host", World::one_host)] {
        for kind in Kind::ALL {
            // Where endpoints do not know their routes, their change costs the same.
            if shape == "one-host" && kind != Kind::Route {
                continue;
            }
            let mut group = criterion.benchmark_group(format!("change/{shape}/{}", kind.as_str()));
            for routes in sizes() {
                fan_out_of(&mut group, &BenchmarkId::from_parameter(routes), make(*routes), kind, Names::Explicit, 1);
            }
            group.finish();
        }
    }
}

/// One change, many Envoys.
fn fan_out(criterion: &mut Criterion<ProcessorTime>) {
    let (routes, streams): (_, &[usize]) = if quick() { (10, &[2]) } else { (10_000, &[1, 10, 100, 1_000]) };
    for (kind, names) in
        [(Kind::Endpoint, Names::Explicit), (Kind::Endpoint, Names::Wildcard), (Kind::Route, Names::Explicit)]
    {
        let form = if names == Names::Explicit { "explicit" } else { "wildcard" };
        let mut group = criterion.benchmark_group(format!("fan-out/{}/{form}", kind.as_str()));
        for streams in streams {
            let id = BenchmarkId::from_parameter(streams);
            fan_out_of(&mut group, &id, World::hosts(routes), kind, names, *streams);
        }
        group.finish();
    }
}

fn fan_out_of(
    group: &mut BenchmarkGroup<'_, ProcessorTime>,
    id: &BenchmarkId,
    world: World,
    kind: Kind,
    names: Names,
    streams: usize,
) {
    let Served { mut pipeline, cache } = Served::new(world.changes());
    let options = Options::default();
    let first = cache.current(&gateway());
    let mut envoys: Vec<Envoy> = (0..streams).map(|_| Envoy::connect(&options, names, &first)).collect();
    drop(first);
    let mut changes = world.change(kind).into_iter().cycle();
    let mut change = || {
        let applied = pipeline.apply([changes.next().expect("a cycle has no end")]);
        let snapshot = cache.current(&gateway());
        let mut sent = (0, 0);
        for envoy in &mut envoys {
            let (responses, bytes) = envoy.answer(&snapshot);
            sent = (sent.0 + responses, sent.1 + bytes);
        }
        (applied, sent)
    };
    let (applied, (responses, bytes)) = change();
    assert!(responses >= streams, "every Envoy is sent something");
    let resources: usize = applied.resources.values().sum();
    report(&json!({
        "work": {"kind": kind.as_str(), "shape": format!("{:?}", world.shape), "routes": world.routes, "streams": streams,
            "names": format!("{names:?}"), "outputs": applied.made, "resources": resources, "bytes": bytes / streams},
    }));
    group.bench_function(id.clone(), |bencher| bencher.iter(|| black_box(change())));
}

/// Everything for the first time.
fn cold(criterion: &mut Criterion<ProcessorTime>) {
    let routes = if quick() { 10 } else { 10_000 };
    let objects = World::hosts(routes).changes();
    let mut group = criterion.benchmark_group("cold");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function(BenchmarkId::new("compile", routes), |bencher| {
        bencher.iter_with_large_drop(|| Served::new(objects.clone()));
    });
    group.bench_function(BenchmarkId::new("compile-and-first-envoy", routes), |bencher| {
        bencher.iter_with_large_drop(|| {
            let served = Served::new(objects.clone());
            let envoy = Envoy::connect(&Options::default(), Names::Explicit, &served.cache.current(&gateway()));
            (served, envoy)
        });
    });
    group.finish();
}

fn settings() -> Criterion<ProcessorTime> {
    Criterion::default()
        .with_measurement(ProcessorTime)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .without_plots()
}

criterion_group! { name = benches; config = settings(); targets = one_change, fan_out, cold }
criterion_main!(benches);
