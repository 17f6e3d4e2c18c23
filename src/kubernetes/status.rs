//! Writes statuses: what was found about objects, as far as the API server does not have it yet.
//!
//! One write carries all that came together meanwhile; an object that is written often waits a moment between writes. Each
//! write names the version of the object that it was made for, so that it never undoes somebody else's.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::{Map, Value, json};
use tokio::{
    sync::mpsc,
    task,
    time::{self, Instant},
};

use super::{FIELD_MANAGER, Leadership, events};
use crate::{
    api::{Finding, Observed},
    metrics::Metrics,
    model::{Details, Kind, ObjectKey, ObjectName, ObjectReport, Problem, Programmed, Report},
    status::{merge, status},
};

/// Writes that are under way at once, at most.
const AT_ONCE: usize = 6;
/// How long an object that many others change, such as a Gateway whose routes are counted, is left alone after a write.
const CALM: Duration = Duration::from_millis(500);
/// How long a write may take: not longer than what is left of the shortest lease when its holder stops.
const TIMEOUT: Duration = Duration::from_millis(3500);
/// After how long a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Finalizers that the original operator left on objects of ours, and that nothing removes any more.
const LEFT_BEHIND: [&str; 6] = [
    "gateway.tailscale.com/tailnet-finalizer",
    "gateway.tailscale.com/tailscalegateway",
    "gateway.tailscale.com/tailscaleendpoints",
    "gateway.tailscale.com/tailscaleroutepolicy",
    "tailscaleservices.gateway.tailscale.com/finalizer",
    "tailscale.com/finalizer",
];

/// What the writer is told.
#[derive(Clone, Debug)]
pub enum StatusNews {
    /// What was found about some objects; nothing about those that are none of our business any more.
    Reported(Vec<(ObjectKey, Option<Arc<Report>>)>),
    /// What stands at the API server.
    Observed(Vec<(ObjectKey, Option<Observed>)>),
    /// What the Envoys of a Gateway say.
    Programmed(ObjectName, Programmed),
    /// What of a Gateway's Envoys could not be created or changed, and why; nothing when all of it could.
    Provisioned(ObjectName, Option<String>),
}

/// Writes statuses as long as this replica leads.
pub struct StatusWriter {
    client: Client,
    controller: &'static str,
    /// This replica, for events.
    replica: String,
    leader: Leadership,
    metrics: Arc<Metrics>,
    reports: HashMap<ObjectKey, Arc<Report>>,
    observed: HashMap<ObjectKey, Observed>,
    programmed: HashMap<ObjectName, Programmed>,
    /// Gateways whose Envoys are not as they should be, and why.
    unprovisioned: HashMap<ObjectName, String>,
    /// To be looked at, and when.
    due: BTreeSet<(Instant, ObjectKey)>,
    due_at: HashMap<ObjectKey, Instant>,
    written_at: HashMap<ObjectKey, Instant>,
    writing: HashSet<ObjectKey>,
    writes: FuturesUnordered<BoxFuture<'static, Written>>,
}

/// What came of a write.
struct Written {
    key: ObjectKey,
    outcome: Result<DynamicObject, WriteError>,
}

enum WriteError {
    /// The object has changed meanwhile, or is gone: the watch tells.
    Outdated,
    Failed(String),
}

