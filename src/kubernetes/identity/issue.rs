//! What the replica that leads writes: the Secret with our authorities, and the Secrets of Gateways' Envoys.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    AUTHORITIES_SECRET, AUTHORITY, CERTIFICATE_LABEL, CLIENT, CertificateProblems, ClientSecret, ClientSecrets,
    IdentityConfig, Known, Seen, Wanted, at, data_of,
};
use crate::{
    identity::{
        Authorities, ClientId,
        trust::{self, SecretData, Trust, client_secret_data, plan_client_secret, read_authorities, renewal, trust},
    },
    kubernetes::{FIELD_MANAGER, Leadership, NotWritten},
    metrics::Metrics,
    model::{COMPONENT_LABEL, HOSTED_COMPONENT, ObjectName},
};

/// Writes that are under way at once, at most.
const AT_ONCE: usize = 4;
/// How long a request may take, unless the Lease allows less.
const TIMEOUT: Duration = Duration::from_millis(3500);
/// After how long what failed is tried again, the first time; twice as long each time after that.
const RETRY: Duration = Duration::from_secs(1);
/// And not longer than this.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Writes Secrets as long as this replica leads.
pub(super) struct Issuer {
    pub(super) client: Client,
    pub(super) config: Arc<IdentityConfig>,
    pub(super) leader: Leadership,
    pub(super) found: watch::Receiver<Known>,
    pub(super) wanted: Wanted,
    pub(super) problems: watch::Sender<Arc<CertificateProblems>>,
    pub(super) metrics: Arc<Metrics>,
}

/// What is known of the Secret of a Gateway's Envoys.
struct Checked {
    /// What it was checked for; another one is another pointer.
    wanted: Arc<ClientSecret>,
    trust: Arc<Trust>,
    found: Option<SecretData>,
    /// When to look again.
    until: Instant,
    /// Attempts that failed since one did not.
    failures: u32,
    problem: Option<String>,
}

/// What came of looking at a Secret.
struct Outcome {
    until: Instant,
    written: Option<SecretData>,
    problem: Option<String>,
    failed: bool,
}

