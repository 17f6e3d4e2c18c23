//! What the fuzzer found worth keeping, and small changes to it.
//!
//! `make generate` writes the requests of the golden files' Envoy Gateways beside what the fuzzer found.

use std::{collections::BTreeMap, env, fs, path::PathBuf, sync::LazyLock};

use proptest::prelude::*;
use tailscale_gateway::extension::Hook;

use crate::support::{
    extension_cases::{asked_again, cases, respond},
    extension_fuzz::fuzz_extension,
    tools::repository,
};

fn folder() -> PathBuf {
    repository().join("fuzz/corpus/extension")
}

/// The cases whose answers are asked about again.
const AGAIN: [&str; 2] = ["api-routes", "custom-backends"];

/// The requests of a played Envoy Gateway that asks everything, by the name of their file: of each hook the first one that is
/// about something of ours, and all of the last hook's.
fn requests() -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for case in cases() {
        let played = case.play();
        let hosted = played.hosted();
        let mut case = case;
        case.configuration.hooks = Hook::ALL.into();
        let scheme = case.name.trim_end_matches(".yaml").to_owned();
        played.asking(&case, &mut |hook, request| {
            let place = Hook::ALL.iter().position(|known| *known == hook).expect("it is one of all");
            let response = respond(hook, request.clone(), &hosted);
            let file = [&[u8::try_from(place).expect("there are six")], &*request].concat();
            let name = match hook {
                Hook::Translate => scheme.clone(),
                _ => format!("hook-{}", hook.label().to_ascii_lowercase()),
            };
            if hook == Hook::Translate && AGAIN.contains(&&*scheme) {
                let again = asked_again(request, response.clone());
                all.entry(format!("{scheme}-again")).or_insert([&file[..1], &*again].concat());
            }
            all.entry(name).or_insert(file);
            response
        });
    }
    all
}

#[test]
fn nothing_that_the_fuzzer_found_breaks_a_promise() {
    let seeds = requests();
    if env::var_os("TSGW_GENERATE").is_some() {
        fs::create_dir_all(folder()).unwrap();
        seeds.iter().for_each(|(name, file)| fs::write(folder().join(name), file).unwrap());
    }
    for (name, file) in &seeds {
        let kept = fs::read(folder().join(name)).unwrap_or_default();
        assert!(kept == *file, "fuzz/corpus/extension/{name} is not what is asked now; `make generate` writes it");
    }
    let mut replayed = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        fuzz_extension(&fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed >= seeds.len());
}

/// What real requests look like, to be damaged.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| requests().into_values().collect());

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn damaged_requests_are_refused_or_lose_nothing(
        seed in any::<prop::sample::Index>(),
        hook in prop::option::weighted(0.2, any::<u8>()),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..6),
    ) {
        let mut file = seed.get(&SEEDS).clone();
        file[0] = hook.unwrap_or(file[0]);
        for (place, byte, kind) in edits {
            let at = 1 + place.index(file.len() - 1);
            match kind {
                0 => file[at] = byte,
                1 => file.insert(at, byte),
                _ => drop(file.remove(at)),
            }
        }
        fuzz_extension(&file);
    }
}
