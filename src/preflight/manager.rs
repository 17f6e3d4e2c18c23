//! What is asked of an extension server, and when: hooks, and what travels in the last of them.

use serde_json::Value;

use super::{Finding, REFUSED, configuration::Manager, fields::closest};
use crate::{extension::Hook, model::Kind};

const POST: &str = "hooks.xdsTranslator.post";
const PRE: &str = "hooks.xdsTranslator.pre";

/// Whether an extension server is this program: by the kinds that it declares, else by its address.
pub(super) fn is_ours(manager: &Value) -> bool {
    let lists = [super::configuration::FILTERS, super::configuration::POLICIES, super::configuration::BACKENDS];
    let kinds = lists.iter().flat_map(|list| manager[list].as_array().into_iter().flatten());
    let service = &manager["service"];
    let hosts = [&service["fqdn"]["hostname"], &service["host"]].into_iter().filter_map(Value::as_str);
    kinds.into_iter().any(|kind| kind["group"] == Kind::TailscaleGateway.group())
        || hosts.into_iter().any(|host| host.starts_with("tailscale-gateway"))
}

/// What Envoy Gateway asks of any extension server.
pub(super) fn check_any(manager: &Manager<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !has_some(manager) {
        findings.push(
            Finding::error(manager.place(POST), "there is no hook")
                .effect(REFUSED)
                .remedy(format!("write {POST}: [{}]", Hook::Translate.label())),
        );
    }
    findings
}

/// Whether there is any hook, called or not.
fn has_some(manager: &Manager<'_>) -> bool {
    [POST, PRE].iter().any(|hooks| manager.get(hooks).as_array().is_some_and(|hooks| !hooks.is_empty()))
}

/// What this program needs to be asked.
pub(super) fn check_ours(manager: &Manager<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = original(manager).into_iter().collect();
    let place = || manager.place(POST);
    for name in manager.texts(POST).filter(|name| Hook::ALL.iter().all(|hook| hook.label() != *name)) {
        let finding = Finding::error(place(), format!("there is no hook {name}"))
            .effect("Envoy Gateway takes the word and never calls anybody for it");
        let meant = closest(name, Hook::ALL.iter().map(|hook| hook.label()));
        findings.push(finding.remedy(meant.map_or("remove it".to_owned(), |meant| format!("write {meant}"))));
    }
    if manager.texts(PRE).next().is_some() {
        findings.push(
            Finding::warning(manager.place(PRE), "no Envoy Gateway calls hooks before a translation")
                .effect("it ignores them")
                .remedy("remove it"),
        );
    }
    for (hook, calls) in NEEDLESS {
        if manager.has_hook(hook) {
            findings.push(
                Finding::warning(
                    place(),
                    format!(
                        "{} is not needed: all that is done there is done in {}",
                        hook.label(),
                        Hook::Translate.label()
                    ),
                )
                .effect(format!("Envoy Gateway waits for one call after the other, {calls}, whenever anything changes"))
                .remedy(format!("remove {}", hook.label())),
            );
        }
    }
    if manager.has_hook(Hook::Translate) {
        findings.extend(includes(manager));
    } else if has_some(manager) {
        findings.push(
            Finding::error(place(), format!("{} is missing", Hook::Translate.label()))
                .effect("Envoy Gateway never hands over what it has made as a whole: routes to tailnet endpoints, their clusters and what these need are in none of its Envoys")
                .remedy(format!("add {}", Hook::Translate.label())),
        );
    }
    findings.extend(open_or_closed(manager));
    findings.extend(message_size(manager));
    findings
}

/// Hooks in which this program does nothing, or nothing that it does not do in the last one, and how often they are called.
const NEEDLESS: [(Hook, &str); 4] = [
    (Hook::Route, "one for each match of a rule with a backend or a policy of these kinds"),
    (Hook::VirtualHost, "one for each hostname of each listener"),
    (Hook::HttpListener, "one for each listener"),
    (Hook::Endpoints, "one for each cluster"),
];

/// What travels in the last hook; of what does not, nothing can be changed or added.
fn includes(manager: &Manager<'_>) -> Vec<Finding> {
    let included = |what: &str, unless_said: bool| {
        let value = manager.get(&format!("hooks.xdsTranslator.translation.{what}.includeAll"));
        value.as_bool().unwrap_or(unless_said)
    };
    let lost = [
        (
            "route",
            false,
            "routes to tailnet endpoints, the weights of backends, and backends of rules to which Envoy Gateway gives more than one cluster are in none of its Envoys",
        ),
        (
            "cluster",
            true,
            "routes of this program lead to clusters that its Envoys do not have and are answered with 503, and backends have no endpoints",
        ),
        (
            "secret",
            true,
            "its Envoys do not get the authorities by which HTTPS targets are known and wait for them: requests there fail",
        ),
        (
            "listener",
            false,
            "the call does not say whose it is when a Gateway has no routes of its own, and tailnet endpoints may be missing there",
        ),
    ];
    let missing = lost.into_iter().filter(|(what, unless_said, _)| !included(what, *unless_said));
    missing
        .map(|(what, _, effect)| {
            let place = manager.place(&format!("hooks.xdsTranslator.translation.{what}.includeAll"));
            let says = format!("{what}s are not handed over");
            let finding = if what == "listener" { Finding::warning(place, says) } else { Finding::error(place, says) };
            finding.effect(effect).remedy("write true")
        })
        .collect()
}

