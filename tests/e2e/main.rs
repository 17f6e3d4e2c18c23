//! Real programs together: the tests that start an Envoy, our own binary, and clients that are not ours.

#[path = "../support/mod.rs"]
mod support;

mod bootstrap;
mod cli;
mod compiled_routes;
mod envoys;
mod readme;
mod support_itself;
