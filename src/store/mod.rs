//! The world as it was last told: objects, the joins that many outputs need, and the engine that keeps what was made from
//! them up to date.
//!
//! Never knows what is made from the objects, and never does IO: it is handed [`Change`]s and a [`Program`].

mod change;
mod engine;
mod facts;
mod index;
mod objects;
mod view;

pub use change::Change;
pub use engine::{Commit, Engine, Output, Program};
pub use facts::{Fact, FactSet};
pub use index::IndexKey;
pub use objects::{Store, Stored};
pub use view::View;
