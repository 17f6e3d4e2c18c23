#![doc = include_str!("ARCHITECTURE.md")]

pub mod model;
pub mod snapshot;
pub mod xds;

pub mod admin;
pub mod dump;
pub mod metrics;
pub mod telemetry;
