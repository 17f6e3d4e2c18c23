//! Wiring with a Kubernetes API server.

mod freshness;
mod hosted;
mod planning;
mod programmed;
mod revisions;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kube::Client;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::{self, JoinHandle},
};

use self::{hosted::HostedCertificates, planning::Planning, programmed::Follower};
use super::{AppError, Serving, extension::RevisionTeller};
use crate::{
    bootstrap::HostPort,
    cli,
    compile::HostingIdentity,
    config::{ClusterConfig, ServeConfig},
    gateways::CONTROLLER_NAME,
    kubernetes::{self, ClientSecrets, LeaseConfig, Peers, StatusNews, StatusWriter, identity::Wanted},
    model::ObjectKey,
    operator::{self, Planner},
    pipeline::{self, Applied, Batch, Pipeline},
    security::{self, ClusterCertificates},
    source::{Health, KubernetesSource},
};

/// An API server that can be talked to, and what this replica is there.
pub(super) struct Cluster {
    client: Client,
    /// The operator's own namespace.
    pub(super) namespace: String,
    lease: LeaseConfig,
}

impl Cluster {
    /// Reads where the API server is.
    ///
    /// # Errors
    ///
    /// When nothing says so. Whether it answers shows later.
    pub(super) async fn connect(config: &ClusterConfig) -> Result<Self, AppError> {
        let client = kubernetes::connect(config.kubeconfig.as_ref(), config.context.as_deref()).await?;
        let namespace = config.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let lease = LeaseConfig {
            namespace: namespace.clone(),
            name: config.lease.clone(),
            holder: config.replica.clone().unwrap_or_else(cli::bootstrap::new_node_id),
            duration: Duration::from_secs(config.lease_seconds.into()),
        };
        Ok(Self { client, namespace, lease })
    }
}

/// Where Envoys find the xDS port: as the flag says, else the chart's Service.
pub(super) fn xds_address(config: &ClusterConfig, namespace: &str) -> HostPort {
    let service = || HostPort { host: format!("tailscale-gateway.{namespace}.svc"), port: 18000 };
    config.xds_address.clone().unwrap_or_else(service)
}

