//! What the tests drive real programs with: processes, ports, Envoys, our own binary, backends and clients.
//!
//! It decides nothing about what is right: it starts, asks, waits with a deadline, and panics with everything it knows when
//! the world does not answer. Nothing here sleeps for a guessed time; what can only be polled is polled in [`wait`].
#![allow(unreachable_pub, reason = "a module tree inside a test binary: nothing in it is reachable from outside")]
#![allow(dead_code, reason = "a tool box: no test binary uses every tool")]

pub mod alone;
pub mod backend;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod container;
pub mod datagrams;
pub mod deployment;
pub mod envoy;
pub mod envoy_gateway;
pub mod extension_cases;
pub mod extension_fuzz;
pub mod gateway;
pub mod golden;
pub mod load;
pub mod manifest_fuzz;
pub mod manifests;
pub mod mtls;
pub mod namespace;
pub mod pod;
pub mod ports;
pub mod preflight_cases;
pub mod process;
pub mod real_envoy_gateway;
pub mod regex_cases;
pub mod relay;
pub mod tls;
pub mod tools;
pub mod ugly_routes;
pub mod wait;
