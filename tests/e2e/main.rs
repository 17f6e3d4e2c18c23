//! Real programs together: the tests that start an Envoy, our own binary, and clients that are not ours.

#[path = "../support/mod.rs"]
mod support;

mod bootstrap;
mod cli;
#[path = "../support/regex_cases.rs"]
mod regex_cases;
#[path = "../support/ugly_routes.rs"]
mod ugly_routes;

mod compiled_routes;
mod envoys;
mod readme;
mod support_itself;