/// Lists everything, compiles it, and keeps following it; writes when this replica holds the Lease. What is answered ends when
/// this replica's Leases have been given back. An API server that does not answer is waited for.
pub(super) async fn start(
    serving: &Serving,
    mut pipeline: Pipeline,
    serve: &ServeConfig,
    cluster: Cluster,
    certificates: Option<ClusterCertificates>,
    identity: Option<HostingIdentity>,
) -> JoinHandle<()> {
    let Cluster { client, namespace, lease } = cluster;
    let (lead, leader) = kubernetes::lease::lead(&lease);
    let (want_secrets, wanted_secrets) = watch::channel(ClientSecrets::new());
    // Only where certificates are ours to make is there something to tell about them.
    let (_keep, mut problems) = watch::channel(Arc::default());
    if let Some(ClusterCertificates { config, tls }) = certificates {
        let (metrics, shutdown) = (&serving.metrics, &serving.shutdown);
        let kept = kubernetes::identity::start(
            client.clone(),
            config,
            leader.clone(),
            Wanted { secrets: wanted_secrets, hosted_is_known: serving.hosted_is_known.subscribe() },
            Arc::clone(metrics),
            shutdown.clone(),
        );
        problems = kept.problems;
        task::spawn(security::follow_cluster(tls, kept.server, Arc::clone(metrics)));
    }
    let (news, heard) = mpsc::unbounded_channel();
    let (plans, planned) = mpsc::unbounded_channel();
    let config = &serve.cluster;
    let planner = Planner::new(operator::Settings {
        xds: xds_address(config, &namespace),
        server_name: Some(serve.identity.asked_for().into()),
        envoy_image: config.envoy_image.as_str().into(),
        own_image: config.own_image.as_deref().map(Into::into),
        privileged_ports: serve.compile.privileged_ports,
    });
    let want_secrets = Arc::new(want_secrets);
    let certificates_of_hosted =
        HostedCertificates::new(identity, pipeline.published_hosted(), Arc::clone(&want_secrets));
    let mut planning = Planning::new(planner, plans, want_secrets);
    let began = Instant::now();
    let health = Health::default();
    let revisions = revisions::start(
        client.clone(),
        leader.clone(),
        health.subscribe(),
        serving.hosted_is_known.subscribe(),
        Arc::clone(&serving.metrics),
        pipeline.published_hosted(),
    );
    task::spawn(freshness::follow(
        health.subscribe(),
        Arc::clone(&serving.cache),
        Arc::clone(&serving.metrics),
        Arc::clone(&serving.readiness),
    ));
    let (first, mut source) = KubernetesSource::start(client.clone(), health).await;
    let mut compiling = Instant::now();
    planning.begin(&first.changes);
    revisions::tell_found(&revisions, &first.changes);
    let mut applied = pipeline.apply(first.changes);
    let mut touched = std::mem::take(&mut applied.hosted);
    let _ = news.send(StatusNews::Observed(first.observed));
    let mut reports = std::mem::take(&mut applied.reports);
    pipeline.tell(&applied, &serving.metrics, began, compiling.elapsed());
    // What is compiled now says which Secrets it reads; once these are there, it is complete.
    loop {
        let wanted = pipeline.engine().wanted().clone();
        source.want(&wanted);
        let Some(unanswered) = source.unanswered(&wanted) else { break };
        serving.readiness.set_waiting(format!("reading the cluster; {unanswered} has not been read yet"));
        let Some(update) = source.next().await else { break };
        let seen = Instant::now();
        compiling = Instant::now();
        planning.take(&update.changes);
        revisions::tell_found(&revisions, &update.changes);
        let mut applied = pipeline.apply(update.changes);
        touched.append(&mut applied.hosted);
        let _ = news.send(StatusNews::Observed(update.observed));
        reports.append(&mut applied.reports);
        pipeline.tell(&applied, &serving.metrics, seen, compiling.elapsed());
    }
    let _ = news.send(StatusNews::Reported(reports));
    // Not before: what is wanted without the Secrets is not what will be.
    revisions.tell(&touched);
    certificates_of_hosted.tell(&touched);
    let unread: Vec<String> = source.unread_of_hosted().map(|kind| kind.to_string()).collect();
    match unread.is_empty() {
        true => drop(serving.hosted_is_known.send_replace(true)),
        false => tracing::error!(
            "what is put into Envoy Gateways' configurations is not known without any {}: until it is, they are not answered, \
             and what they were told and given stays",
            unread.join(" and ")
        ),
    }
    serving.set_ready();

    let peers = Peers { namespace: lease.namespace.clone(), group: lease.name.clone(), replica: lease.holder.clone() };
    let leading = task::spawn(kubernetes::lease::run(client.clone(), lease, lead, serving.shutdown.clone()));
    let (outcomes, done) = mpsc::unbounded_channel();
    task::spawn(operator::run::run(client.clone(), planned, leader.clone(), serving.metrics.clone(), outcomes));
    task::spawn(planning::report(done, problems, news.clone()));
    let replica = peers.replica.clone();
    let writer = StatusWriter::new(client.clone(), CONTROLLER_NAME, replica, leader.clone(), serving.metrics.clone());
    task::spawn(writer.run(heard));
    let (own, told) = watch::channel(Arc::default());
    let (hear, others) = watch::channel(Arc::default());
    let telling = task::spawn(peers.run(client, leader, told, hear, serving.shutdown.clone()));
    let published = Arc::new(Notify::new());
    let follower = Follower {
        registry: Arc::clone(&serving.registry),
        reports: pipeline.published_reports(),
        published: Arc::clone(&published),
        others,
        own,
        news: news.clone(),
    };
    task::spawn(follower.run());

    let (sender, batches) = mpsc::channel(1);
    let (want, wants) = watch::channel(pipeline.engine().wanted().clone());
    task::spawn(feed(source, sender, wants, planning, revisions.clone(), news.clone()));
    let hosted_is_known = serving.hosted_is_known.clone();
    let after = move |pipeline: &Pipeline, applied: &mut Applied| {
        want.send_if_modified(|known| {
            let now = pipeline.engine().wanted();
            // Equal sets that share their memory are found equal at once.
            let is_new = !known.ptr_eq(now) && known != now;
            known.clone_from(now);
            is_new
        });
        revisions.tell(&applied.hosted);
        certificates_of_hosted.tell(&applied.hosted);
        if applied.hosted_is_known {
            hosted_is_known.send_if_modified(|is_known| !std::mem::replace(is_known, true));
        }
        if !applied.reports.is_empty() || !applied.gateways.is_empty() {
            published.notify_one();
        }
        if !applied.reports.is_empty() {
            let _ = news.send(StatusNews::Reported(std::mem::take(&mut applied.reports)));
        }
    };
    task::spawn(pipeline::run(pipeline, batches, serving.metrics.clone(), after, serving.on_panic()));
    task::spawn(async move {
        for ended in [leading.await, telling.await] {
            if let Err(error) = ended {
                tracing::error!(%error, "a Lease may not have been given back");
            }
        }
    })
}

/// Hands what the API server says to the pipeline, and tells it what is read.
async fn feed(
    mut source: KubernetesSource,
    sender: mpsc::Sender<Batch>,
    mut wants: watch::Receiver<imbl::OrdSet<ObjectKey>>,
    mut planning: Planning,
    revisions: RevisionTeller,
    news: mpsc::UnboundedSender<StatusNews>,
) {
    let mut hosted_was_known = source.unread_of_hosted().next().is_none();
    loop {
        tokio::select! {
            update = source.next() => {
                let Some(update) = update else { return };
                let hosted_is_known = source.unread_of_hosted().next().is_none();
                let seen = Instant::now();
                if !update.observed.is_empty() {
                    let _ = news.send(StatusNews::Observed(update.observed));
                }
                planning.take(&update.changes);
                revisions::tell_found(&revisions, &update.changes);
                let is_news = !update.changes.is_empty() || hosted_is_known != hosted_was_known;
                hosted_was_known = hosted_is_known;
                let batch = Batch { changes: update.changes, seen, hosted_is_known };
                if is_news && sender.send(batch).await.is_err() {
                    return;
                }
            }
            changed = wants.changed() => {
                if changed.is_err() {
                    return;
                }
                let wanted = wants.borrow_and_update().clone();
                source.want(&wanted);
            }
        }
    }
}
