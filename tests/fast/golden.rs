//! The golden files: what is compiled from manifests, to be read beside them.
//!
//! `make generate` writes the outputs anew; read what it changed. The same files go to a real Envoy in `tests/e2e/golden.rs`.

use std::{collections::BTreeSet, env, fmt::Write as _, fs, path::Path};

use serde_json::{Map, Value, json};
use tailscale_gateway::{
    cli::translate::{Translation, translate},
    compile::Settings,
    model::ClusterName,
    source::FileWorld,
};

use crate::support::{
    golden::{Case, cases},
    tools::repository,
};

#[test]
fn every_manifest_in_a_golden_file_becomes_what_stands_below_it() {
    let generate = env::var_os("TSGW_GENERATE").is_some();
    let mut wrong = String::new();
    for case in cases() {
        let output = output(&case, &compiled(&case));
        if generate {
            fs::write(&case.path, case.text(&output)).unwrap();
        } else if output != case.output {
            writeln!(wrong, "{}", difference(&case, &output)).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}`make generate` writes what is compiled now; read it before you keep it");
}

#[test]
fn no_resource_in_a_golden_file_refers_to_one_that_is_not_served() {
    for case in cases() {
        let (_, translation) = compiled(&case);
        for (gateway, types) in translation.resources.as_object().unwrap() {
            let served = |type_: &str, key: &str| -> BTreeSet<String> {
                let list = types.get(type_).and_then(Value::as_array);
                list.into_iter().flatten().map(|resource| resource[key].as_str().unwrap().to_owned()).collect()
            };
            let clusters = served("Cluster", "name");
            let mut referred = References::default();
            referred.gather(types);
            let missing = |named: &BTreeSet<String>, there: &BTreeSet<String>| {
                named.difference(there).filter(|name| *name != ClusterName::UNRESOLVED).cloned().collect::<Vec<_>>()
            };
            let nothing: Vec<String> = Vec::new();
            let name = format!("{}, Gateway {gateway}", case.name);
            assert_eq!(missing(&referred.clusters, &clusters), nothing, "clusters, {name}");
            assert_eq!(missing(&referred.tables, &served("RouteConfiguration", "name")), nothing, "routes, {name}");
            assert_eq!(missing(&referred.secrets, &served("Secret", "name")), nothing, "secrets, {name}");
            let endpoints = served("ClusterLoadAssignment", "clusterName");
            assert_eq!(missing(&referred.endpoints, &endpoints), nothing, "endpoints, {name}");
            // And nothing is served that nobody asks for.
            assert_eq!(missing(&clusters, &referred.clusters), nothing, "unused clusters, {name}");
            assert_eq!(missing(&endpoints, &clusters), nothing, "unused endpoints, {name}");
        }
    }
}

/// The names by which resources refer to others.
#[derive(Default)]
struct References {
    clusters: BTreeSet<String>,
    tables: BTreeSet<String>,
    secrets: BTreeSet<String>,
    endpoints: BTreeSet<String>,
}

impl References {
    fn gather(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.gather(item)),
            Value::Object(fields) => {
                let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
                self.clusters.extend(text("cluster"));
                self.tables.extend(text("routeConfigName"));
                if fields.contains_key("sdsConfig") {
                    self.secrets.extend(text("name"));
                }
                if fields.contains_key("edsClusterConfig") {
                    self.endpoints.extend(text("name"));
                }
                let weighted = fields.get("weightedClusters").and_then(|weighted| weighted["clusters"].as_array());
                self.clusters
                    .extend(weighted.into_iter().flatten().map(|cluster| cluster["name"].as_str().unwrap().to_owned()));
                fields.values().for_each(|field| self.gather(field));
            }
            _ => {}
        }
    }
}

/// The manifests of a case as files give them, and what they are compiled to.
fn compiled(case: &Case) -> (FileWorld, Translation) {
    let mut world = FileWorld::new();
    world.load(Path::new(&case.name), case.input.as_bytes());
    let authorities = fs::read_to_string(repository().join("tests/golden/authorities.pem")).unwrap();
    let settings = Settings {
        privileged_ports: case.flags.iter().any(|flag| flag == "--privileged-ports"),
        in_cluster: case.flags.iter().any(|flag| flag == "--in-cluster"),
        trusted_authorities: Some(authorities.into()),
        hosting: None,
    };
    let translation = translate(world.objects(), settings, None).unwrap();
    (world, translation)
}

/// What a file records: resources by Gateway and type, objects with their status, and problems as `validate` says them.
fn output(case: &Case, (world, translation): &(FileWorld, Translation)) -> String {
    let mut resources = translation.resources.clone();
    if let Some(shown) = &case.shown {
        for gateway in resources.as_object_mut().unwrap().values_mut() {
            gateway.as_object_mut().unwrap().retain(|type_, _| shown.contains(type_));
        }
    }
    let mut objects = translation.objects.clone();
    shorten(&mut objects);
    let mut problems = world.problems();
    problems
        .extend(translation.reports.values().flat_map(|report| report.problems()).map(|problem| world.locate(problem)));
    problems.sort();
    problems.dedup();
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let mut whole = String::new();
    for (key, value) in [("resources", resources), ("objects", objects), ("problems", json!(problems))] {
        whole += &serde_saphyr::to_string(&Map::from_iter([(key.to_owned(), value)])).unwrap();
    }
    whole
}

/// Writes each condition as one line: type, status and reason, the message and the generation if there are any.
fn shorten(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(fields) => {
            let text = |key: &str| fields.get(key).and_then(Value::as_str);
            if let (Some(type_), Some(status), Some(reason)) = (text("type"), text("status"), text("reason")) {
                let mut line = format!("{type_} {status} {reason}");
                match text("message") {
                    None | Some("") => {}
                    Some(message) => write!(line, ": {message}").unwrap(),
                }
                match fields["observedGeneration"].as_i64() {
                    Some(0) => {}
                    other => write!(line, " (generation {})", other.unwrap()).unwrap(),
                }
                *value = json!(line);
            } else {
                fields.values_mut().for_each(shorten);
            }
        }
        _ => {}
    }
}

/// Where an output leaves the recorded one.
fn difference(case: &Case, output: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (case.output.lines().collect(), output.lines().collect());
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let some = |lines: &[&str], sign: &str| {
        lines.iter().skip(same).take(6).fold(String::new(), |text, line| format!("{text}{sign} {line}\n"))
    };
    let line = case.input.lines().count() + same + 2;
    format!("{}, line {line}:\n{}{}", case.name, some(&old, "-"), some(&new, "+"))
}
