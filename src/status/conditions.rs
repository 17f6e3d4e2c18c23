//! The conditions themselves: their types, and which reason belongs to which.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use serde_json::{Value, json};

use super::fields::fields;
use crate::model::{
    ClassReport, Details, GatewayReport, Kind, ListenerReport, ObjectKey, ObjectReport, ParentReport, ParentTarget,
    Problem, Programmed, Reason, Report, RouteReport, Severity, shortened,
};

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It can not be said yet.
    Unknown,
}

impl ConditionStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its type, such as `Accepted`.
    pub type_: &'static str,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in words for a person.
    pub message: String,
    /// The generation of the object that it is about.
    pub observed_generation: i64,
}

/// The conditions of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectStatus {
    /// The object.
    pub object: ObjectKey,
    /// Its own conditions.
    pub conditions: Vec<Condition>,
    /// Of a Gateway: the addresses that were asked for and that it is bound to.
    pub addresses: Vec<Arc<str>>,
    /// Of a Gateway: those of its listeners.
    pub listeners: Vec<ListenerConditions>,
    /// Of a route: those of its parents.
    pub parents: Vec<ParentConditions>,
    /// Of an object of ours: what else is to be said.
    pub details: Details,
}

/// The status of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConditions {
    /// The listener.
    pub name: String,
    /// The route kinds it takes.
    pub supported_kinds: Vec<Kind>,
    /// How many routes are attached.
    pub attached_routes: usize,
    /// Its conditions.
    pub conditions: Vec<Condition>,
}

/// The status of a route at one parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentConditions {
    /// The parent.
    pub parent: ParentTarget,
    /// Whether there is such a Gateway. Of one that does not exist nobody knows whose it would be, so that nobody may speak
    /// for it in a cluster.
    pub exists: bool,
    /// The conditions there.
    pub conditions: Vec<Condition>,
}

/// The conditions that follow from a report.
pub fn status(report: &Report, programmed: &Programmed) -> ObjectStatus {
    let mut status = ObjectStatus {
        object: report.object().clone(),
        conditions: Vec::new(),
        addresses: Vec::new(),
        listeners: Vec::new(),
        parents: Vec::new(),
        details: Details::None,
    };
    match report {
        Report::Class(report) => status.conditions = class(report),
        Report::Gateway(report) => {
            status.conditions = gateway(report, programmed);
            status.addresses.clone_from(&report.addresses);
            status.listeners =
                report.listeners.iter().map(|one| listener(one, report.generation, programmed)).collect();
        }
        Report::Route(report) => status.parents = report.parents.iter().map(|one| parent(one, report)).collect(),
        Report::Object(report) => {
            status.conditions = object(report);
            status.details.clone_from(&report.details);
        }
    }
    status
}

impl ObjectStatus {
    /// Leaves said that a Gateway and its listeners are programmed, of the generation of which the status before said it: for
    /// as long as nobody has spoken of this one. A listener that was not programmed before is not said to be.
    pub fn keep_programmed(&mut self, before: &Value) {
        keep_programmed(&mut self.conditions, &before["conditions"]);
        for listener in &mut self.listeners {
            let known = before["listeners"].as_array().into_iter().flatten();
            let known = known.into_iter().find(|known| known["name"] == listener.name.as_str());
            keep_programmed(&mut listener.conditions, known.map_or(&Value::Null, |known| &known["conditions"]));
        }
    }
}

fn keep_programmed(conditions: &mut [Condition], before: &Value) {
    let mut known = before.as_array().into_iter().flatten();
    let Some(before) = known.find(|condition| condition["type"] == "Programmed") else { return };
    let make = Maker(before["observedGeneration"].as_i64().unwrap_or_default());
    // What is said of the addresses of a Gateway is said of one whose Envoys have taken the configuration.
    let of_addresses = [Reason::AddressNotAssigned, Reason::AddressNotUsable].map(Reason::as_str);
    let kept = if before["status"] == "True" {
        make.holds("Programmed", "Programmed")
    } else if let Some(reason) = of_addresses.into_iter().find(|reason| before["reason"] == *reason) {
        let message = before["message"].as_str().unwrap_or_default().to_owned();
        make.make("Programmed", ConditionStatus::False, reason, message)
    } else {
        return;
    };
    let is_open =
        |condition: &&mut Condition| condition.type_ == "Programmed" && condition.status == ConditionStatus::Unknown;
    for condition in conditions.iter_mut().filter(is_open) {
        condition.clone_from(&kept);
    }
}

