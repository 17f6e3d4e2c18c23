//! What the Envoys at the other replicas say: each replica keeps a Lease of its own with that in an annotation, and reads those
//! of the others.
//!
//! An Envoy is connected to one replica, and the one that writes statuses may be another. Such a Lease is written when what it
//! says changes, and now and then to show that its replica lives; one that was not renewed in time does not count.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::FIELD_MANAGER;
use crate::model::{ObjectName, Programmed};

/// What some Envoys say, by Gateway; nothing of Gateways without Envoys.
pub type Sayings = BTreeMap<ObjectName, Programmed>;

/// The label of replicas' Leases; its value is the name of the Lease they agree by.
const LABEL: &str = "gateway.tailscale.com/replica-of";
/// The annotation with what a replica's Envoys say.
const ANNOTATION: &str = "gateway.tailscale.com/programmed";
/// How often a replica shows that it lives.
const RENEW: Duration = Duration::from_secs(10);
/// For how long one that is not heard of still counts.
const LASTS: Duration = Duration::from_secs(30);
/// The shortest time between two writes.
const CALM: Duration = Duration::from_millis(500);
/// How long a write may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A refusal's words beyond this many characters are left out: an annotation has an end.
const WORDS: usize = 400;

/// Another replica.
struct Peer {
    renewed: Option<MicroTime>,
    heard_at: Instant,
    says: Sayings,
}

/// A replica among others.
pub struct Peers {
    /// Where its Lease is.
    pub namespace: String,
    /// The Lease that all replicas agree by.
    pub group: String,
    /// This replica.
    pub replica: String,
}

impl Peers {
    /// Tells the others what the Envoys here say, and hears what theirs do, until `shutdown`.
    pub async fn run(
        self,
        client: Client,
        mut own: watch::Receiver<Arc<Sayings>>,
        others: watch::Sender<Arc<Vec<Sayings>>>,
        shutdown: CancellationToken,
    ) {
        let api: Api<Lease> = Api::namespaced(client, &self.namespace);
        let of_group = watcher::Config::default().labels(&format!("{LABEL}={}", self.group));
        let mut events = pin!(watcher(api.clone(), of_group));
        let mut peers: HashMap<String, Peer> = HashMap::new();
        let name = format!("{}-{}", self.group, self.replica);
        let mut next = Instant::now();
        let mut resume_at = None;
        loop {
            let oldest = peers.values().map(|peer| peer.heard_at + LASTS).min();
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = time::sleep_until(resume_at.unwrap_or(next)), if resume_at.is_some() => resume_at = None,
                event = events.next(), if resume_at.is_none() => match event {
                    Some(Ok(Event::Apply(lease) | Event::InitApply(lease))) => {
                        note(&mut peers, &name, &lease);
                        tell(&peers, &others);
                    }
                    Some(Ok(Event::Delete(lease))) => {
                        peers.remove(lease.metadata.name.as_deref().unwrap_or_default());
                        tell(&peers, &others);
                    }
                    Some(Ok(Event::Init | Event::InitDone)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(%error, "watching the other replicas");
                        resume_at = Some(Instant::now() + RENEW / 4);
                    }
                    None => break,
                },
                () = time::sleep_until(oldest.unwrap_or(next)), if oldest.is_some() => {
                    let now = Instant::now();
                    peers.retain(|_, peer| peer.heard_at + LASTS > now);
                    tell(&peers, &others);
                }
                changed = own.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    next = next.min(Instant::now() + CALM);
                }
                () = time::sleep_until(next) => {
                    let says = own.borrow_and_update().clone();
                    let written = time::timeout(TIMEOUT, self.write(&api, &name, &says)).await;
                    if let Ok(Err(error)) = &written {
                        tracing::warn!(lease = name, %error, "the other replicas can not be told what the Envoys here say");
                    }
                    next = Instant::now() + if matches!(written, Ok(Ok(()))) { RENEW } else { RENEW / 4 };
                }
            }
        }
        let _it_expires_otherwise =
            time::timeout(Duration::from_secs(1), api.delete(&name, &DeleteParams::default())).await;
    }

    async fn write(&self, api: &Api<Lease>, name: &str, says: &Sayings) -> kube::Result<()> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some([(LABEL.to_owned(), self.group.clone())].into()),
                annotations: Some([(ANNOTATION.to_owned(), spelled(says))].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.replica.clone()),
                lease_duration_seconds: Some(i32::try_from(LASTS.as_secs()).unwrap_or(i32::MAX)),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        };
        api.patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&lease)).await.map(drop)
    }
}

/// Notes what a Lease says, unless it is our own. A renewal counts from when it is seen: clocks are not compared.
fn note(peers: &mut HashMap<String, Peer>, own: &str, lease: &Lease) {
    let Some(name) = lease.metadata.name.as_deref().filter(|name| *name != own) else { return };
    let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
    let says = lease.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION));
    let says = says.map(|text| read(text)).unwrap_or_default();
    match peers.get_mut(name) {
        Some(peer) if peer.renewed == renewed => peer.says = says,
        _ => {
            peers.insert(name.to_owned(), Peer { renewed, heard_at: Instant::now(), says });
        }
    }
}

fn tell(peers: &HashMap<String, Peer>, others: &watch::Sender<Arc<Vec<Sayings>>>) {
    let mut now: Vec<Sayings> = peers.values().map(|peer| peer.says.clone()).filter(|says| !says.is_empty()).collect();
    now.sort_by_cached_key(spelled);
    others.send_if_modified(|known| {
        let is_new = **known != now;
        if is_new {
            *known = Arc::new(now);
        }
        is_new
    });
}

/// `{"NAMESPACE/NAME": true, false, or a refusal's words}`.
fn spelled(says: &Sayings) -> String {
    let said = |programmed: &Programmed| match programmed {
        Programmed::Acknowledged => json!(true),
        Programmed::Pending | Programmed::NotProvisioned(_) => json!(false),
        Programmed::Refused(words) => json!(words.chars().take(WORDS).collect::<String>()),
    };
    let says: serde_json::Map<String, Value> =
        says.iter().map(|(gateway, programmed)| (gateway.to_string(), said(programmed))).collect();
    Value::Object(says).to_string()
}

fn read(text: &str) -> Sayings {
    let Ok(Value::Object(says)) = serde_json::from_str(text) else { return Sayings::new() };
    let said = |value: &Value| match value {
        Value::Bool(true) => Programmed::Acknowledged,
        Value::String(words) => Programmed::Refused(words.clone()),
        _ => Programmed::Pending,
    };
    says.iter()
        .filter_map(|(gateway, value)| {
            let (namespace, name) = gateway.split_once('/')?;
            Some((ObjectName::new(namespace, name), said(value)))
        })
        .collect()
}