impl StatusWriter {
    /// A writer for the controller with this name, at this replica.
    pub fn new(
        client: Client,
        controller: &'static str,
        replica: String,
        leader: Leadership,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            client,
            controller,
            replica,
            leader,
            metrics,
            reports: HashMap::new(),
            observed: HashMap::new(),
            programmed: HashMap::new(),
            unprovisioned: HashMap::new(),
            due: BTreeSet::new(),
            due_at: HashMap::new(),
            written_at: HashMap::new(),
            writing: HashSet::new(),
            writes: FuturesUnordered::new(),
        }
    }

    /// Writes until nobody has news any more.
    pub async fn run(mut self, mut news: mpsc::UnboundedReceiver<StatusNews>) {
        loop {
            let leads = *self.leader.borrow_and_update();
            let next = self.due.first().map(|(at, _)| *at).filter(|_| leads && self.writing.len() < AT_ONCE);
            tokio::select! {
                biased;
                more = news.recv() => match more {
                    Some(more) => {
                        self.take(more);
                        while let Ok(more) = news.try_recv() {
                            self.take(more);
                        }
                    }
                    None => return,
                },
                changed = self.leader.changed() => match changed {
                    Ok(()) => self.on_leadership(),
                    Err(_) => return,
                },
                Some(written) = self.writes.next() => self.on_written(written),
                () = time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.write_due(),
            }
        }
    }

    fn take(&mut self, news: StatusNews) {
        match news {
            StatusNews::Reported(reports) => {
                for (key, report) in reports {
                    match report {
                        Some(report) => self.reports.insert(key.clone(), report),
                        None => self.reports.remove(&key),
                    };
                    self.mark(key);
                }
            }
            StatusNews::Observed(observed) => {
                for (key, observed) in observed {
                    match observed {
                        Some(observed) => {
                            self.observed.insert(key.clone(), observed);
                            self.mark(key);
                        }
                        None => {
                            self.observed.remove(&key);
                            self.written_at.remove(&key);
                        }
                    }
                }
            }
            StatusNews::Programmed(gateway, programmed) => {
                self.programmed.insert(gateway.clone(), programmed);
                self.mark(ObjectKey::new(Kind::Gateway, gateway));
            }
            StatusNews::Provisioned(gateway, problem) => {
                match problem {
                    Some(words) => self.unprovisioned.insert(gateway.clone(), words),
                    None => self.unprovisioned.remove(&gateway),
                };
                self.mark(ObjectKey::new(Kind::Gateway, gateway));
            }
        }
    }

    /// Another replica may have written anything while this one did not lead.
    fn on_leadership(&mut self) {
        if *self.leader.borrow_and_update() {
            let all: Vec<ObjectKey> = self.observed.keys().cloned().collect();
            all.into_iter().for_each(|key| self.mark(key));
        }
    }

    fn mark(&mut self, key: ObjectKey) {
        let now = Instant::now();
        let rested = self.written_at.get(&key).map_or(now, |at| (*at + CALM).max(now));
        self.mark_at(key, rested);
    }

    fn mark_at(&mut self, key: ObjectKey, at: Instant) {
        if let Some(before) = self.due_at.get(&key) {
            if *before <= at {
                return;
            }
            self.due.remove(&(*before, key.clone()));
        }
        self.due_at.insert(key.clone(), at);
        self.due.insert((at, key));
    }

    fn write_due(&mut self) {
        let now = Instant::now();
        while self.writing.len() < AT_ONCE {
            let Some((at, key)) = self.due.first().cloned() else { return };
            if at > now {
                return;
            }
            self.due.pop_first();
            self.due_at.remove(&key);
            if self.writing.contains(&key) {
                // The outcome of the write under way decides what is still to be written.
                self.mark_at(key, now + RETRY);
                continue;
            }
            if let Some(write) = self.write(&key) {
                self.written_at.insert(key.clone(), now);
                self.writing.insert(key);
                self.writes.push(write);
            }
        }
    }

    /// The write that an object needs, if it needs one.
    fn write(&self, key: &ObjectKey) -> Option<BoxFuture<'static, Written>> {
        let observed = self.observed.get(key)?;
        if let Some(finalizers) = without_left_behind(key.kind, &observed.finalizers) {
            tracing::info!(object = %key, "removing the finalizer that the original operator left");
            let body = json!({"metadata": {"resourceVersion": observed.resource_version, "finalizers": finalizers}});
            return Some(self.patch(key, body, false));
        }
        let is_gateway = key.kind == Kind::Gateway;
        let programmed = match (self.unprovisioned.get(&key.name), self.programmed.get(&key.name)) {
            (Some(words), _) if is_gateway => Programmed::NotProvisioned(words.clone()),
            (_, Some(programmed)) if is_gateway => programmed.clone(),
            _ => said_before(&observed.status),
        };
        let report = refusal(key, observed).map(Arc::new).or_else(|| self.reports.get(key).cloned());
        let wanted = report.as_ref().map(|report| status(report, &programmed));
        let merged = merge(key.kind, &observed.status, wanted.as_ref(), self.controller, Timestamp::now())?;
        let news = report.map(|report| events::news(&report, &observed.status, &merged));
        let body = json!({
            "metadata": {"resourceVersion": observed.resource_version},
            "status": difference(&observed.status, &merged),
        });
        let write = self.patch(key, body, true);
        let Some(news) = news.filter(|news| !news.is_empty()) else { return Some(write) };
        let publish =
            events::publish(self.client.clone(), self.replica.clone(), key.clone(), observed.uid.clone(), news);
        let both = async move {
            let written = write.await;
            if written.outcome.is_ok() {
                task::spawn(publish);
            }
            written
        };
        Some(both.boxed())
    }

    fn patch(&self, key: &ObjectKey, body: Value, of_status: bool) -> BoxFuture<'static, Written> {
        let resource = resource(key.kind);
        let api: Api<DynamicObject> = match key.kind.namespaced() {
            true => Api::namespaced_with(self.client.clone(), &key.name.namespace, &resource),
            false => Api::all_with(self.client.clone(), &resource),
        };
        let key = key.clone();
        async move {
            let name = Arc::clone(&key.name.name);
            let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            let patch = Patch::Merge(body);
            let writing = async {
                if of_status {
                    api.patch_status(&name, &parameters, &patch).await
                } else {
                    api.patch(&name, &parameters, &patch).await
                }
            };
            let outcome = match time::timeout(TIMEOUT, writing).await {
                Ok(Ok(object)) => Ok(object),
                Ok(Err(kube::Error::Api(status))) if status.code == 409 || status.code == 404 => {
                    Err(WriteError::Outdated)
                }
                Ok(Err(error)) => Err(WriteError::Failed(error.to_string())),
                Err(_) => Err(WriteError::Failed("the API server does not answer".to_owned())),
            };
            Written { key, outcome }
        }
        .boxed()
    }

    fn on_written(&mut self, Written { key, outcome }: Written) {
        self.writing.remove(&key);
        self.metrics.status_written(key.kind, outcome.is_ok());
        match outcome {
            Ok(object) => {
                let DynamicObject { metadata, mut data, .. } = object;
                if let Some(observed) = self.observed.get_mut(&key) {
                    observed.resource_version = metadata.resource_version.unwrap_or_default();
                    observed.finalizers = metadata.finalizers.unwrap_or_default();
                    observed.status = data["status"].take();
                }
                // Something may have come meanwhile; if not, that is found at no cost.
                self.mark(key);
            }
            Err(WriteError::Outdated) => self.mark_at(key, Instant::now() + RETRY),
            Err(WriteError::Failed(words)) => {
                tracing::warn!(object = %key, "writing the status: {words}; trying again");
                self.mark_at(key, Instant::now() + RETRY);
            }
        }
    }
}

