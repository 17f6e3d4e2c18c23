//! The world as objects.

mod change;

pub use change::Change;
