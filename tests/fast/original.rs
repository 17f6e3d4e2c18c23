//! Manifests in every shape that the original operator's examples and pages have: what becomes of each.
//!
//! The examples of that operator, written anew, are in `manifests/examples/original`; what is refused, and what only that
//! operator itself wrote, is in `tests/golden/original`. A file holds documents and then, as comments, what is found;
//! `TSGW_GENERATE=1 cargo test original` writes those anew. A real API server judges the same files in `tests/e2e`.

use std::{fs, path::Path};

use serde_json::Value;
use tailscale_gateway::{api::parse, model::Kind};

const MARK: &str = "# Found:\n";

/// What becomes of each document of a file, one comment line for each object and one for each finding.
fn findings(manifests: &str) -> String {
    let mut lines = String::from(MARK);
    for document in serde_saphyr::from_multiple::<Value>(manifests).unwrap() {
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let api_version = text("/apiVersion");
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let title = format!("{} {}", text("/kind"), text("/metadata/name"));
        let Some(kind) = Kind::find(group, &text("/kind")) else {
            lines += &format!("# {title}: of no interest\n");
            continue;
        };
        assert!(kind.versions().contains(&version), "{title}");
        let parsed = parse(kind, document);
        let verdict = if parsed.object.is_some() { "accepted" } else { "refused" };
        lines += &format!("# {title}: {verdict}\n");
        for finding in parsed.findings {
            lines += &format!("#   {}: {}: {}\n", finding.reason, finding.field, finding.message);
        }
    }
    lines
}

#[test]
fn manifests_written_for_the_original_operator_are_accepted_or_refused_for_a_stated_reason() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = repository.join("manifests/examples/original");
    let folders = [&examples, &repository.join("tests/golden/original")];
    let mut seen = 0;
    for entry in folders.into_iter().flat_map(|folder| fs::read_dir(folder).unwrap()) {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let manifests = text.split(MARK).next().unwrap();
        let found = findings(manifests);
        if std::env::var_os("TSGW_GENERATE").is_some() {
            fs::write(&path, format!("{manifests}{found}")).unwrap();
        } else {
            let wanted = &text[manifests.len()..];
            assert!(wanted == found, "{}:\nwanted\n{wanted}\nfound\n{found}", path.display());
            assert!(!path.starts_with(&examples) || !found.contains(": refused"), "{} is no example", path.display());
        }
        seen += 1;
    }
    assert!(seen >= 20, "only {seen} files");
}