/// What becomes of a call that fails.
fn open_or_closed(manager: &Manager<'_>) -> Option<Finding> {
    if manager.get("failOpen").as_bool() == Some(true) {
        return None;
    }
    Some(
        Finding::warning(manager.place("failOpen"), "is not true")
            .effect("after a call that fails Envoy Gateway keeps what it has published, and Envoys that start get nothing, of routes that have to do with no tailnet, too, until something changes")
            .remedy("write true, unless no configuration is better than one without tailnets"),
    )
}

/// What grpc-go takes when nothing is said.
const DEFAULT_SIZE: u64 = 4 << 20;
/// What is enough for some ten thousand routes.
const ENOUGH: u64 = 64 << 20;

/// The limit of what Envoy Gateway takes as an answer.
fn message_size(manager: &Manager<'_>) -> Option<Finding> {
    const RECOMMENDED: &str = "write 256Mi, which is what this program takes";
    let place = manager.place("maxMessageSize");
    let effect = "an answer that is larger fails the call: with failOpen nothing of this program is in its Envoys any more, without nothing changes any more";
    let size = match manager.get("maxMessageSize") {
        Value::Null => {
            let what = format!("is not set, so answers are limited to {} MiB", DEFAULT_SIZE >> 20);
            return Some(Finding::warning(place, what).effect(effect).remedy(RECOMMENDED));
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match bytes(&size) {
        Err(NoBytes::Quantity) => {
            Some(Finding::error(place, format!("{size} is no quantity")).effect(REFUSED).remedy(RECOMMENDED))
        }
        Err(NoBytes::Whole) => {
            let what = format!("{size} is no whole number of bytes above zero");
            Some(Finding::error(place, what).effect("no call of Envoy Gateway succeeds").remedy(RECOMMENDED))
        }
        Ok(size) if size < ENOUGH => {
            let what = format!("is {size} bytes, which a Gateway with many routes needs more than");
            Some(Finding::warning(place, what).effect(effect).remedy(RECOMMENDED))
        }
        Ok(_) => None,
    }
}

/// Why a text is no number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoBytes {
    /// It is no quantity of Kubernetes.
    Quantity,
    /// It is a quantity of something that has parts, or of nothing.
    Whole,
}

/// A quantity of Kubernetes as whole bytes.
fn bytes(quantity: &str) -> Result<u64, NoBytes> {
    /// Suffix, and what it stands for: a power of two or ten.
    const UNITS: [(&str, u64, u32); 12] = [
        ("Ki", 2, 10),
        ("Mi", 2, 20),
        ("Gi", 2, 30),
        ("Ti", 2, 40),
        ("Pi", 2, 50),
        ("Ei", 2, 60),
        ("k", 10, 3),
        ("M", 10, 6),
        ("G", 10, 9),
        ("T", 10, 12),
        ("P", 10, 15),
        ("E", 10, 18),
    ];
    let unit =
        UNITS.into_iter().find_map(|(suffix, base, power)| Some((quantity.strip_suffix(suffix)?, base.pow(power))));
    let parts = ["n", "u", "m"].into_iter().find_map(|suffix| quantity.strip_suffix(suffix));
    let (number, unit) = unit.unwrap_or((parts.unwrap_or(quantity), 1));
    let is_number = number.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    let amount = number.parse::<f64>().ok().filter(|_| is_number).ok_or(NoBytes::Quantity)?;
    let bytes = amount * unit as f64;
    // Below this a float tells one byte from the next.
    let is_whole = parts.is_none() && bytes.fract() == 0.0 && (1.0..9.0e15).contains(&bytes);
    if is_whole { Ok(bytes as u64) } else { Err(NoBytes::Whole) }
}

/// The example of the original operator, told apart: it could not work there, and does not here.
fn original(manager: &Manager<'_>) -> Option<Finding> {
    let host = manager.get("service.fqdn.hostname").as_str().unwrap_or_default();
    let names = ["tailscale-gateway-operator", "tailscale-gateway-extension-server"];
    let is_its_service = host.split('.').next().is_some_and(|name| names.contains(&name));
    let has_its_list = !manager.get("extensions").is_null();
    (is_its_service || has_its_list).then(|| {
        let mut what = "is as the original operator's examples have it".to_owned();
        if is_its_service {
            what += &format!(": {host} is its Service, and that of this program is called tailscale-gateway");
        }
        if has_its_list {
            what += ": no Envoy Gateway has a list of extensions";
        }
        Finding::error(manager.place(""), what)
            .effect("Envoy Gateway does not reach this program, refuses backends of its kinds, and calls it for each hostname instead of once")
            .remedy("replace it by the one in manifests/envoy-gateway/envoy-gateway.yaml")
    })
}