impl Issuer {
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                leads = self.leader.until(true) => if leads.is_err() { return },
            }
            if !self.lead(&shutdown).await {
                return;
            }
            self.problems.send_replace(Arc::default());
        }
    }

    /// Writes what is due, for as long as this replica leads; whether it may lead again. A request under way is waited for when
    /// the lead is lost, which it keeps others from beginning with meanwhile: nobody knows of one that is dropped whether it was
    /// answered, and an API server may do it yet.
    async fn lead(&mut self, shutdown: &CancellationToken) -> bool {
        let labelled = watcher::Config::default().labels(&format!("{CERTIFICATE_LABEL}={CLIENT}"));
        let all: Api<Secret> = Api::all(self.client.clone());
        let mut events = watcher(all, labelled).default_backoff().boxed();
        let mut store = Store::default();
        let mut checked: HashMap<ObjectName, Checked> = HashMap::new();
        let mut current: Option<Arc<Trust>> = None;
        let mut own = Retry::default();
        let mut is_told = true;
        loop {
            let seen = self.found.borrow_and_update().clone();
            // In this order: whoever says that it is known has said before what it is.
            let hosted_is_known = *self.wanted.hosted_is_known.borrow_and_update();
            let wanted = self.wanted.secrets.borrow_and_update().clone();
            let mut next = Instant::now() + LONGEST_RETRY;
            if let Some(seen) = &seen {
                if own.until.is_none_or(|until| Instant::now() >= until) {
                    let done = self.keep_authorities(seen).await;
                    own.note(done, |error| self.warn(|| tracing::warn!(secret = AUTHORITIES_SECRET, "{error}")));
                }
                next = own.until.unwrap_or(next);
                // Equal trust is the same trust: what was checked for it need not be checked again.
                match trust(&seen.found) {
                    Ok(now) if current.as_deref() != Some(&now) => current = Some(Arc::new(now)),
                    Ok(_) => {}
                    // The server's task says why.
                    Err(_) => current = None,
                }
            }
            if let (Some(trust), true) = (&current, store.is_complete) {
                checked.retain(|secret, _| wanted.contains_key(secret));
                self.keep_clients(&wanted, trust, &mut store, &mut checked).await;
                next = checked.values().map(|one| one.until).fold(next, Instant::min);
                if hosted_is_known && !self.delete_unwanted(&wanted, &mut store).await {
                    next = next.min(Instant::now() + RETRY);
                }
                if self.leader.leads() {
                    self.tell(&checked);
                }
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return false,
                // What others wrote meanwhile is not known, even when the lead is back by now: it begins anew.
                changed = self.leader.changed() => return changed.is_ok(),
                changed = self.found.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                    own.until = None;
                }
                changed = self.wanted.secrets.changed(), if is_told => is_told = changed.is_ok(),
                changed = self.wanted.hosted_is_known.changed(), if !hosted_is_known => if changed.is_err() {
                    return false;
                },
                event = events.next() => {
                    let Some(event) = event else { return false };
                    store.take(event).await;
                    // What has come with it is taken in before anything is done about it.
                    while let Some(Some(event)) = events.next().now_or_never() {
                        store.take(event).await;
                    }
                }
                () = time::sleep_until(next) => {}
            }
        }
    }

    /// Says that something failed. What was not done because this replica leads no more is nothing to warn of.
    fn warn(&self, say: impl FnOnce()) {
        if self.leader.leads() {
            say();
        }
    }

    /// Makes our authorities, or takes the steps that are due; answers when to look again.
    async fn keep_authorities(&self, seen: &Seen) -> Result<Timestamp, String> {
        if !seen.found.needs_own() {
            return Ok(Timestamp::MAX);
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.config.namespace);
        let (now, lifetimes) = (Timestamp::now(), self.config.lifetimes);
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        let Some(found) = &seen.found.own else {
            let authorities = Authorities::create(now, lifetimes).map_err(|error| failed(&error))?;
            let secret = json!({
                "metadata": {
                    "name": AUTHORITIES_SECRET,
                    "labels": { CERTIFICATE_LABEL: AUTHORITY, "app.kubernetes.io/managed-by": FIELD_MANAGER },
                },
                "type": "Opaque",
                "data": encoded(&authorities.to_data()),
            });
            let secret = serde_json::from_value(secret).expect("it is a Secret");
            let parameters = PostParams { field_manager: manager(), ..PostParams::default() };
            return match self.timely(api.create(&parameters, &secret)).await {
                Ok(_) => {
                    self.metrics.certificate_issued("authority");
                    let expires = authorities.current().facts().not_after;
                    tracing::info!(secret = AUTHORITIES_SECRET, %expires, "the authority of xDS certificates was made");
                    Ok(authorities.step_at(lifetimes))
                }
                // Somebody was faster, and the watch brings it.
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(Timestamp::MAX),
                Err(error) => Err(failed(&error)),
            };
        };
        let (authorities, steps) = match read_authorities(found) {
            Ok(mut authorities) => {
                let steps = authorities.advance(now, lifetimes).map_err(|error| failed(&error))?;
                if steps.is_empty() {
                    return Ok(authorities.step_at(lifetimes));
                }
                (authorities, format!("{steps:?}"))
            }
            Err(reason) => {
                tracing::error!(secret = AUTHORITIES_SECRET, "{reason}; a new authority is made, which signs at once");
                let mended = Authorities::mend(|part| found.part(part), now, lifetimes);
                (mended.map_err(|error| failed(&error))?, "mended".to_owned())
            }
        };
        let data = authorities.to_data();
        // What is no part any more is removed; keys that others have added stay.
        let mut parts = encoded(&data);
        for part in Authorities::PARTS.iter().filter(|part| !data.contains_key(*part) && found.0.contains_key(**part)) {
            parts[*part] = Value::Null;
        }
        let patch = json!({
            // Refused if somebody has written it meanwhile.
            "metadata": { "resourceVersion": seen.own_version },
            "data": parts,
        });
        let parameters = PatchParams { field_manager: manager(), ..PatchParams::default() };
        match self.timely(api.patch(AUTHORITIES_SECRET, &parameters, &Patch::Merge(&patch))).await {
            Ok(_) => {
                self.metrics.certificate_issued("authority");
                tracing::info!(secret = AUTHORITIES_SECRET, steps, "the authorities of xDS certificates were rotated");
                Ok(authorities.step_at(lifetimes))
            }
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(Timestamp::MAX),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Looks at the Secrets of Gateways' Envoys that may have to be written.
    async fn keep_clients(
        &self,
        wanted: &ClientSecrets,
        trust: &Arc<Trust>,
        store: &mut Store,
        checked: &mut HashMap<ObjectName, Checked>,
    ) {
        let now = Instant::now();
        let due = wanted.iter().filter(|(secret, wanted)| {
            checked.get(*secret).is_none_or(|known| {
                let unchanged = Arc::ptr_eq(&known.wanted, wanted)
                    && Arc::ptr_eq(&known.trust, trust)
                    && known.found.as_ref() == store.secrets.get(*secret);
                !unchanged || now >= known.until
            })
        });
        let looks: Vec<_> = due
            .map(|(secret, wanted)| {
                let (secret, wanted, found) = (secret.clone(), Arc::clone(wanted), store.secrets.get(secret).cloned());
                let failures = checked.get(&secret).map_or(0, |known| known.failures);
                async move {
                    let outcome = self.keep_client(&wanted, found, trust, failures).await;
                    (secret, wanted, outcome)
                }
            })
            .collect();
        let outcomes: Vec<_> = stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
        for (secret, wanted, Outcome { until, written, problem, failed }) in outcomes {
            if let Some(data) = written {
                store.secrets.insert(secret.clone(), data);
            }
            let before = checked.remove(&secret);
            if let Some(problem) = &problem
                && before.as_ref().and_then(|before| before.problem.as_ref()) != Some(problem)
            {
                let gateway = &wanted.gateway;
                self.warn(|| tracing::warn!(%gateway, %secret, "the certificate of the Gateway's Envoys: {problem}"));
            }
            let failures = if failed { before.map_or(0, |before| before.failures) + 1 } else { 0 };
            let found = store.secrets.get(&secret).cloned();
            let now = Checked { wanted, trust: Arc::clone(trust), found, until, failures, problem };
            checked.insert(secret, now);
        }
    }

    /// Deletes the Secrets for other controllers' Gateways that nobody wants any more; whether that worked.
    async fn delete_unwanted(&self, wanted: &ClientSecrets, store: &mut Store) -> bool {
        let unwanted: Vec<ObjectName> =
            store.hosted.iter().filter(|secret| !wanted.contains_key(*secret)).cloned().collect();
        let mut all = true;
        for secret in unwanted.into_iter().filter(|secret| *secret.namespace == *self.config.namespace) {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), &secret.namespace);
            match self.timely(api.delete(&secret.name, &DeleteParams::background())).await {
                Ok(_) => tracing::info!(%secret, "a certificate that nobody needs any more was deleted"),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    self.warn(|| tracing::warn!(%secret, %error, "a certificate that nobody needs any more can not be deleted"));
                    all = false;
                    continue;
                }
            }
            store.hosted.remove(&secret);
            store.secrets.remove(&secret);
        }
        all
    }

    /// Looks at the Secret of a Gateway's Envoys, and writes it if that is due.
    async fn keep_client(
        &self,
        wanted: &ClientSecret,
        labelled: Option<SecretData>,
        trust: &Trust,
        failures: u32,
    ) -> Outcome {
        match self.try_keep_client(wanted, labelled, trust).await {
            Ok(outcome) => outcome,
            Err(problem) => {
                let until = Instant::now() + backoff(failures);
                Outcome { until, written: None, problem: Some(problem), failed: true }
            }
        }
    }

    async fn try_keep_client(
        &self,
        wanted: &ClientSecret,
        labelled: Option<SecretData>,
        trust: &Trust,
    ) -> Result<Outcome, String> {
        let ClientSecret { secret, gateway, metadata, if_there } = wanted;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &secret.namespace);
        let is_ours = labelled.is_some();
        let kept = |until| Outcome { until, written: None, problem: None, failed: false };
        if *if_there && !is_ours {
            // The watch tells when it comes.
            return Ok(kept(Instant::now() + LONGEST_RETRY));
        }
        let found = match labelled {
            Some(data) => Some(data),
            // One without our label is somebody else's.
            None => self.timely(api.get_opt(&secret.name)).await.map_err(|error| error.to_string())?.map(data_of),
        };
        let id = ClientId { trust_domain: self.config.trust_domain.clone(), gateway: gateway.clone() };
        let plan = plan_client_secret(found.as_ref(), &id, trust, Timestamp::now(), self.config.lifetimes);
        let (credentials, due) = match plan.map_err(|error| error.to_string())? {
            trust::ClientSecret::Keep { until } if is_ours => return Ok(kept(at(until))),
            // Nobody tells when it changes.
            trust::ClientSecret::Keep { until } => return Ok(kept(at(until).min(Instant::now() + LONGEST_RETRY))),
            trust::ClientSecret::Awaited(due) => {
                return Err(format!(
                    "Secret {secret} has to hold a certificate for {id}, signed by the authority in --xds-client-ca-secret, \
                     which has no key here: {due}"
                ));
            }
            trust::ClientSecret::Write { credentials, due } => (credentials, due),
        };
        if let (false, Some(found)) = (is_ours, &found)
            && due.is_some()
        {
            let keys: Vec<_> = found.0.keys().map(String::as_str).collect();
            return Err(format!(
                "Secret {secret} is somebody else's (it has no label {CERTIFICATE_LABEL}={CLIENT}) and holds no certificate for \
                 {id}, but {}: remove it, or label it so that it is written over",
                keys.join(", ")
            ));
        }
        if !is_ours && found.is_some() {
            // Theirs, and good; the authorities beside it are theirs to keep.
            return Ok(kept(Instant::now() + LONGEST_RETRY));
        }
        let data = client_secret_data(&credentials, trust);
        let mut metadata = metadata.clone();
        metadata["namespace"] = json!(&*secret.namespace);
        metadata["name"] = json!(&*secret.name);
        metadata["labels"][CERTIFICATE_LABEL] = json!(CLIENT);
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": "kubernetes.io/tls",
            "data": encoded(&data),
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let applied = self.timely(api.patch(&secret.name, &parameters, &Patch::Apply(&manifest))).await;
        let applied = applied.map_err(|error| error.to_string())?;
        let expires = credentials.facts().map(|facts| facts.not_after.to_string()).unwrap_or_default();
        if let Some(due) = due {
            self.metrics.certificate_issued("client");
            tracing::info!(%gateway, %secret, %expires, "a certificate for the Gateway's Envoys was made: {due}");
        }
        Ok(Outcome { until: at(renewal(&credentials)), written: Some(data_of(applied)), problem: None, failed: false })
    }

    /// An API server that does not answer in time is one that failed.
    async fn timely<T>(&self, request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
        let failed = |not_written: NotWritten| Err(kube::Error::Service(not_written.into()));
        self.leader.write(TIMEOUT, request).await.unwrap_or_else(failed)
    }

    fn tell(&self, checked: &HashMap<ObjectName, Checked>) {
        let problems: CertificateProblems =
            checked.values().filter_map(|known| Some((known.wanted.gateway.clone(), known.problem.clone()?))).collect();
        self.problems.send_if_modified(|told| {
            let is_new = **told != problems;
            if is_new {
                *told = Arc::new(problems);
            }
            is_new
        });
    }
}

