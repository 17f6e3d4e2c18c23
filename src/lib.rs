#![doc = include_str!("ARCHITECTURE.md")]

pub mod api;
pub mod model;
pub mod api;
pub mod store;
pub mod snapshot;
