//! The fields of an Envoy Gateway's configuration, as far as an extension server is concerned: one that it does not have is
//! ignored without a word, and one of another type makes it refuse the whole.
//!
//! As of Envoy Gateway v1.9. Names are compared as they are written, upper and lower case (`sigs.k8s.io/json`).

use serde_json::Value;

use super::{Finding, REFUSED};

/// What a field holds.
enum Shape {
    /// What is none of our business.
    Any,
    Text,
    Flag,
    Whole,
    /// A number, or a text such as `256Mi`.
    Quantity,
    Mapping(&'static [(&'static str, Shape)]),
    List(&'static Shape),
}

const SECRET: Shape =
    Shape::Mapping(&[("group", Shape::Text), ("kind", Shape::Text), ("name", Shape::Text), ("namespace", Shape::Text)]);
const KINDS: Shape =
    Shape::List(&Shape::Mapping(&[("group", Shape::Text), ("version", Shape::Text), ("kind", Shape::Text)]));
const TEXTS: Shape = Shape::List(&Shape::Text);
const INCLUDE: Shape = Shape::Mapping(&[("includeAll", Shape::Flag)]);
const TRANSLATION: Shape =
    Shape::Mapping(&[("listener", INCLUDE), ("route", INCLUDE), ("cluster", INCLUDE), ("secret", INCLUDE)]);
const SERVICE: Shape = Shape::Mapping(&[
    ("fqdn", Shape::Mapping(&[("hostname", Shape::Text), ("port", Shape::Whole)])),
    ("ip", Shape::Mapping(&[("address", Shape::Text), ("port", Shape::Whole)])),
    ("unix", Shape::Mapping(&[("path", Shape::Text)])),
    ("hostname", Shape::Text),
    ("host", Shape::Text),
    ("port", Shape::Whole),
    ("zone", Shape::Text),
    ("tls", Shape::Mapping(&[("certificateRef", SECRET), ("clientCertificateRef", SECRET)])),
    (
        "retry",
        Shape::Mapping(&[
            ("maxAttempts", Shape::Whole),
            ("initialBackoff", Shape::Text),
            ("maxBackoff", Shape::Text),
            ("backoffMultiplier", Shape::Mapping(&[("numerator", Shape::Whole), ("denominator", Shape::Whole)])),
            // It really begins with a capital letter.
            ("RetryableStatusCodes", TEXTS),
        ]),
    ),
]);
const MANAGER: Shape = Shape::Mapping(&[
    ("name", Shape::Text),
    ("resources", KINDS),
    ("policyResources", KINDS),
    ("backendResources", KINDS),
    (
        "hooks",
        Shape::Mapping(&[(
            "xdsTranslator",
            Shape::Mapping(&[("pre", TEXTS), ("post", TEXTS), ("translation", TRANSLATION)]),
        )]),
    ),
    ("service", SERVICE),
    ("failOpen", Shape::Flag),
    ("maxMessageSize", Shape::Quantity),
]);
const KUBERNETES: Shape = Shape::Mapping(&[
    ("rateLimitDeployment", Shape::Any),
    ("rateLimitHpa", Shape::Any),
    ("rateLimitPDB", Shape::Any),
    ("deploy", Shape::Mapping(&[("type", Shape::Text)])),
    ("shutdownManager", Shape::Any),
    ("proxyTopologyInjector", Shape::Any),
    ("watch", Shape::Mapping(&[("type", Shape::Text), ("namespaces", TEXTS), ("namespaceSelector", Shape::Any)])),
    ("leaderElection", Shape::Any),
    ("client", Shape::Any),
    ("cacheSyncPeriod", Shape::Text),
]);
const ROOT: Shape = Shape::Mapping(&[
    ("apiVersion", Shape::Text),
    ("kind", Shape::Text),
    // It has none, and nobody misses anything when it is ignored.
    ("metadata", Shape::Any),
    ("gateway", Shape::Mapping(&[("controllerName", Shape::Text)])),
    ("provider", Shape::Mapping(&[("type", Shape::Text), ("kubernetes", KUBERNETES), ("custom", Shape::Any)])),
    ("logging", Shape::Any),
    ("admin", Shape::Any),
    ("telemetry", Shape::Any),
    ("xdsServer", Shape::Any),
    ("rateLimit", Shape::Any),
    ("extensionManager", MANAGER),
    ("extensionManagers", Shape::List(&MANAGER)),
    ("extensionApis", Shape::Any),
    ("gatewayAPI", Shape::Any),
    ("runtimeFlags", Shape::Mapping(&[("enabled", TEXTS), ("disabled", TEXTS)])),
    ("envoyProxy", Shape::Any),
]);

/// What of a configuration an Envoy Gateway ignores or can not read.
pub(super) fn check(root: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    walk(root, &ROOT, "", &mut findings);
    findings
}

fn walk(value: &Value, shape: &Shape, place: &str, findings: &mut Vec<Finding>) {
    // No value is as good as no field.
    if value.is_null() {
        return;
    }
    let is_whole = || value.is_i64() || value.is_u64();
    let (fits, wanted) = match shape {
        Shape::Any => return,
        Shape::Text => (value.is_string(), "a text"),
        Shape::Flag => (value.is_boolean(), "true or false"),
        Shape::Whole => (is_whole(), "a whole number"),
        Shape::Quantity => (value.is_string() || value.is_number(), "a quantity such as 256Mi"),
        Shape::Mapping(_) => (value.is_object(), "a mapping"),
        Shape::List(_) => (value.is_array(), "a list"),
    };
    if !fits {
        findings
            .push(Finding::error(place, format!("must be {wanted}")).effect(REFUSED).remedy(format!("write {wanted}")));
        return;
    }
    match (shape, value) {
        (Shape::Mapping(known), Value::Object(fields)) => {
            for (name, value) in fields {
                let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                match known.iter().find(|(known, _)| known == name) {
                    Some((_, shape)) => walk(value, shape, &place, findings),
                    None => findings.push(unknown(place, name, known)),
                }
            }
        }
        (Shape::List(shape), Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                walk(item, shape, &format!("{place}[{at}]"), findings);
            }
        }
        _ => {}
    }
}

fn unknown(place: String, name: &str, known: &[(&str, Shape)]) -> Finding {
    match closest(name, known.iter().map(|(known, _)| *known)) {
        Some(meant) => Finding::error(place, "is no field of an Envoy Gateway's configuration")
            .effect("it is ignored without a word")
            .remedy(format!("write {meant}")),
        None => Finding::warning(place, "is no field that Envoy Gateway v1.9 has")
            .effect("one that does not know it ignores it without a word")
            .remedy("remove it, unless this Envoy Gateway is newer and has it"),
    }
}

/// The one of these words that is probably meant.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let distances = known.into_iter().map(|known| (distance(&lower, &known.to_lowercase()), known));
    let (distance, known) = distances.min_by_key(|(distance, _)| *distance)?;
    // A third of a word may be wrong, but not more than three letters.
    (distance <= (word.chars().count() / 3).min(3)).then_some(known)
}

/// How many letters have to be put in, left out or changed to make the one of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, theirs) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *theirs);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