fn resource(kind: Kind) -> ApiResource {
    let (group, version) = (kind.group(), kind.versions()[0]);
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
        kind: kind.as_str().to_owned(),
        plural: kind.plural().to_owned(),
    }
}

fn is_of_our_group(kind: Kind) -> bool {
    kind.group() == Kind::TailscaleTailnet.group()
}

/// The report about an object of a kind of ours that could not be read, so that nobody looked at it. (An API server with our
/// schema takes no new one, and keeps those that it took before.)
fn refusal(key: &ObjectKey, observed: &Observed) -> Option<Report> {
    if observed.refused.is_empty() || !is_of_our_group(key.kind) {
        return None;
    }
    let problem =
        |finding: &Finding| Problem::new(key.clone(), finding.field.as_str(), finding.reason, finding.message.as_str());
    Some(Report::Object(ObjectReport {
        object: key.clone(),
        generation: observed.generation,
        problems: observed.refused.iter().map(problem).collect(),
        details: Details::unknown(key.kind),
    }))
}

/// The finalizers that stay, if some do not.
fn without_left_behind(kind: Kind, finalizers: &[String]) -> Option<Vec<&String>> {
    let stays: Vec<&String> =
        finalizers.iter().filter(|finalizer| !LEFT_BEHIND.contains(&finalizer.as_str())).collect();
    (is_of_our_group(kind) && stays.len() < finalizers.len()).then_some(stays)
}

/// What an earlier process or another replica said of a Gateway's Envoys, until they have been heard.
fn said_before(status: &Value) -> Programmed {
    let listeners = status["listeners"].as_array().into_iter().flatten();
    // A Gateway without an address is not programmed, whatever its Envoys say; its listeners are.
    let mut conditions = listeners.chain([status]).flat_map(|part| part["conditions"].as_array().into_iter().flatten());
    let is_true = conditions.any(|condition| condition["type"] == "Programmed" && condition["status"] == "True");
    if is_true { Programmed::Acknowledged } else { Programmed::Pending }
}

/// The merge patch (RFC 7396) that makes the one of the other.
fn difference(from: &Value, to: &Value) -> Value {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => {
            let mut patch = Map::new();
            for (key, value) in to {
                match from.get(key) {
                    Some(before) if before == value => {}
                    Some(before) => drop(patch.insert(key.clone(), difference(before, value))),
                    None => drop(patch.insert(key.clone(), value.clone())),
                }
            }
            patch.extend(from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), Value::Null)));
            Value::Object(patch)
        }
        (_, to) => to.clone(),
    }
}
