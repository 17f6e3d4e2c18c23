//! Real programs together: the tests that start an Envoy, our own binary, and clients that are not ours.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod bootstraps;
mod continuity;
mod endpoints;
mod envoys;
mod process;
mod quickstart;
mod readme;
mod routing;
#[allow(unreachable_pub, reason = "a module tree inside a test binary: nothing in it is reachable from outside")]
mod site;
mod support_itself;
