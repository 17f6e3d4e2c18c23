//! `cargo fuzz run manifest`: no file makes the manifest reader panic or contradict itself.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/manifest_fuzz.rs"]
mod manifest_fuzz;

fuzz_target!(|data: &[u8]| manifest_fuzz::fuzz_manifest(data));
