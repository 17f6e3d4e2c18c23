//! From reports to Kubernetes conditions, for every kind we own or share.
//!
//! Never reads the world and never knows the time: what a condition was before, and when it changed, is the writer's matter.

mod conditions;

pub use conditions::{
    Condition, ConditionStatus, ListenerConditions, ObjectStatus, ParentConditions, Programmed, status,
};
