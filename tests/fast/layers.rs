//! What each layer may know, and what is absent from it: reads the sources and fails where a rule is broken.
//!
//! A scan of the text, without macros and without a compiler. It sees every path that begins with `crate::` or `super::` and
//! every mention of a library; comments, strings and unit tests are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::support::tools::repository;

/// What the top-level modules may import of ours. One that is not named here is a mistake.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("api", &["model"]),
    ("identity", &["model"]),
    ("store", &["api", "model"]),
    ("snapshot", &["model"]),
    // What the core's parts have to see alike.
    ("gateways", &["api", "model", "store"]),
    // The core: from the world to messages and reports, from reports to conditions.
    ("compile", &["api", "gateways", "model", "snapshot", "store"]),
    // What should exist for a Gateway; `run` makes it so.
    ("operator", &["api", "bootstrap", "gateways", "kubernetes", "metrics", "model", "store"]),
    ("status", &["api", "model"]),
    ("xds", &["identity", "metrics", "model", "snapshot"]),
    ("extension", &["api", "identity", "metrics", "model", "snapshot"]),
    // What an Envoy Gateway would do wrong.
    ("preflight", &["api", "extension", "identity", "model"]),
    // Where the world comes from.
    ("source", &["api", "model", "store"]),
    // What is written to an API server.
    ("kubernetes", &["identity", "api", "metrics", "model", "status"]),
    // The one task that owns the world, and so the one place that knows the core from both ends.
    ("pipeline", &["compile", "metrics", "model", "snapshot", "store"]),
    // For people.
    ("dump", &[]),
    ("metrics", &["model", "snapshot"]),
    ("telemetry", &[]),
    ("bootstrap", &["compile", "model"]),
    ("config", &["api", "bootstrap", "identity", "model", "operator", "preflight", "telemetry"]),
    // From where certificates stand to the port that shows them.
    ("security", &["config", "extension", "identity", "kubernetes", "metrics", "source", "xds"]),
    ("admin", &["dump", "extension", "metrics", "model", "pipeline", "snapshot", "status", "xds"]),
    // Commands that print and end: beside `app`, which they must not know.
    (
        "cli",
        &[
            "api",
            "bootstrap",
            "compile",
            "config",
            "dump",
            "identity",
            "kubernetes",
            "model",
            "pipeline",
            "preflight",
            "snapshot",
            "source",
            "status",
            "store",
        ],
    ),
    ("app", EVERYTHING),
    ("main", &["app", "config"]),
    ("lib", &[]),
];

/// For the file that wires all.
const EVERYTHING: &[&str] = &[
    "admin",
    "api",
    "bootstrap",
    "cli",
    "compile",
    "config",
    "extension",
    "gateways",
    "kubernetes",
    "identity",
    "metrics",
    "model",
    "operator",
    "pipeline",
    "security",
    "snapshot",
    "source",
    "store",
    "telemetry",
    "xds",
];

/// The modules whose answers follow from their arguments alone. An entry holds for the modules below it.
const PURE: &[&str] = &[
    "model",
    "api",
    "identity",
    "store",
    "snapshot::body",
    "snapshot::hosted",
    "snapshot::rendering",
    "snapshot::resource",
    "snapshot::segment",
    "snapshot::type_url",
    "snapshot::view",
    "gateways",
    "compile",
    "operator",
    "status",
    "dump",
    "bootstrap",
    "extension",
    "preflight",
    "source::files",
    "source::kinds",
    "source::located",
    "source::manifest",
    "source::object",
    "source::value",
    "xds",
];

/// What of `xds` meets the network, the clock or the metrics; the rest is state machines.
const XDS_IO: &[&str] =
    &["xds::server", "xds::small_frames", "xds::tls", "xds::conversation", "xds::frames", "xds::registry", "xds::csds"];

/// What of `extension` does; the rest are the hooks.
const EXTENSION_IO: &[&str] = &[
    "extension::server",
    "extension::unary",
    "extension::calls",
    "extension::tls",
    "extension::revisions::run",
    "extension::revisions::folder",
];
/// What of `operator` meets the API server, the clock or the metrics; the rest plans.
const OPERATOR_IO: &[&str] = &["operator::run"];

/// What a pure module never mentions: runtimes, the network, files, the clock, randomness, the environment.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio_util",
    "tokio_stream",
    "futures",
    "tonic",
    "axum",
    "hyper",
    "hyper_util",
    "tower",
    "notify",
    "tracing",
    "arc_swap",
    "kube::Client",
    "kube::client",
    "kube::runtime",
    "std::fs",
    "std::env",
    "std::io",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "RandomState::new",
    "Timestamp::now",
    "TcpListener",
];

struct Source {
    /// Such as `xds::delta`; `lib` and `main` for the roots.
    module: String,
    path: PathBuf,
    /// Without comments, strings and unit tests.
    code: String,
    /// Its string literals, unit tests left out.
    literals: Vec<String>,
}

impl Source {
    fn top(&self) -> &str {
        self.module.split("::").next().expect("a split has a first part")
    }

