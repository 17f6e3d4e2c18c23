//! Where objects come from: files here, a cluster elsewhere.
//!
//! Turns what stands outside into `Change`s for the store. Never compiles, never serves.

pub mod manifest;
mod value;
