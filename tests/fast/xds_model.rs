//! Random conversations: at least 10^5 interleavings of changes, requests, answers, delays and lost connections.
//!
//! `XDS_MODEL_SEED` and `XDS_MODEL_RUNS` (per protocol and kind of client) choose others. A failure is shortened and printed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::xds_play::{Manners, play};

/// Choices in one conversation: about a third as many things happen.
const LENGTH: usize = 160;

#[test]
fn any_conversation_like_envoys_keeps_the_rules_in_the_delta_protocol() {
    explore(true, Manners::Envoy);
}

#[test]
fn any_conversation_like_envoys_keeps_the_rules_in_the_state_of_the_world_protocol() {
    explore(false, Manners::Envoy);
}

#[test]
fn any_conversation_at_all_keeps_the_rules_in_the_delta_protocol() {
    explore(true, Manners::Free);
}

#[test]
fn any_conversation_at_all_keeps_the_rules_in_the_state_of_the_world_protocol() {
    explore(false, Manners::Free);
}

fn explore(is_delta: bool, manners: Manners) {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let seed: u64 = number("XDS_MODEL_SEED", 1);
    let runs: u64 = number("XDS_MODEL_RUNS", 25_000);
    let mut bytes = [0; LENGTH];
    for run in 0..runs {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (run + 1));
        bytes.fill_with(|| random.byte());
        let length = 8 + usize::from(random.byte()) % (LENGTH - 8);
        if catch_unwind(AssertUnwindSafe(|| play(is_delta, manners, &bytes[..length], None))).is_err() {
            let short = shortened(is_delta, manners, bytes[..length].to_vec());
            let mut trace = Vec::new();
            let result = catch_unwind(AssertUnwindSafe(|| play(is_delta, manners, &short, Some(&mut trace))));
            let why = result.expect_err("it failed before");
            let why = why.downcast_ref::<String>().map_or("", String::as_str);
            panic!("seed {seed}, run {run}, delta {is_delta}, {manners:?}, {short:?}:\n{}\n{why}", trace.join("\n"));
        }
    }
}

/// The bytes with as many of them left out as still fail.
fn shortened(is_delta: bool, manners: Manners, mut bytes: Vec<u8>) -> Vec<u8> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let fails = |bytes: &[u8]| catch_unwind(AssertUnwindSafe(|| play(is_delta, manners, bytes, None))).is_err();
    for size in [32, 16, 8, 4, 2, 1, 4, 3, 2, 1] {
        let mut at = 0;
        while at < bytes.len() {
            let mut shorter = bytes.clone();
            shorter.drain(at..(at + size).min(bytes.len()));
            if fails(&shorter) {
                bytes = shorter;
            } else {
                at += 1;
            }
        }
    }
    std::panic::set_hook(hook);
    bytes
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    }
}

/// What `fuzz/fuzz_targets/xds_*.rs` run, on the inputs that once broke a rule.
#[test]
fn conversations_that_once_broke_a_rule_keep_it() {
    for (folder, is_delta) in [("xds_delta", true), ("xds_sotw", false)] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(folder);
        for entry in std::fs::read_dir(&folder).expect("the corpus is there") {
            let bytes = std::fs::read(entry.expect("readable").path()).expect("readable");
            let (first, rest) = bytes.split_first().expect("not empty");
            play(is_delta, if first % 2 == 0 { Manners::Envoy } else { Manners::Free }, rest, None);
        }
    }
}
