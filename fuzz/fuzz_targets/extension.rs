//! `cargo fuzz run extension`: no request to a hook makes it panic, lose a resource or answer with half a message.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/extension_fuzz.rs"]
mod extension_fuzz;

fuzz_target!(|data: &[u8]| extension_fuzz::fuzz_extension(data));