    /// The modules of ours that it names, each by its path, as far as `crate::` and `super::` tell.
    fn imports(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (at, _) in self.code.match_indices("crate::") {
            if at == 0 || !is_word(self.code.as_bytes()[at - 1]) {
                named(&self.code[at + "crate::".len()..], &mut found);
            }
        }
        // `super::` climbs out of the module; as many as there are levels lead to the crate's root.
        let depth = self.module.split("::").count();
        let climb = "super::".repeat(depth);
        for (at, _) in self.code.match_indices(&climb) {
            let before = &self.code[..at];
            if !before.ends_with("super::") && !before.ends_with(is_word_char) {
                named(&self.code[at + climb.len()..], &mut found);
            }
        }
        found
    }

    fn mentions(&self, path: &str) -> bool {
        let bytes = self.code.as_bytes();
        self.code.match_indices(path).any(|(at, _)| {
            let end = at + path.len();
            let free_before = at == 0 || !(is_word(bytes[at - 1]) || bytes[at - 1] == b':' && !path.contains("::"));
            let free_after = bytes.get(end).is_none_or(|next| !is_word(*next));
            // A library is mentioned by a path that begins with it, or by `use` alone.
            let is_path =
                path.contains("::") || path.contains(char::is_uppercase) || self.code[end..].starts_with("::");
            free_before && free_after && is_path
        })
    }
}

/// The first names of what follows `crate::`: one, or those of a group.
fn named(rest: &str, found: &mut BTreeSet<String>) {
    let word = |text: &str| text.trim_start().split(|c| !is_word_char(c)).next().unwrap_or_default().to_owned();
    let Some(group) = rest.strip_prefix('{') else {
        found.insert(word(rest));
        return;
    };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.insert(word(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.remove("");
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn sources() -> Vec<Source> {
    let root = repository().join("src");
    let mut sources: Vec<Source> = files(&root)
        .into_iter()
        .map(|path| {
            let (code, literals) = split(&fs::read_to_string(&path).unwrap());
            Source { module: module(path.strip_prefix(&root).unwrap()), path, code, literals }
        })
        .collect();
    sources.sort_by(|a, b| a.module.cmp(&b.module));
    assert!(sources.len() > 50, "these can not be all");
    sources
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn module(path: &Path) -> String {
    let path = path.with_extension("");
    let mut parts: Vec<String> =
        path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if parts.len() > 1 && parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts.join("::")
}

/// A file's code without comments and the contents of strings, and its strings; both up to the unit tests, which stand last.
fn split(text: &str) -> (String, Vec<String>) {
    let text = &text[..text.find("\n#[cfg(test)]\n").unwrap_or(text.len())];
    let (mut code, mut literals) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            let end = raw.find("\"#").expect("the string ends");
            literals.push(raw[..end].to_owned());
            code.push_str("\"\"");
            rest = &raw[end + 2..];
        } else if let Some(string) = rest.strip_prefix('"') {
            let mut escaped = false;
            let end = string
                .find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                })
                .expect("the string ends");
            literals.push(string[..end].to_owned());
            code.push_str("\"\"");
            rest = &string[end + 1..];
        } else if let Some(character) = rest.strip_prefix("'\"'").or_else(|| rest.strip_prefix("b'\"'")) {
            rest = character;
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    (code, literals)
}

/// Whether a module is one of these or below one of them.
fn is_within(module: &str, list: &[&str]) -> bool {
    list.iter().any(|one| module == *one || module.strip_prefix(one).is_some_and(|rest| rest.starts_with("::")))
}

#[track_caller]
fn assert_none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn each_module_imports_what_its_layer_may_and_no_more() {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut broken = Vec::new();
    for source in sources() {
        let Some(allowed) = layers.get(source.top()) else {
            broken.push(format!("{} belongs to no layer", source.path.display()));
            continue;
        };
        for import in source.imports() {
            if import != source.top() && layers.contains_key(&*import) && !allowed.contains(&&*import) {
                broken.push(format!("{} must not know {import}", source.path.display()));
            }
        }
    }
    assert_none("layers", broken);
}

#[test]
fn the_machines_of_the_protocol_know_snapshots_and_nothing_else() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.top() == "xds" && !is_within(&source.module, XDS_IO)) {
        for import in source.imports() {
            if !["xds", "snapshot", "model"].contains(&&*import) {
                broken.push(format!("{} must not know {import}", source.path.display()));
            }
        }
    }
    assert_none("machines", broken);
}

#[test]
fn the_hooks_of_the_extension_know_what_the_pipeline_published_and_nothing_else() {
    let mut broken = Vec::new();
    let hooks = |source: &&Source| source.top() == "extension" && !is_within(&source.module, EXTENSION_IO);
    for source in sources().iter().filter(hooks) {
        for import in source.imports() {
            if !["extension", "snapshot", "model"].contains(&&*import) {
                broken.push(format!("{} must not know {import}", source.path.display()));
            }
        }
    }
    assert_none("hooks", broken);
}

