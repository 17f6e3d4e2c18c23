//! What the Envoys at the other replicas say: each replica keeps a Lease of its own with that in an annotation, and reads those
//! of the others.
//!
//! An Envoy is connected to one replica, and the one that writes statuses may be another. Such a Lease is written when what it
//! says changes, when a replica comes that can not know who lives, and now and then to show that its own lives. Clocks are
//! never compared: a Lease counts once it was seen to be renewed, and until it was not for a while. Those of replicas that
//! were killed are deleted by the one that leads.

mod others;
mod spelled;

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::watcher::{self, Event, watcher},
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use self::{
    others::{LASTS, Others},
    spelled::{ANNOTATION, spelled},
};
use super::{FIELD_MANAGER, Leadership};
use crate::model::{Edition, ObjectName, Programmed, Said};

/// What some Envoys say, by Gateway; nothing of Gateways without Envoys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sayings {
    /// Of each Gateway.
    pub of: BTreeMap<ObjectName, Said>,
    /// There was no room for all: of the Gateways that are not named, nothing is known.
    pub is_partial: bool,
}

impl Sayings {
    /// What is said of one state of a Gateway; nothing when there is no Envoy of it. What is said of another state leaves this
    /// one open.
    pub fn about(&self, gateway: &ObjectName, edition: Edition) -> Option<Programmed> {
        match self.of.get(gateway) {
            Some(said) if said.edition == edition => Some(said.programmed.clone()),
            Some(_) => Some(Programmed::Pending),
            None => self.is_partial.then_some(Programmed::Pending),
        }
    }
}

/// The label of replicas' Leases; its value is the name of the Lease they agree by.
const LABEL: &str = "gateway.tailscale.com/replica-of";
/// How often a replica shows that it lives.
const RENEW: Duration = Duration::from_secs(10);
/// The shortest time between two writes.
const CALM: Duration = Duration::from_millis(500);
/// How long a write may take.
const TIMEOUT: Duration = Duration::from_secs(5);

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
    /// Tells the others what the Envoys here say, and hears what theirs do, until `shutdown`; then takes its Lease away.
    pub async fn run(
        self,
        client: Client,
        mut leader: Leadership,
        mut own: watch::Receiver<Arc<Sayings>>,
        tell: watch::Sender<Arc<Vec<Sayings>>>,
        shutdown: CancellationToken,
    ) {
        let api: Api<Lease> = Api::namespaced(client, &self.namespace);
        let name = format!("{}-{}", self.group, self.replica);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.follow(&api, &name, &mut leader, &mut own, &tell) => {}
        }
        let _it_expires_otherwise =
            time::timeout(Duration::from_secs(1), api.delete(&name, &DeleteParams::default())).await;
    }

    /// Tells and hears for as long as there is something to tell.
    async fn follow(
        &self,
        api: &Api<Lease>,
        name: &str,
        leader: &mut Leadership,
        own: &mut watch::Receiver<Arc<Sayings>>,
        tell: &watch::Sender<Arc<Vec<Sayings>>>,
    ) {
        let began = MicroTime(Timestamp::now());
        let of_group = watcher::Config::default().labels(&format!("{LABEL}={}", self.group));
        let mut events = pin!(watcher(api.clone(), of_group));
        let mut others = Others::default();
        let mut next = Instant::now();
        let mut resume_at = None;
        loop {
            let leads = leader.look();
            let wake_at = others.changes_at(Instant::now(), leads);
            tokio::select! {
                () = time::sleep_until(resume_at.unwrap_or(next)), if resume_at.is_some() => resume_at = None,
                event = events.next(), if resume_at.is_none() => match event {
                    Some(Ok(Event::Apply(lease) | Event::InitApply(lease))) => {
                        let is_other = lease.metadata.name.as_deref() != Some(name);
                        if is_other && others.note(&lease, Instant::now()) {
                            // It hears us once it sees us write.
                            next = next.min(Instant::now() + CALM);
                        }
                    }
                    Some(Ok(Event::Delete(lease))) => others.forget(lease.metadata.name.as_deref().unwrap_or_default()),
                    Some(Ok(Event::Init | Event::InitDone)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(%error, "watching the other replicas");
                        resume_at = Some(Instant::now() + RENEW / 4);
                    }
                    None => return,
                },
                () = time::sleep_until(wake_at.unwrap_or(next)), if wake_at.is_some() => {}
                changed = leader.changed() => if changed.is_err() {
                    return;
                },
                changed = own.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    next = next.min(Instant::now() + CALM);
                }
                () = time::sleep_until(next) => {
                    let says = own.borrow_and_update().clone();
                    let written = time::timeout(TIMEOUT, self.write(api, name, &began, &says)).await;
                    if let Ok(Err(error)) = &written {
                        tracing::warn!(lease = name, %error, "the other replicas can not be told what the Envoys here say");
                    }
                    next = Instant::now() + if matches!(written, Ok(Ok(()))) { RENEW } else { RENEW / 4 };
                }
            }
            let now = Instant::now();
            for (left, version) in others.left_behind(now).into_iter().filter(|_| leads) {
                delete(api, leader, &left, version).await;
                others.put_off(&left, now);
            }
            let heard = others.heard(now);
            tell.send_if_modified(|known| {
                let is_new = **known != heard;
                if is_new {
                    *known = Arc::new(heard);
                }
                is_new
            });
        }
    }

    async fn write(&self, api: &Api<Lease>, name: &str, began: &MicroTime, says: &Sayings) -> kube::Result<()> {
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
                acquire_time: Some(began.clone()),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        };
        api.patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&lease)).await.map(drop)
    }
}

/// Deletes the Lease of a replica that was killed, unless it has been written meanwhile.
async fn delete(api: &Api<Lease>, leader: &Leadership, name: &str, version: Option<String>) {
    let preconditions = Some(Preconditions { resource_version: version, uid: None });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    match leader.write(TIMEOUT, api.delete(name, &params)).await {
        Ok(Ok(_)) => tracing::info!(lease = name, "the Lease of a replica that is no more was deleted"),
        Ok(Err(error)) => {
            tracing::debug!(lease = name, %error, "the Lease of a replica that is no more was not deleted")
        }
        Err(error) => tracing::debug!(lease = name, %error, "the Lease of a replica that is no more was not deleted"),
    }
}
