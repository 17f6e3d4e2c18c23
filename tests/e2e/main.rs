//! Real programs together: the tests that start an Envoy, our own binary, and clients that are not ours.

#![allow(unreachable_pub, reason = "nothing in a test binary is reached from outside")]

mod site;
#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod bootstrap;
mod bootstraps;
mod cli;
mod compiled_routes;
mod continuity;
mod endpoints;
mod envoys;
mod golden;
mod grpc_client;
mod mtls;
mod process;
mod quickstart;
mod readme;
mod routing;
mod support_itself;