#[test]
fn a_plan_is_made_from_objects_and_nothing_else() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|one| one.top() == "operator" && !is_within(&one.module, OPERATOR_IO)) {
        for import in source.imports() {
            if ["kubernetes", "metrics"].contains(&&*import) {
                broken.push(format!("{} must not know {import}", source.path.display()));
            }
        }
    }
    assert_none("planners", broken);
}

#[test]
fn what_is_pure_touches_no_runtime_no_file_no_clock_and_no_chance() {
    let mut broken = Vec::new();
    for source in sources() {
        let meets_the_world = [XDS_IO, EXTENSION_IO, OPERATOR_IO].iter().any(|io| is_within(&source.module, io));
        if !is_within(&source.module, PURE) || meets_the_world {
            continue;
        }
        for word in IMPURE {
            if source.mentions(word) {
                broken.push(format!("{} must not mention {word}", source.path.display()));
            }
        }
    }
    assert_none("pure modules", broken);
}

#[test]
fn top_level_modules_do_not_import_each_other_in_circles() {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        let top = source.top().to_owned();
        imports.entry(top.clone()).or_default().extend(source.imports().into_iter().filter(|import| *import != top));
    }
    // Whoever imports nothing that is left goes, until nobody is.
    loop {
        let left: BTreeSet<String> = imports.keys().cloned().collect();
        imports.retain(|_, of| of.iter().any(|import| left.contains(import)));
        if imports.len() == left.len() {
            break;
        }
    }
    assert!(imports.is_empty(), "in circles: {imports:#?}");
}

#[test]
fn every_source_file_is_a_module_of_the_crate() {
    let sources = sources();
    let by_module: BTreeMap<&str, &Source> = sources.iter().map(|source| (&*source.module, source)).collect();
    let mut reached = BTreeSet::new();
    let mut waiting = vec!["lib".to_owned(), "main".to_owned()];
    while let Some(module) = waiting.pop() {
        let source = by_module.get(&*module).unwrap_or_else(|| panic!("there is no file for module {module}"));
        for line in source.code.lines() {
            let line = line.trim();
            let line = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(crate) ")).unwrap_or(line);
            if let Some(name) = line.strip_prefix("mod ").and_then(|line| line.strip_suffix(';')) {
                let parent = ["lib", "main"].contains(&&*module);
                waiting.push(if parent { name.to_owned() } else { format!("{module}::{name}") });
            }
        }
        reached.insert(module);
    }
    let unreached = sources.iter().filter(|source| !reached.contains(&source.module));
    assert_none("no mod reaches", unreached.map(|source| source.path.display().to_string()).collect());
}

#[test]
fn nothing_is_unwrapped_without_a_reason() {
    let unwrapping = sources().into_iter().filter(|source| source.code.contains(".unwrap()"));
    assert_none("say with expect why it holds", unwrapping.map(|source| source.path.display().to_string()).collect());
}

#[test]
fn names_of_xds_resources_are_spelled_in_one_file_only() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.module != "model::name") {
        for literal in &source.literals {
            let prefix =
                ["service/", "endpoint/", "secret/", "httproute/"].into_iter().any(|one| literal.starts_with(one));
            let whole = ["unresolved", "authorities", "xds"].contains(&&**literal);
            // Namespace, name and a third part. `xds::node` writes an Envoy's version so, which is no name.
            let spliced = literal.matches("}/{").count() >= 2 && source.module != "xds::node";
            if prefix || whole || spliced {
                broken.push(format!("{} spells {literal:?}", source.path.display()));
            }
        }
    }
    assert_none("names", broken);
}

#[test]
fn the_scan_sees_what_it_has_to() {
    let source = |module: &str, text: &str| {
        let (code, literals) = split(text);
        Source { module: module.to_owned(), path: PathBuf::new(), code, literals }
    };
    let imports = |module, text| source(module, text).imports().into_iter().collect::<Vec<_>>();
    assert_eq!(imports("a::b", "use crate::{\n    c::{d, e},\n    f,\n    g::H,\n};"), ["c", "f", "g"]);
    assert_eq!(imports("a::b", "fn x() { crate::c::d(super::super::e::f, super::g) }"), ["c", "e"]);
    assert_eq!(imports("a", "use super::b;"), ["b"]);
    assert_eq!(
        imports("a", "// use crate::b;\nlet x = \"crate::c\";\n#[cfg(test)]\n#[allow(x)]\nmod t { use crate::d; }"),
        [""; 0]
    );
    let mentions = |text, word| source("a", text).mentions(word);
    assert!(mentions("use tokio::sync::mpsc;", "tokio"));
    assert!(!mentions("use my_tokio::x; let tokio = 1;", "tokio"));
    assert!(mentions("let now = Instant::now();", "Instant::now"));
    assert!(!mentions("fn f(now: Instant) {}", "Instant::now"));
    assert_eq!(source("a", "let a = \"x\\\"y\"; // \"z\"\nlet b = r#\"q\"#;").literals, ["x\\\"y", "q"]);
}
