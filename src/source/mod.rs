//! Where objects come from: files here, a cluster elsewhere.
//!
//! Turns what stands outside into [`Change`](crate::store::Change)s for the store. Never compiles, never serves.

pub mod file_set;
pub mod files;
mod kinds;
pub mod kubernetes;
mod located;
pub mod manifest;
mod object;
mod scan;
mod signal;
mod value;
mod watch;

pub use file_set::FileSet;
pub use files::FileWorld;
pub use kubernetes::{ClusterUpdate, Health, KindState, KindStates, KubernetesSource, PATIENCE};
pub use located::{Located, Subject};
pub use watch::{FileSource, SourceUpdate, StartError, read_all};