/// When something is to be done again that may fail.
#[derive(Default)]
struct Retry {
    until: Option<Instant>,
    failures: u32,
    said: Option<String>,
}

impl Retry {
    fn note(&mut self, done: Result<Timestamp, String>, say: impl FnOnce(&str)) {
        match done {
            Ok(until) => *self = Self { until: Some(at(until)), failures: 0, said: None },
            Err(error) => {
                self.until = Some(Instant::now() + backoff(self.failures));
                self.failures += 1;
                if self.said.as_ref() != Some(&error) {
                    say(&error);
                    self.said = Some(error);
                }
            }
        }
    }
}

/// The Secrets of Gateways' Envoys that have our label.
#[derive(Default)]
struct Store {
    secrets: BTreeMap<ObjectName, SecretData>,
    /// Those that a list that has begun has shown so far.
    listed: BTreeMap<ObjectName, SecretData>,
    /// Those of them that are there for other controllers' Gateways.
    hosted: BTreeSet<ObjectName>,
    is_complete: bool,
}

impl Store {
    async fn take(&mut self, event: Result<Event<Secret>, watcher::Error>) {
        match event {
            Ok(Event::Init) => self.listed.clear(),
            Ok(Event::InitApply(secret)) => {
                self.sort(&secret);
                self.listed.insert(name_of(&secret), data_of(secret));
            }
            Ok(Event::InitDone) => {
                self.secrets = std::mem::take(&mut self.listed);
                self.hosted.retain(|secret| self.secrets.contains_key(secret));
                self.is_complete = true;
            }
            Ok(Event::Apply(secret)) => {
                self.sort(&secret);
                self.secrets.insert(name_of(&secret), data_of(secret));
            }
            Ok(Event::Delete(secret)) => {
                self.hosted.remove(&name_of(&secret));
                self.secrets.remove(&name_of(&secret));
            }
            Err(error) => {
                tracing::warn!(%error, "the Secrets of Gateways' Envoys can not be watched");
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Store {
    fn sort(&mut self, secret: &Secret) {
        let labels = secret.metadata.labels.as_ref();
        let component = labels.and_then(|labels| labels.get(COMPONENT_LABEL)).map(String::as_str);
        match component == Some(HOSTED_COMPONENT) {
            true => self.hosted.insert(name_of(secret)),
            false => self.hosted.remove(&name_of(secret)),
        };
    }
}

/// A Secret's `data`. Not its `stringData`, which server-side apply does not keep up with (Kubernetes documentation, "Secrets").
fn encoded(data: &BTreeMap<&'static str, String>) -> Value {
    data.iter().map(|(key, text)| ((*key).to_owned(), json!(ByteString(text.clone().into_bytes())))).collect()
}

fn name_of(secret: &Secret) -> ObjectName {
    let metadata = &secret.metadata;
    ObjectName::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

fn backoff(failures: u32) -> Duration {
    (RETRY * 2_u32.saturating_pow(failures.min(16))).min(LONGEST_RETRY)
}

fn manager() -> Option<String> {
    Some(FIELD_MANAGER.to_owned())
}
