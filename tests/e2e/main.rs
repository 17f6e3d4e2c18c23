//! Real programs together: the tests that start an Envoy, our own binary, and clients that are not ours.

#[path = "../support/mod.rs"]
mod support;

mod envoys;
mod readme;
mod quickstart;
mod support_itself;
