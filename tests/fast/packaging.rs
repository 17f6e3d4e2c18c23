//! The chart, the image and the dashboard say what the program is: what it may do, which metrics and settings it has.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tailscale_gateway::{
    kubernetes::permissions::{Permission, Scope, permissions},
    metrics::Metrics,
    model::{Kind, ObjectName, Reason},
    snapshot::{SnapshotCache, TypeUrl},
};

use crate::support::tools::{repository, stdout};

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

const ROLES: &str = "manifests/chart/templates/roles.yaml";

/// The chart's roles and their bindings, from the table.
fn roles() -> String {
    let mut text = String::from(
        "{{- /* Generated from src/kubernetes/permissions.rs by `make generate`. */}}\n\
         {{- $labels := include \"labels\" . }}\n",
    );
    for (kind, scope) in [("ClusterRole", Scope::Cluster), ("Role", Scope::OwnNamespace)] {
        let place = match scope {
            Scope::Cluster => "",
            Scope::OwnNamespace => "  namespace: {{ .Release.Namespace }}\n",
        };
        let metadata =
            format!("metadata:\n  name: tailscale-gateway\n{place}  labels:\n    {{{{- $labels | nindent 4 }}}}\n");
        text +=
            &format!("---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\n{metadata}rules:\n{}", rules(scope));
        text += &format!(
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}Binding\n{metadata}\
             roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: {kind}\n  name: tailscale-gateway\n\
             subjects:\n  - kind: ServiceAccount\n    name: tailscale-gateway\n    namespace: {{{{ .Release.Namespace }}}}\n"
        );
    }
    text
}

/// The rules of a role; resources that are needed alike for one reason share one.
fn rules(scope: Scope) -> String {
    let mut rules: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for Permission { group, resource, name, verbs, why, .. } in
        permissions().into_iter().filter(|one| one.scope == scope)
    {
        rules.entry((why, group, verbs, name)).or_default().insert(resource);
    }
    let mut text = String::new();
    let mut said = "";
    for ((why, group, verbs, name), resources) in rules {
        if why != said {
            text += &format!("  # To {why}.\n");
            said = why;
        }
        let resources: Vec<String> = resources.into_iter().collect();
        text += &format!("  - apiGroups: [{group:?}]\n    resources: [{}]\n", resources.join(", "));
        if let Some(name) = name {
            text += &format!("    resourceNames: [{name}]\n");
        }
        text += &format!("    verbs: [{}]\n", verbs.join(", "));
    }
    text
}

#[test]
fn the_charts_roles_are_the_table_of_permissions() {
    let roles = roles();
    if env::var_os("TSGW_GENERATE").is_some() {
        fs::write(repository().join(ROLES), &roles).unwrap();
    }
    assert!(read(ROLES) == roles, "{ROLES} is not what the table says: run `make generate`");
}

#[test]
fn no_permission_is_listed_twice() {
    let mut seen = BTreeSet::new();
    for Permission { scope, group, resource, name, verbs, why } in permissions() {
        assert!(verbs.is_sorted(), "{resource}: {verbs:?}");
        assert!(!why.ends_with('.') && why.starts_with(char::is_lowercase), "{why:?} ends a sentence");
        for verb in verbs {
            assert!(seen.insert((scope, group, resource.clone(), name, *verb)), "{verb} {resource} twice");
        }
    }
}

#[test]
fn the_charts_version_is_the_programs() {
    let chart = yaml("manifests/chart/Chart.yaml");
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&env!("CARGO_PKG_VERSION").into(), &env!("CARGO_PKG_VERSION").into())
    );
}

#[test]
fn every_value_of_the_chart_is_in_its_schema_and_the_other_way_round() {
    let (schema, values) = (read("manifests/chart/values.schema.json"), yaml("manifests/chart/values.yaml"));
    let schema: Value = serde_json::from_str(&schema).unwrap();
    jsonschema::validate(&schema, &values).unwrap_or_else(|error| panic!("values.yaml: {error}"));
    assert_eq!(schema["additionalProperties"], false, "a misspelt value would be taken");
    let mut differences = Vec::new();
    compare_values("", &schema, &values, &mut differences);
    assert!(differences.is_empty(), "{differences:#?}");
}

fn compare_values(path: &str, schema: &Value, values: &Value, differences: &mut Vec<String>) {
    // What has no fixed set of members is given to Kubernetes as it is.
    let Some(properties) = schema["properties"].as_object().filter(|_| schema["additionalProperties"] == false) else {
        return;
    };
    for (name, schema) in properties {
        let path = format!("{path}.{name}");
        // Helm's own; and members of what is an empty mapping by default.
        let may_lack = [
            ".global",
            ".gatewayClass.parametersRef.name",
            ".gatewayClass.parametersRef.namespace",
            ".resources.claims",
        ];
        match values.get(name) {
            Some(value) => compare_values(&path, schema, value, differences),
            None if may_lack.contains(&&*path) => {}
            None => differences.push(format!("{path} is not in values.yaml")),
        }
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let metrics = Metrics::new(Arc::new(SnapshotCache::new()));
    // What has labels is on the page once it has happened.
    let (gateway, of, once) = (ObjectName::new("default", "web"), TypeUrl::Cluster, Duration::from_secs(1));
    metrics.stream_opened("delta", &gateway);
    metrics.response(of, "change", 1);
    metrics.acked(of, once);
    metrics.nacked(of, &gateway);
    metrics.parked(of, 1);
    metrics.converged(&gateway, once);
    metrics.translated("cluster", 1, once);
    metrics.problems(Reason::SchemaViolation, 1);
    metrics.status_written(Kind::Gateway, true);
    let page = metrics.render();
    let types: BTreeMap<&str, &str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let dashboard: Value = serde_json::from_str(&read("manifests/chart/files/dashboard.json")).unwrap();
    let mut asked = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let mut names = words.filter(|word| word.starts_with("tailscale_gateway_") || word.starts_with("process_"));
            let name = names.next().unwrap_or_else(|| panic!("{expression} asks for none of ours"));
            let (family, wanted) = if let Some(family) = name.strip_suffix("_total") {
                (family, "counter")
            } else if let Some(family) = name.strip_suffix("_bucket").or_else(|| name.strip_suffix("_sum")) {
                (family, "histogram")
            } else {
                (name, "gauge")
            };
            assert_eq!(types.get(family), Some(&wanted), "{}: {name}", panel["title"]);
            asked += 1;
        }
    }
    assert!(asked >= 10, "only {asked} questions");
}

