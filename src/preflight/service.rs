//! Where an extension server is, and how it is talked to.

use serde_json::Value;

use super::{Finding, REFUSED, STALLED, configuration::Manager};

/// A Service in the cluster, by the name that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) port: u16,
}

/// The words for the codes of gRPC that a retry may be for.
const CODES: [&str; 16] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// What is wrong with an address, with TLS, with retries.
pub(super) fn check(manager: &Manager<'_>, standalone: bool) -> Vec<Finding> {
    let mut findings = address(manager);
    let tls = manager.get("service.tls");
    if !tls.is_null() {
        if standalone {
            findings.push(
                Finding::error(manager.place("service.tls"), "needs a cluster, because certificates are in Secrets")
                    .effect("no call of this Envoy Gateway, which has no cluster, succeeds")
                    .remedy("leave it out, and let both talk over a socket file (service.unix) or on loopback"),
            );
        }
        findings.extend(["certificateRef", "clientCertificateRef"].iter().flat_map(|field| reference(manager, field)));
    }
    findings.extend(retry(manager));
    findings
}

fn address(manager: &Manager<'_>) -> Vec<Finding> {
    let place = |field: &str| manager.place(&format!("service.{field}"));
    let given = |field: &&str| match manager.get(&format!("service.{field}")) {
        Value::String(text) => !text.is_empty(),
        value => !value.is_null(),
    };
    let targets: Vec<&str> = ["fqdn", "ip", "unix", "host"].into_iter().filter(|field| given(field)).collect();
    let mut findings = Vec::new();
    match *targets {
        [] => {
            let what = if given(&"hostname") {
                "service.hostname alone is no address"
            } else {
                "there is no address: none of fqdn, ip and unix"
            };
            let remedy = "write fqdn: {hostname: tailscale-gateway.tailscale-gateway.svc.cluster.local, port: 5005}";
            findings.push(Finding::error(manager.place("service"), what).effect(REFUSED).remedy(remedy));
        }
        ["host"] => findings.push(
            Finding::warning(place("host"), "is deprecated")
                .effect("Envoy Gateway v1.9 still takes it")
                .remedy("write fqdn: {hostname: …, port: …}"),
        ),
        [_] => {}
        _ => findings.push(
            Finding::error(manager.place("service"), format!("has more than one address: {}", targets.join(", ")))
                .effect(REFUSED)
                .remedy("keep one"),
        ),
    }
    if given(&"unix") {
        findings.extend(socket_file(manager));
    }
    for (field, port) in [("fqdn", "fqdn.port"), ("ip", "ip.port"), ("host", "port")] {
        let number = manager.get(&format!("service.{port}"));
        let is_port = number.as_u64().is_some_and(|port| (1..=65535).contains(&port));
        if given(&field) && !is_port && (number.is_null() || number.is_number()) {
            let what = if number.is_null() { "is missing".to_owned() } else { format!("{number} is no port") };
            findings.push(Finding::error(place(port), what).effect(STALLED).remedy("write 5005"));
        }
    }
    findings
}

/// What is wrong with the path of a socket file, of which an Envoy Gateway makes an address without looking at it.
fn socket_file(manager: &Manager<'_>) -> Option<Finding> {
    let what = match manager.get("service.unix.path") {
        Value::String(path) if path.starts_with('/') => return None,
        Value::Null => "is missing".to_owned(),
        Value::String(path) if path.is_empty() => "is empty".to_owned(),
        Value::String(path) => format!("{path} does not begin with a slash"),
        // Of another type: that is said elsewhere.
        _ => return None,
    };
    let remedy = "write the whole path of the socket file, which is that of --extension-listen unix:PATH";
    Some(Finding::error(manager.place("service.unix.path"), what).effect(STALLED).remedy(remedy))
}

