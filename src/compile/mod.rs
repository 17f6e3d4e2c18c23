//! From objects to Envoy's messages.
//!
//! Pure: no clock, no randomness, no environment, no waiting. Never fails: it gives what it could make and a list of
//! problems.

mod cors;
mod filter;
mod findings;
mod header;
mod matching;
mod redirect;
pub mod regex;
pub mod route;
mod rule;
mod share;
mod timeout;
mod url;

pub use cors::CORS_FILTER;
pub use matching::MatchPrecedence;
