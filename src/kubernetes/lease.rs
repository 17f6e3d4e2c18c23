//! Which replica writes: the holder of a Lease (`coordination.k8s.io/v1`).
//!
//! Clocks are never compared: whether a holder is alive is measured by our own clock from the moment at which we saw its last
//! renewal (as in Kubernetes' own leader election, `client-go/tools/leaderelection`), so that skew does no harm. A holder that
//! can not renew stops a third of the lease's duration before anybody else may start, and no write takes as long as that
//! ([`Leadership`]). One that ends gives the Lease back when its last write has ended.

use std::{pin::pin, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::PostParams,
    runtime::watcher::{self, Event, watcher},
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::Leadership;

/// After how long an attempt that failed is made again.
const RETRY: Duration = Duration::from_secs(1);

/// Which Lease, and how long it lasts.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// The namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// This replica: different for each process.
    pub holder: String,
    /// How long a holder that is not heard of keeps it, in whole seconds; others take over after that.
    pub duration: Duration,
}

impl LeaseConfig {
    /// How often the holder renews it.
    fn renew_every(&self) -> Duration {
        self.duration / 3
    }

    /// How long after its last renewal a holder may write.
    fn writes_for(&self) -> Duration {
        self.duration * 2 / 3
    }
}

/// Tells this replica's writers whether they may write, and hears when they have ended.
pub struct Lead {
    leads: watch::Sender<bool>,
    writers: Leadership,
}

/// Who decides who leads, and what the writers look at. Nobody leads yet.
pub fn lead(config: &LeaseConfig) -> (Lead, Leadership) {
    let (leads, look) = watch::channel(false);
    let writers = Leadership::new(look, config.duration);
    (Lead { leads, writers: writers.clone() }, writers)
}

/// What is known of the Lease.
#[derive(Default)]
struct Seen {
    lease: Option<Lease>,
    /// When its holder or renewal time was last seen to change.
    at: Option<Instant>,
}

impl Seen {
    fn note(&mut self, lease: Option<Lease>, now: Instant) {
        let record = |lease: &Option<Lease>| {
            lease
                .as_ref()
                .and_then(|lease| lease.spec.as_ref())
                .map(|spec| (spec.holder_identity.clone(), spec.renew_time.clone(), spec.lease_transitions))
        };
        if self.at.is_none() || record(&self.lease) != record(&lease) {
            self.at = Some(now);
        }
        self.lease = lease;
    }

    fn holder(&self) -> Option<&str> {
        let holder = self.lease.as_ref()?.spec.as_ref()?.holder_identity.as_deref()?;
        (!holder.is_empty()).then_some(holder)
    }

    /// When somebody else may take it.
    fn free_at(&self, default: Duration) -> Option<Instant> {
        self.holder()?;
        let spec = self.lease.as_ref()?.spec.as_ref()?;
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Some(self.at? + seconds.map_or(default, Duration::from_secs))
    }
}

/// Holds the Lease whenever it can, until `shutdown`; then gives it back when nothing is being written any more, so that another
/// replica starts at once.
pub async fn run(client: Client, config: LeaseConfig, lead: Lead, shutdown: CancellationToken) {
    let Lead { leads: leader, writers } = lead;
    let api: Api<Lease> = Api::namespaced(client, &config.namespace);
    let only = watcher::Config::default().fields(&format!("metadata.name={}", config.name));
    let mut events = pin!(watcher(api.clone(), only));
    let mut seen = Seen::default();
    // Until when this replica may write.
    let mut until: Option<Instant> = None;
    let mut next = Instant::now();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            event = events.next() => {
                match event {
                    Some(Ok(Event::Apply(lease) | Event::InitApply(lease))) => seen.note(Some(lease), Instant::now()),
                    Some(Ok(Event::Delete(_))) => seen.note(None, Instant::now()),
                    Some(Ok(Event::Init | Event::InitDone)) => {}
                    // What is missed here is found when the Lease is written next.
                    Some(Err(error)) => {
                        tracing::debug!(%error, "watching the lease");
                        time::sleep(RETRY / 4).await;
                    }
                    None => break,
                }
                let is_free = seen.holder().is_none();
                if until.is_none() {
                    next = if is_free { Instant::now() } else { seen.free_at(config.duration).unwrap_or(next) };
                } else if !is_free && seen.holder() != Some(&config.holder) {
                    stop(&leader, &mut until, "another replica has taken the lease");
                    next = seen.free_at(config.duration).unwrap_or(next);
                }
            }
            () = time::sleep_until(next) => {
                let began = Instant::now();
                match attempt(&api, &config, &mut seen, until.is_some()).await {
                    Ok(true) => {
                        until = Some(began + config.writes_for());
                        next = began + config.renew_every();
                        if leader.send_if_modified(|leads| !std::mem::replace(leads, true)) {
                            tracing::info!(lease = config.name, holder = config.holder, "this replica writes");
                        }
                    }
                    Ok(false) => {
                        stop(&leader, &mut until, "another replica has the lease");
                        next = seen.free_at(config.duration).unwrap_or(began + RETRY).max(began + RETRY / 4);
                    }
                    Err(error) => {
                        if matches!(&error, kube::Error::Api(status) if status.code == 403) {
                            tracing::error!(
                                lease = config.name,
                                %error,
                                "the lease can not be written, so nothing is; let the service account get and update it (the \
                                 chart's may write tailscale-gateway alone: see --lease) and create leases"
                            );
                        } else {
                            tracing::warn!(lease = config.name, %error, "the lease can not be written");
                        }
                        next = began + RETRY;
                    }
                }
            }
            () = time::sleep_until(until.unwrap_or(next)), if until.is_some() => {
                stop(&leader, &mut until, "the lease could not be renewed in time");
            }
        }
    }
    let held = until.is_some();
    stop(&leader, &mut until, "shutting down");
    if held && writers.is_idle().await {
        release(&api, &config, &seen).await;
    } else if held {
        tracing::info!(lease = config.name, "not given back: a write has not ended");
    }
}

