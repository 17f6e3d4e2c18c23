//! The fast tests, in one binary.

#[path = "../support/xds_play.rs"]
mod xds_play;
#[path = "../support/xds_script.rs"]
mod xds_script;
#[path = "../support/xds_world.rs"]
mod xds_world;

mod xds_delta;
mod xds_model;
mod xds_order;
mod xds_sotw;
