//! Any conversation in the state-of-the-world protocol, with a client like Envoy and with one that does as it likes.
#![no_main]
#![allow(dead_code, reason = "the tests use more of what they share")]

#[path = "../../tests/support/xds_play.rs"]
mod xds_play;
#[path = "../../tests/support/xds_world.rs"]
mod xds_world;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let manners = if first % 2 == 0 { xds_play::Manners::Envoy } else { xds_play::Manners::Free };
    // Longer ones only repeat themselves.
    xds_play::play(false, manners, &rest[..rest.len().min(1024)], None);
});