/// Makes the conditions of one generation.
struct Maker(i64);

/// The longest message of a condition, in bytes. An API server takes 32 768 characters (`metav1.Condition`), but a route may
/// have two conditions for each of 32 Gateways, and all of them together have to fit into one object.
const MESSAGE: usize = 4096;

impl Maker {
    fn make(&self, type_: &'static str, status: ConditionStatus, reason: &'static str, message: String) -> Condition {
        let message = shortened(message, MESSAGE, "…");
        Condition { type_, status, reason, message, observed_generation: self.0 }
    }

    fn holds(&self, type_: &'static str, reason: &'static str) -> Condition {
        self.make(type_, ConditionStatus::True, reason, String::new())
    }

    /// False with all of these problems' words and the first one's reason, or true when there are none.
    fn unless(&self, type_: &'static str, holds: &'static str, problems: &[&Problem]) -> Condition {
        match problems.first() {
            None => self.holds(type_, holds),
            Some(first) => self.make(type_, ConditionStatus::False, reason_of(first), words(problems)),
        }
    }
}

/// Gateway API calls both an unknown listener protocol and an unknown backend protocol `UnsupportedProtocol`.
fn reason_of(problem: &Problem) -> &'static str {
    match problem.reason {
        Reason::UnsupportedProtocolBackend => Reason::UnsupportedProtocol.as_str(),
        reason => reason.as_str(),
    }
}

/// As many problems as fit, and how many more there are.
fn words(problems: &[&Problem]) -> String {
    let mut words = String::new();
    for (at, problem) in problems.iter().enumerate() {
        let (separator, colon) = (if at == 0 { "" } else { "; " }, if problem.field.is_empty() { "" } else { ": " });
        let next = format!("{separator}{}{colon}{}", problem.field, problem.message);
        // Room for what is said in place of the rest.
        if at > 0 && words.len() + next.len() + 32 > MESSAGE {
            return format!("{words}; and {} more", problems.len() - at);
        }
        words.push_str(&next);
    }
    words
}

fn with_reason<'a>(problems: &'a [Problem], reasons: &[Reason]) -> Vec<&'a Problem> {
    problems.iter().filter(|problem| reasons.contains(&problem.reason)).collect()
}

fn class(report: &ClassReport) -> Vec<Condition> {
    let make = Maker(report.generation);
    // "Best effort" where a version is not supported: the class stays accepted (Gateway API,
    // `GatewayClassConditionStatusSupportedVersion`).
    let (versions, others): (Vec<&Problem>, Vec<&Problem>) =
        report.problems.iter().partition(|problem| problem.reason == Reason::UnsupportedVersion);
    let supported = if report.definitions_known {
        make.unless("SupportedVersion", "SupportedVersion", &versions)
    } else {
        let message = "no definition of Gateway API has been seen, so their version is not known; let the service account \
                       list and watch customresourcedefinitions";
        make.make("SupportedVersion", ConditionStatus::Unknown, "Pending", message.to_owned())
    };
    vec![make.unless("Accepted", "Accepted", &others), supported]
}

