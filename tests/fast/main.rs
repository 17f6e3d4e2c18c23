//! The fast tests, in one binary.

mod dump;
mod telemetry;
mod xds_wire;
