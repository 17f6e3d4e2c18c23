//! The golden files of the extension server: what an Envoy Gateway's configurations become with us.
//!
//! `make generate` writes the outputs anew; read what it changed. The same files go to a real Envoy in `tests/e2e/extension.rs`.

use std::{collections::BTreeMap, env, fmt::Write as _, fs};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tailscale_gateway::{
    dump,
    extension::Hook,
    snapshot::{Hosted, TypeUrl},
};

use crate::support::{
    envoy_gateway::{Resources, difference, lists, name_of},
    extension_cases::{Case, Played, asked_again, cases, respond},
};

#[test]
fn every_configuration_in_a_golden_file_becomes_what_stands_below_it() {
    let generate = env::var_os("TSGW_GENERATE").is_some();
    let mut wrong = String::new();
    for case in cases() {
        let output = output(&case, &case.play());
        if generate {
            fs::write(&case.path, case.text(&output)).unwrap();
        } else if output != case.output {
            let (old, new): (Vec<&str>, Vec<&str>) = (case.output.lines().collect(), output.lines().collect());
            let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
            let line = case.input.lines().count() + same + 2;
            writeln!(wrong, "{}, line {line}:\n- {:?}\n+ {:?}", case.name, old.get(same), new.get(same)).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}`make generate` writes what is made now; read it before you keep it");
}

#[test]
fn nothing_that_an_envoy_gateway_has_made_is_lost() {
    for case in cases() {
        let played = case.play();
        let (without, with) = (played.configuration(&case, &Hosted::default()), configuration(&case, &played));
        for ((list, _, before), (_, _, after)) in lists(&without).into_iter().zip(lists(&with)) {
            let names = |list: &[Bytes]| list.iter().map(|resource| name_of(resource)).collect::<Vec<_>>();
            let (before, after) = (names(before), names(after));
            assert_eq!(after[..before.len()], before, "{list} of {}", case.name);
        }
        assert_eq!(without.endpoints, with.endpoints, "{}", case.name);
    }
}

#[test]
fn a_hook_that_is_asked_about_what_another_has_done_does_it_once() {
    for case in cases() {
        let played = case.play();
        let mut twice = Case::of(&case.input);
        twice.configuration = case.configuration.clone();
        twice.configuration.hooks = Hook::ALL.into();
        let once = configuration(&case, &played);
        let again = configuration(&twice, &played);
        for ((list, _, once), (_, _, again)) in lists(&once).into_iter().zip(lists(&again)) {
            // Bytes where a type is not one of ours: an Envoy Gateway's UDP proxy.
            let json = |list: &[Bytes], type_url| {
                let shown =
                    |resource: &Bytes| dump::to_json(type_url, resource).unwrap_or_else(|_| json!(resource.to_vec()));
                list.iter().map(shown).collect::<Vec<_>>()
            };
            if case.configuration.routes_included || list != "routes" {
                let type_url = lists(&Resources::default()).into_iter().find(|(known, ..)| *known == list).unwrap().1;
                assert_eq!(json(once, type_url), json(again, type_url), "{list} of {}", case.name);
            }
        }
    }
}

#[test]
fn an_answer_that_is_asked_about_again_stays_as_it_is() {
    for case in cases() {
        let played = case.play();
        let hosted = played.hosted();
        let once = played.configuration(&case, &hosted);
        let again = played.asking(&case, &mut |hook, request| {
            let response = respond(hook, request.clone(), &hosted);
            match hook {
                Hook::Translate => respond(hook, asked_again(request, response), &hosted),
                _ => response,
            }
        });
        for ((list, type_url, once), (_, _, again)) in lists(&once).into_iter().zip(lists(&again)) {
            // What is ours is put behind the rest anew.
            let by_name = |list: &[Bytes]| {
                let json =
                    |resource: &Bytes| dump::to_json(type_url, resource).unwrap_or_else(|_| json!(resource.to_vec()));
                let named = list.iter().map(|resource| (name_of(resource), json(resource)));
                named.collect::<BTreeMap<_, _>>()
            };
            assert_eq!(once.len(), again.len(), "{list} of {}", case.name);
            assert_eq!(by_name(once), by_name(again), "{list} of {}", case.name);
        }
    }
}

fn configuration(case: &Case, played: &Played) -> Resources {
    played.configuration(case, &played.hosted())
}

/// What a file records: what differs from the configuration without us, what we serve to its Envoys ourselves, and problems.
fn output(case: &Case, played: &Played) -> String {
    let without = played.configuration(case, &Hosted::default());
    let shown = |type_url: &str, bytes: &Bytes| {
        let mut value = dump::to_json(type_url, bytes).unwrap();
        shorten_authorities(&mut value);
        value
    };
    let changed = difference(&without, &configuration(case, played), shown);
    let mut served = Map::new();
    for gateway in &case.gateways {
        let snapshot = played.cache.current(gateway);
        for type_url in TypeUrl::ALL {
            let list: Vec<Value> = snapshot
                .view(type_url)
                .iter()
                .map(|resource| shown(type_url.as_str(), &resource.message_bytes()))
                .collect();
            if !list.is_empty() {
                let types = served.entry(gateway.to_string()).or_insert_with(|| json!({}));
                types[type_url.label()] = Value::Array(list);
            }
        }
    }
    let reports = played.pipeline.reports();
    let mut problems: Vec<String> =
        reports.values().flat_map(|report| report.problems()).map(ToString::to_string).collect();
    problems.retain(|problem| !problem.starts_with("TailscaleTailnet"));
    let hosted = played.hosted();
    problems.extend(hosted.problems().map(ToString::to_string));
    let mut whole = String::new();
    for (key, value) in [("changed", changed), ("served", Value::Object(served)), ("problems", json!(problems))] {
        whole += &serde_saphyr::to_string(&Map::from_iter([(key.to_owned(), value)])).unwrap();
    }
    whole
}

/// The authorities are a whole file.
fn shorten_authorities(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(bytes) = fields.get_mut("inlineBytes") {
                *bytes = json!("[bytes]");
            }
            fields.values_mut().for_each(shorten_authorities);
        }
        Value::Array(items) => items.iter_mut().for_each(shorten_authorities),
        _ => {}
    }
}