fn gateway(report: &GatewayReport, programmed: &Programmed) -> Vec<Condition> {
    let make = Maker(report.generation);
    let mut conditions = Vec::new();
    let fatal = with_reason(&report.problems, &[Reason::UnsupportedAddress, Reason::InvalidParameters]);
    let invalid = with_reason(&report.problems, &[Reason::ListenersNotValid]);
    let any_served = report.listeners.iter().any(|listener| listener.served);
    let accepted = if !fatal.is_empty() || (!any_served && !invalid.is_empty()) {
        make.unless("Accepted", "Accepted", if fatal.is_empty() { &invalid } else { &fatal })
    } else if invalid.is_empty() {
        make.holds("Accepted", "Accepted")
    } else {
        // Some listeners serve: the Gateway is accepted, and the reason says that not all do (Gateway API).
        make.make("Accepted", ConditionStatus::True, Reason::ListenersNotValid.as_str(), words(&invalid))
    };
    let refused = accepted.status == ConditionStatus::False;
    conditions.push(accepted);
    conditions.push(if !any_served {
        make.make("Programmed", ConditionStatus::False, "Invalid", "no listener can be served".to_owned())
    } else if !with_reason(&report.problems, &[Reason::InvalidParameters]).is_empty() {
        let message =
            "nothing is created for the Gateway, and nothing that was is changed, until its parameters can be used";
        make.make("Programmed", ConditionStatus::False, "Invalid", message.to_owned())
    } else if refused {
        let message = "listeners are served on the other addresses only";
        make.make("Programmed", ConditionStatus::False, "AddressNotUsable", message.to_owned())
    } else {
        match (programmed, &report.unassigned) {
            // What the Envoys have taken is of no use where nobody can reach them.
            (Programmed::Acknowledged, Some(problem)) => {
                make.make("Programmed", ConditionStatus::False, reason_of(problem), words(&[problem]))
            }
            _ => programmed_condition(&make, programmed),
        }
    });
    conditions.extend(effective(&make, &report.problems));
    conditions
}

fn programmed_condition(make: &Maker, programmed: &Programmed) -> Condition {
    match programmed {
        Programmed::Pending => make.make(
            "Programmed",
            ConditionStatus::Unknown,
            "Pending",
            "no Envoy has acknowledged the configuration yet".to_owned(),
        ),
        Programmed::Acknowledged => make.holds("Programmed", "Programmed"),
        Programmed::Refused(words) => make.make(
            "Programmed",
            ConditionStatus::False,
            "Invalid",
            format!("an Envoy refused the configuration: {words}"),
        ),
        Programmed::NotProvisioned(words) => {
            make.make("Programmed", ConditionStatus::False, "NoResources", words.clone())
        }
    }
}

fn listener(report: &ListenerReport, generation: i64, programmed: &Programmed) -> ListenerConditions {
    let make = Maker(generation);
    let conflicts = with_reason(&report.problems, &[Reason::ProtocolConflict, Reason::HostnameConflict]);
    let unsupported = with_reason(
        &report.problems,
        &[Reason::UnsupportedProtocol, Reason::PortUnavailable, Reason::UnsupportedValue],
    );
    let unresolved = with_reason(
        &report.problems,
        &[Reason::InvalidCertificateRef, Reason::InvalidRouteKinds, Reason::RefNotPermitted],
    );
    let not_accepted = if unsupported.is_empty() { &conflicts } else { &unsupported };
    let mut conditions = vec![
        make.unless("Accepted", "Accepted", not_accepted),
        match conflicts.first() {
            Some(first) => make.make("Conflicted", ConditionStatus::True, reason_of(first), words(&conflicts)),
            None => make.make("Conflicted", ConditionStatus::False, "NoConflicts", String::new()),
        },
        make.unless("ResolvedRefs", "ResolvedRefs", &unresolved),
    ];
    conditions.push(if report.served {
        programmed_condition(&make, programmed)
    } else {
        make.make("Programmed", ConditionStatus::False, "Invalid", "the listener is not served".to_owned())
    });
    conditions.extend(effective(&make, &report.problems));
    ListenerConditions {
        name: report.name.to_string(),
        supported_kinds: report.supported_kinds.clone(),
        attached_routes: report.attached_routes,
        conditions,
    }
}

/// The reasons that speak of references.
const UNRESOLVED: [Reason; 4] =
    [Reason::InvalidKind, Reason::RefNotPermitted, Reason::BackendNotFound, Reason::UnsupportedProtocolBackend];

