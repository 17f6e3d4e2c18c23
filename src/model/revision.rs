//! What an Envoy Gateway is told about one of its Gateways, as a number that changes with it.

use std::sync::Arc;

/// The bit that says nothing about what is told: by it the same can be told once more.
const AGAIN: u128 = 1;

/// A revision, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayRevision {
    /// A hash of what is told, but for its lowest bit.
    pub number: u128,
    /// `metadata.uid` of the Gateway, with which what says it goes; nothing without a cluster.
    pub owner: Option<Arc<str>>,
}

impl GatewayRevision {
    /// The revision for a hash of what is told.
    pub fn new(hash: u128, owner: Option<Arc<str>>) -> Self {
        Self { number: hash & !AGAIN, owner }
    }

    /// Whether both say that the same is told.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.number | AGAIN == other.number | AGAIN
    }

    /// Another number that says the same.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { number: self.number ^ AGAIN, owner: self.owner.clone() }
    }
}
