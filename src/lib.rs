#![doc = include_str!("ARCHITECTURE.md")]

pub mod api;
pub mod compile;
pub mod model;
pub mod snapshot;
pub mod status;
pub mod store;
