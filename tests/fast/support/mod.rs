//! What several tests need.

pub mod xds;
