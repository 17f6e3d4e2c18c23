//! The hooks of the extension server: what becomes of an Envoy Gateway's resources, and what must not.

mod clusters;
mod fuzz;
mod golden;
mod kinds;
mod page;
mod passing;
mod policies;
mod revisions;
mod server;
mod wire;