fn stop(leader: &watch::Sender<bool>, until: &mut Option<Instant>, why: &str) {
    *until = None;
    if leader.send_if_modified(|leads| std::mem::replace(leads, false)) {
        tracing::info!(why, "this replica writes no more");
    }
}

/// Takes or renews the Lease, and answers whether this replica has it. A write that somebody else's came before is no error.
async fn attempt(api: &Api<Lease>, config: &LeaseConfig, seen: &mut Seen, holds: bool) -> kube::Result<bool> {
    let writing = async {
        if seen.lease.is_none() {
            seen.note(api.get_opt(&config.name).await?, Instant::now());
        }
        let is_ours = seen.holder() == Some(&config.holder);
        let is_free = seen.free_at(config.duration).is_none_or(|at| Instant::now() >= at);
        if !is_ours && !is_free {
            return Ok(false);
        }
        let wanted = written(config, seen, is_ours && holds);
        let written = match &seen.lease {
            Some(_) => api.replace(&config.name, &PostParams::default(), &wanted).await,
            None => api.create(&PostParams::default(), &wanted).await,
        };
        match written {
            Ok(lease) => {
                seen.note(Some(lease), Instant::now());
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                seen.note(api.get_opt(&config.name).await?, Instant::now());
                // Ours still, when the conflict was about something else in it: the next attempt renews it.
                Ok(holds && seen.holder() == Some(&config.holder))
            }
            Err(error) => Err(error),
        }
    };
    match time::timeout(config.duration / 3, writing).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service("the API server does not answer".into())),
    }
}

/// The Lease as this replica writes it. Labels and annotations of others stay.
fn written(config: &LeaseConfig, seen: &Seen, renews: bool) -> Lease {
    let mut lease = seen.lease.clone().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(config.name.clone()),
            namespace: Some(config.namespace.clone()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let now = MicroTime(Timestamp::now());
    let before = lease.spec.take().unwrap_or_default();
    let transitions = before.lease_transitions.unwrap_or_default();
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(config.holder.clone()),
        lease_duration_seconds: Some(i32::try_from(config.duration.as_secs()).unwrap_or(i32::MAX).max(1)),
        acquire_time: if renews { before.acquire_time } else { Some(now.clone()) },
        renew_time: Some(now),
        lease_transitions: Some(if renews { transitions } else { transitions + 1 }),
        ..before
    });
    lease
}

async fn release(api: &Api<Lease>, config: &LeaseConfig, seen: &Seen) {
    let Some(mut lease) = seen.lease.clone() else { return };
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
    }
    let parameters = PostParams::default();
    let releasing = api.replace(&config.name, &parameters, &lease);
    match time::timeout(RETRY, releasing).await {
        Ok(Ok(_)) => tracing::info!(lease = config.name, "given back"),
        Ok(Err(error)) => tracing::info!(lease = config.name, %error, "not given back"),
        Err(_) => tracing::info!(lease = config.name, "not given back: the API server does not answer"),
    }
}