fn parent(report: &ParentReport, route: &RouteReport) -> ParentConditions {
    let make = Maker(route.generation);
    let unresolved = with_reason(&report.problems, &UNRESOLVED);
    let invalid: Vec<&Problem> = report
        .problems
        .iter()
        .filter(|problem| problem.severity() == Severity::Error && !UNRESOLVED.contains(&problem.reason))
        .collect();
    let mut conditions = Vec::new();
    conditions.push(match &report.refused {
        Some(problem) => make.unless("Accepted", "Accepted", &[problem]),
        None if !report.any_rule_valid => make.unless("Accepted", "Accepted", &invalid),
        None => make.holds("Accepted", "Accepted"),
    });
    conditions.push(if report.served {
        make.unless("ResolvedRefs", "ResolvedRefs", &unresolved)
    } else {
        let message = "no listener serves the route here, so its references were not looked at";
        make.make("ResolvedRefs", ConditionStatus::Unknown, "Pending", message.to_owned())
    });
    if report.refused.is_none() && report.any_rule_valid && !invalid.is_empty() {
        conditions.push(make.make(
            "PartiallyInvalid",
            ConditionStatus::True,
            Reason::UnsupportedValue.as_str(),
            dropped(&invalid),
        ));
    }
    conditions.extend(effective(&make, &report.problems));
    ParentConditions { parent: report.parent.clone(), exists: report.exists, conditions }
}

/// "The message for this condition MUST start with the prefix "Dropped Rule" and include information about which Rules have
/// been dropped" (Gateway API, `RouteConditionPartiallyInvalid`). What is not of one rule drops them all.
fn dropped(invalid: &[&Problem]) -> String {
    let rule = |problem: &&Problem| {
        let (rule, _) = problem.field.strip_prefix("spec.rules[")?.split_once(']')?;
        rule.parse::<usize>().ok()
    };
    let rules: BTreeSet<usize> = invalid.iter().filter_map(rule).collect();
    let names: Vec<String> = rules.iter().map(ToString::to_string).collect();
    let plural = if rules.len() == 1 { "" } else { "s" };
    format!(
        "Dropped Rule{plural} {}, as far as they can not be served as written: {}",
        names.join(", "),
        words(invalid)
    )
}

fn object(report: &ObjectReport) -> Vec<Condition> {
    let make = Maker(report.generation);
    if !report.object.kind.has_our_status() || report.object.kind == Kind::Gateway {
        // Others accept it or do not.
        return effective(&make, &report.problems).into_iter().collect();
    }
    let errors: Vec<&Problem> = report
        .problems
        .iter()
        .filter(|problem| problem.severity() == Severity::Error && problem.reason != Reason::Conflicted)
        .collect();
    let mut conditions = vec![make.unless("Accepted", "Accepted", &errors)];
    if errors.iter().any(|problem| problem.reason == Reason::SchemaViolation) {
        // It could not be read, so that nothing else of it was looked at.
        conditions.push(ready(&make, &conditions, &report.problems));
        return conditions;
    }
    match report.object.kind {
        Kind::TailscaleEndpoints => {
            let conflicts = with_reason(&report.problems, &[Reason::Conflicted]);
            conditions.push(match conflicts.first() {
                Some(first) => make.make("Conflicted", ConditionStatus::True, reason_of(first), words(&conflicts)),
                None => make.make("Conflicted", ConditionStatus::False, "NoConflicts", String::new()),
            });
            let tailnets = with_reason(&report.problems, &[Reason::TailnetNotFound]);
            conditions.push(make.unless("TailnetsValid", "TailnetsFound", &tailnets));
        }
        Kind::TailscaleGateway => {
            let gateway = with_reason(
                &report.problems,
                &[Reason::TargetNotFound, Reason::NotAllowedByListeners, Reason::InvalidKind],
            );
            conditions.push(make.unless("GatewayValid", "GatewayFound", &gateway));
            let tailnets = with_reason(&report.problems, &[Reason::TailnetNotFound]);
            conditions.push(make.unless("TailnetsValid", "TailnetsFound", &tailnets));
        }
        _ => {}
    }
    conditions.extend(effective(&make, &report.problems));
    conditions.push(ready(&make, &conditions, &report.problems));
    conditions
}

/// Whether all of an object does what it says, in the word that `kubectl wait` and the columns look for. A tailnet that is not
/// known, and fields without effect, are told beside it; an object without any effect is not ready.
fn ready(make: &Maker, conditions: &[Condition], problems: &[Problem]) -> Condition {
    let is_bad = |condition: &&Condition| match condition.type_ {
        "Conflicted" => condition.status == ConditionStatus::True,
        "Effective" => problems.iter().any(|problem| problem.reason == Reason::NotActedOn && problem.field.is_empty()),
        "TailnetsValid" => false,
        _ => condition.status != ConditionStatus::True,
    };
    match conditions.iter().find(is_bad) {
        Some(bad) => make.make("Ready", ConditionStatus::False, bad.reason, bad.message.clone()),
        None => make.holds("Ready", "Ready"),
    }
}

