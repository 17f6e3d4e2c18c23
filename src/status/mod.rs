//! From reports to Kubernetes conditions, for every kind we own or share.
//!
//! Never reads the world and never reads a clock: what an object's status was before, and what time it is, are arguments.

mod conditions;
mod features;
mod fields;
mod merge;

pub use conditions::{Condition, ConditionStatus, ListenerConditions, ObjectStatus, ParentConditions, status};
pub use features::SUPPORTED_FEATURES;
pub use merge::merge;