/// What is wrong with a reference to a Secret.
fn reference(manager: &Manager<'_>, field: &str) -> Option<Finding> {
    let path = format!("service.tls.{field}");
    let reference = manager.get(&path);
    if reference.is_null() {
        return (field == "certificateRef").then(|| {
            Finding::error(manager.place(&path), "is missing")
                .effect("no call succeeds, because nothing says by what the server is known")
                .remedy("name a Secret whose tls.crt has the authority of the server's certificate")
        });
    }
    let differs = |field: &str, wanted: &str| reference[field].as_str().is_some_and(|value| value != wanted);
    if differs("group", "") || differs("kind", "Secret") {
        return Some(
            Finding::error(manager.place(&path), "refers to no Secret").effect(REFUSED).remedy("name a Secret"),
        );
    }
    reference["name"]
        .as_str()
        .unwrap_or_default()
        .is_empty()
        .then(|| Finding::error(manager.place(&path), "has no name").effect("no call succeeds").remedy("name a Secret"))
}

fn retry(manager: &Manager<'_>) -> Vec<Finding> {
    const RETRY: &str = "service.retry";
    let retry = manager.get(RETRY);
    let mut findings = Vec::new();
    let failed = "no call of it succeeds";
    if let Some(attempts) = retry["maxAttempts"].as_i64().filter(|attempts| *attempts < 2) {
        let place = manager.place(&format!("{RETRY}.maxAttempts"));
        let what = format!("is {attempts}, and counts the first attempt, too");
        findings.push(Finding::error(place, what).effect(failed).remedy("write 2 or more, or leave it out"));
    }
    for field in ["initialBackoff", "maxBackoff"] {
        if let Some(text) = retry[field].as_str().filter(|text| !is_duration(text)) {
            let place = manager.place(&format!("{RETRY}.{field}"));
            let what = format!("{text:?} is no duration above zero");
            findings.push(Finding::error(place, what).effect(failed).remedy("write one such as 100ms"));
        }
    }
    for code in retry["RetryableStatusCodes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !CODES.contains(&code) {
            let place = manager.place(&format!("{RETRY}.RetryableStatusCodes"));
            let what = format!("there is no code {code}");
            findings.push(Finding::error(place, what).effect(failed).remedy("write UNAVAILABLE, or leave it out"));
        }
    }
    findings
}

/// Whether a text is a duration as Go has them, and above zero: `1h30m`, `0.5s`, `100ms`.
fn is_duration(text: &str) -> bool {
    const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let (mut parts, mut above_zero) = (0, false);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let Ok(number) = rest[..end].parse::<f64>() else { return false };
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        if !UNITS.contains(&&rest[..end]) {
            return false;
        }
        rest = &rest[end..];
        parts += 1;
        above_zero |= number > 0.0;
    }
    parts > 0 && above_zero
}

/// The Service that an extension server's address is, if it can be one; a name is looked up in the Envoy Gateway's own
/// namespace first, as its pods do.
pub(super) fn target(manager: &Manager<'_>, namespace: &str, cluster_domain: &str) -> Option<Target> {
    let host = manager.get("service.fqdn.hostname").as_str().or_else(|| manager.get("service.host").as_str())?;
    let port = [manager.get("service.fqdn.port"), manager.get("service.port")].into_iter().find_map(Value::as_u64)?;
    let port = u16::try_from(port).ok()?;
    let host = host.strip_suffix('.').unwrap_or(host);
    let local = host.strip_suffix(&format!(".svc.{cluster_domain}")).or_else(|| host.strip_suffix(".svc"));
    let (name, namespace) = match local {
        Some(local) => local.split_once('.').filter(|(_, namespace)| !namespace.contains('.'))?,
        None if host.parse::<std::net::IpAddr>().is_ok() => return None,
        None => match host.split_once('.') {
            None => (host, namespace),
            Some((_, namespace)) if namespace.contains('.') => return None,
            Some(both) => both,
        },
    };
    Some(Target { namespace: namespace.to_owned(), name: name.to_owned(), port })
}