/// Says which fields are accepted without effect, if there are any.
fn effective(make: &Maker, problems: &[Problem]) -> Option<Condition> {
    let notes = with_reason(problems, &[Reason::NotActedOn]);
    (!notes.is_empty()).then(|| make.unless("Effective", "Effective", &notes))
}

impl ObjectStatus {
    /// The status as Kubernetes writes it, without times.
    pub fn to_json(&self) -> Value {
        let mut status = serde_json::Map::new();
        if !self.conditions.is_empty() {
            status.insert("conditions".to_owned(), conditions_json(&self.conditions));
        }
        if !self.addresses.is_empty() {
            let addresses = self.addresses.iter().map(|address| {
                let type_ = if address.parse::<IpAddr>().is_ok() { "IPAddress" } else { "Hostname" };
                json!({"type": type_, "value": &**address})
            });
            status.insert("addresses".to_owned(), addresses.collect());
        }
        if !self.listeners.is_empty() {
            let listeners = self.listeners.iter().map(|listener| {
                let kinds: Vec<Value> = listener
                    .supported_kinds
                    .iter()
                    .map(|kind| json!({"group": kind.group(), "kind": kind.as_str()}))
                    .collect();
                json!({
                    "name": listener.name,
                    "supportedKinds": kinds,
                    "attachedRoutes": listener.attached_routes,
                    "conditions": conditions_json(&listener.conditions),
                })
            });
            status.insert("listeners".to_owned(), listeners.collect());
        }
        if !self.parents.is_empty() {
            let parents = self.parents.iter().map(|parent| {
                json!({
                    "parentRef": parent_json(&parent.parent),
                    "conditions": conditions_json(&parent.conditions),
                })
            });
            status.insert("parents".to_owned(), parents.collect());
        }
        status.extend(fields(self.object.kind, &self.details));
        Value::Object(status)
    }
}

pub(super) fn parent_json(parent: &ParentTarget) -> Value {
    let mut json = json!({"group": parent.group, "kind": parent.kind, "name": parent.name});
    for (key, value) in [("namespace", &parent.namespace), ("sectionName", &parent.section_name)] {
        if let Some(value) = value {
            json[key] = json!(value);
        }
    }
    if let Some(port) = parent.port {
        json["port"] = json!(port);
    }
    json
}

pub(super) fn conditions_json(conditions: &[Condition]) -> Value {
    conditions
        .iter()
        .map(|condition| {
            json!({
                "type": condition.type_,
                "status": condition.status.as_str(),
                "reason": condition.reason,
                "message": condition.message,
                "observedGeneration": condition.observed_generation,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectName;

    #[test]
    fn a_message_names_as_many_problems_as_fit_and_counts_the_others() {
        let object = ObjectKey::new(Kind::HttpRoute, ObjectName::new("a", "b"));
        let problem = |length| Problem::new(object.clone(), "spec", Reason::InvalidParameters, "x".repeat(length));
        let problems: Vec<Problem> = (0..100).map(|_| problem(100)).collect();
        let few = words(&problems.iter().take(2).collect::<Vec<_>>());
        assert_eq!(few, format!("spec: {0}; spec: {0}", "x".repeat(100)));
        let many = words(&problems.iter().collect::<Vec<_>>());
        let (named, rest) = many.split_once("; and ").expect("the others are counted");
        let rest: usize = rest.strip_suffix(" more").expect("that is the end").parse().expect("a number");
        assert_eq!(named.split("; ").count() + rest, 100);
        assert!(many.len() <= MESSAGE && many.len() > MESSAGE - 200, "{}", many.len());
        // One alone is cut.
        let long = Maker(1).unless("Accepted", "Accepted", &[&problem(10_000), &problem(1)]);
        assert!(long.message.len() == MESSAGE && long.message.ends_with('…'), "{}", long.message.len());
    }
}
