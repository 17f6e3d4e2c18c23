//! Writes statuses: what was found about objects, as far as the API server does not have it yet.
//!
//! One write carries all that came together meanwhile; an object that is written often waits a moment between writes. Each
//! write names the version of the object that it was made for, so that it never undoes somebody else's. One that fails is tried
//! again later each time, and what the API server does not take when there is something else to say.

mod failures;

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

use self::failures::{Cause, Failures, Made, RETRY};
use super::{FIELD_MANAGER, Leadership, NotWritten, apply::words, events};
use crate::{
    api::{Finding, Observed},
    metrics::Metrics,
    model::{Details, Kind, ObjectKey, ObjectName, ObjectReport, Problem, Programmed, Report, Said},
    status::{merge, status},
};

/// Writes that are under way at once, at most.
const AT_ONCE: usize = 6;
/// How long an object that many others change, such as a Gateway whose routes are counted, is left alone after a write.
const CALM: Duration = Duration::from_millis(500);
/// How long a write may take, unless the Lease allows less.
const TIMEOUT: Duration = Duration::from_millis(3500);

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
    /// What the Envoys of a Gateway say, and of which state of it.
    Programmed(ObjectName, Said),
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
    said: HashMap<ObjectName, Said>,
    /// Gateways whose Envoys are not as they should be, and why.
    unprovisioned: HashMap<ObjectName, String>,
    /// To be looked at, and when.
    due: BTreeSet<(Instant, ObjectKey)>,
    due_at: HashMap<ObjectKey, Instant>,
    written_at: HashMap<ObjectKey, Instant>,
    writing: HashSet<ObjectKey>,
    failures: Failures,
    writes: FuturesUnordered<BoxFuture<'static, Written>>,
}

/// What came of a write.
struct Written {
    key: ObjectKey,
    made: Made,
    outcome: Result<DynamicObject, WriteError>,
}

enum WriteError {
    /// The object has changed meanwhile, or is gone: the watch tells. Or another replica leads.
    Outdated,
    Failed(Cause, String),
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
            said: HashMap::new(),
            unprovisioned: HashMap::new(),
            due: BTreeSet::new(),
            due_at: HashMap::new(),
            written_at: HashMap::new(),
            writing: HashSet::new(),
            failures: Failures::default(),
            writes: FuturesUnordered::new(),
        }
    }

    /// Writes until nobody has news any more.
    pub async fn run(mut self, mut news: mpsc::UnboundedReceiver<StatusNews>) {
        loop {
            let leads = self.leader.look();
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
                            self.failures.forget(&key);
                        }
                    }
                }
            }
            StatusNews::Programmed(gateway, said) => {
                self.said.insert(gateway.clone(), said);
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
        if self.leader.look() {
            self.failures.clear();
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
            let Some(observed) = self.observed.get(&key) else { continue };
            let made = self.made(&key, observed);
            if let Some(until) = self.failures.rests_until(&key, &made, now) {
                self.mark_at(key, until);
                continue;
            }
            if let Some(write) = self.write(&key, observed, made) {
                self.written_at.insert(key.clone(), now);
                self.writing.insert(key);
                self.writes.push(write);
            }
        }
    }

    /// What is said of a Gateway as it is now; nothing while nobody has spoken of that.
    fn programmed(&self, report: &Report) -> Option<Programmed> {
        let Report::Gateway(report) = report else { return None };
        let gateway = &report.object.name;
        match (self.unprovisioned.get(gateway), self.said.get(gateway)) {
            (Some(words), _) => Some(Programmed::NotProvisioned(words.clone())),
            // What was said of the Gateway as it was says nothing of what it is now.
            (None, Some(said)) if said.edition == report.edition() => Some(said.programmed.clone()),
            (None, _) => None,
        }
    }

    /// What an object's status is to be made from.
    fn made(&self, key: &ObjectKey, observed: &Observed) -> Made {
        let report = refusal(key, observed).map(Arc::new).or_else(|| self.reports.get(key).cloned());
        let programmed = report.as_deref().and_then(|report| self.programmed(report));
        Made { report, programmed, version: observed.resource_version.clone() }
    }

    /// The write that an object needs, if it needs one.
    fn write(&self, key: &ObjectKey, observed: &Observed, made: Made) -> Option<BoxFuture<'static, Written>> {
        if let Some(finalizers) = without_left_behind(key.kind, &observed.finalizers) {
            tracing::info!(object = %key, "removing the finalizer that the original operator left");
            let body = json!({"metadata": {"resourceVersion": observed.resource_version, "finalizers": finalizers}});
            return Some(self.patch(key, made, body, false));
        }
        let programmed = made.programmed.as_ref();
        let wanted = made.report.as_ref().map(|report| {
            let mut wanted = status(report, programmed.unwrap_or(&Programmed::Pending));
            if programmed.is_none() {
                wanted.keep_programmed(&observed.status);
            }
            wanted
        });
        let merged = merge(key.kind, &observed.status, wanted.as_ref(), self.controller, Timestamp::now())?;
        let report = made.report.as_ref();
        let news = report.map(|report| events::news(report, programmed, &observed.status, &merged));
        let body = json!({
            "metadata": {"resourceVersion": observed.resource_version},
            "status": difference(&observed.status, &merged),
        });
        let write = self.patch(key, made, body, true);
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

    fn patch(&self, key: &ObjectKey, made: Made, body: Value, of_status: bool) -> BoxFuture<'static, Written> {
        let resource = resource(key.kind);
        let api: Api<DynamicObject> = match key.kind.namespaced() {
            true => Api::namespaced_with(self.client.clone(), &key.name.namespace, &resource),
            false => Api::all_with(self.client.clone(), &resource),
        };
        let (key, leader) = (key.clone(), self.leader.clone());
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
            let outcome = match leader.write(TIMEOUT, writing).await {
                Ok(Ok(object)) => Ok(object),
                Ok(Err(kube::Error::Api(status))) if status.code == 409 || status.code == 404 => {
                    Err(WriteError::Outdated)
                }
                Ok(Err(error)) => Err(WriteError::Failed(Cause::of(&error), words(&error))),
                Err(NotWritten::Lost) => Err(WriteError::Outdated),
                Err(late) => Err(WriteError::Failed(Cause::Unanswered, late.to_string())),
            };
            Written { key, made, outcome }
        }
        .boxed()
    }

    fn on_written(&mut self, Written { key, made, outcome }: Written) {
        self.writing.remove(&key);
        self.metrics.status_written(key.kind, outcome.is_ok());
        match outcome {
            Ok(object) => {
                self.failures.succeeded(&key);
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
            Err(WriteError::Failed(cause, words)) => {
                let (again_at, is_new) = self.failures.note(&key, made, &cause, &words, Instant::now());
                match cause {
                    _ if !is_new => tracing::debug!(object = %key, "writing the status: {words}"),
                    Cause::Unanswered => tracing::warn!(object = %key, "writing the status: {words}; trying again"),
                    Cause::Forbidden => {
                        let kind = key.kind;
                        tracing::warn!(object = %key, "writing statuses of {kind} objects: {words}; trying again, each time later");
                    }
                    Cause::Invalid => {
                        tracing::warn!(object = %key, "the API server does not take the status: {words}; trying again when it is another");
                    }
                }
                self.mark_at(key, again_at);
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