#[test]
fn the_image_is_built_by_the_pinned_toolchain_as_make_static_builds() {
    let (docker, toolchain, makefile) = (read("Dockerfile"), read("rust-toolchain.toml"), read("Makefile"));
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    assert!(docker.contains(&format!("FROM rust:{channel}-")), "another toolchain than {channel}");
    assert!(docker.contains(&format!("RUSTUP_TOOLCHAIN={channel}\n")), "another toolchain than {channel}");
    let build = |text: &str, target: &str| {
        let line = text.lines().find(|line| line.contains("cargo build --release")).unwrap().trim();
        line.trim_end_matches(" \\").replace(target, "TARGET")
    };
    let in_image = build(&docker, "\"$(cat /target)\"");
    assert_eq!(in_image, build(&makefile, "$(STATIC)"));
    assert_eq!(in_image, "cargo build --release --locked --target TARGET --bin tailscale-gateway");
    // What it leaves behind is nothing but the program, run by nobody in particular.
    let last = docker.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("scratch\n") && last.contains("\nUSER 65532:65532\n"), "{last}");
}

/// What cargo says of the packages in a folder.
fn metadata(folder: &Path, arguments: &[&str]) -> Value {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--format-version", "1"]).args(arguments).current_dir(folder);
    serde_json::from_str(&stdout(cargo.output().unwrap(), "cargo metadata")).unwrap()
}

#[test]
fn what_is_linked_into_the_program_is_built_with_it_so_that_it_can_be_static() {
    let metadata = metadata(repository(), &["--locked", "--filter-platform", "x86_64-unknown-linux-musl"]);
    let list = |value: &Value| value.as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let links: BTreeMap<String, String> =
        list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["links"]))).collect();
    // All that the program itself is built from: not what tests or build scripts are.
    let of = |node: &Value| -> Vec<String> {
        let is_linked = |one: &Value| list(&one["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        list(&node["deps"]).iter().filter(|one| is_linked(one)).map(|one| text(&one["pkg"])).collect()
    };
    let nodes: BTreeMap<String, Vec<String>> =
        list(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), of(node))).collect();
    let mut found = BTreeSet::new();
    let mut todo = vec![text(&metadata["resolve"]["root"])];
    while let Some(package) = todo.pop() {
        if found.insert(package.clone()) {
            todo.extend(nodes[&package].iter().cloned());
        }
    }
    assert!(found.len() > 100, "{found:?}");
    // These bring the source of what they link; k8s-openapi links nothing and only wants to be there once.
    let bring_it = ["k8s-openapi-", "mimalloc", "ring_core_"];
    for package in found {
        let native = &links[&package];
        let is_known = native.is_empty() || bring_it.iter().any(|known| native.starts_with(known));
        assert!(is_known, "{package} links {native}: does an image from scratch have it?");
    }
}

#[test]
fn the_image_is_given_all_that_the_program_is_built_from() {
    let ignored = read(".dockerignore");
    let given: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignored.lines().any(|line| line == "*"), "what is given is named");
    let context = tempfile::tempdir().unwrap();
    for path in &given {
        copy(&repository().join(path), &context.path().join(path));
    }
    let metadata = metadata(context.path(), &["--no-deps", "--offline"]);
    let packages = metadata["packages"].as_array().unwrap();
    let programs = packages.iter().flat_map(|package| package["targets"].as_array().unwrap());
    assert!(programs.into_iter().any(|target| target["name"] == "tailscale-gateway" && target["kind"][0] == "bin"));
    // And files that sources take in.
    for source in sources(context.path()) {
        let text = fs::read_to_string(&source).unwrap();
        for macro_name in ["include_str!(\"", "include_bytes!(\""] {
            for (place, _) in text.match_indices(macro_name) {
                let file = text[place + macro_name.len()..].split('"').next().unwrap();
                let file = source.parent().unwrap().join(file);
                assert!(
                    file.exists(),
                    "{} takes in {}, which the image is not given",
                    source.display(),
                    file.display()
                );
            }
        }
    }
    // What the build stage runs beside cargo.
    assert!(read("Dockerfile").contains("&& tools/static /out/tailscale-gateway") && given.contains(&"tools/static"));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    if from.is_dir() {
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

/// The Rust files in a folder.
fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
