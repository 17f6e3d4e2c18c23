//! The objects by which Envoy Gateways notice that they have to ask again: who hears of what, and who may write.

use std::{future::Future, sync::Arc};

use kube::Client;
use tokio::{
    sync::{mpsc, watch},
    task,
};

use crate::{
    api::Object,
    app::extension::RevisionTeller,
    extension::{Found, Place, RevisionNews, revisions},
    kubernetes::{self, Leadership},
    metrics::Metrics,
    model::{GatewayRevision, Kind, ObjectName},
    snapshot::PublishedHosted,
    source::{KindState, KindStates},
    store::Change,
};

/// Begins to keep the objects as they should be, for as long as anybody can tell what that is.
pub(super) fn start(
    client: Client,
    leader: Leadership,
    states: watch::Receiver<KindStates>,
    hosted_is_known: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    hosted: Arc<PublishedHosted>,
) -> RevisionTeller {
    let (news, heard) = mpsc::unbounded_channel();
    let (may_write, writes) = watch::channel(false);
    task::spawn(follow(leader.clone(), states, hosted_is_known, may_write));
    task::spawn(revisions::run::run(AtApiServer(client, leader), heard, writes, metrics));
    RevisionTeller::new(news, hosted)
}

/// Tells what of some changes is about the objects.
pub(super) fn tell_found(teller: &RevisionTeller, changes: &[Change]) {
    for change in changes {
        let (key, found, generation) = match change {
            Change::Upsert(Object::TailscaleGatewayRevision(object)) => {
                let found = match object.revision() {
                    _ if !object.is_ours() => Found::Theirs,
                    Some(revision) => Found::Ours(revision),
                    None => Found::Altered,
                };
                let object = Object::TailscaleGatewayRevision(Arc::clone(object));
                (object.key(), found, object.generation())
            }
            Change::Remove(key) if key.kind == Kind::TailscaleGatewayRevision => (key.clone(), Found::Nothing, 0),
            _ => continue,
        };
        let _nobody_writes_any_more = teller.news.send(RevisionNews::Found(key.name, found, generation));
    }
}

/// Says whether this replica may write: it leads, it is known what is wanted, and there is such a kind.
async fn follow(
    mut leader: Leadership,
    mut states: watch::Receiver<KindStates>,
    mut hosted_is_known: watch::Receiver<bool>,
    may_write: watch::Sender<bool>,
) {
    loop {
        let leads = leader.look() && *hosted_is_known.borrow_and_update();
        let is_there = matches!(
            states.borrow_and_update().get(&Kind::TailscaleGatewayRevision),
            // What is found may be old while the watch is broken; what is written is right all the same.
            Some(KindState::Watching | KindState::Failing(_))
        );
        may_write.send_if_modified(|known| std::mem::replace(known, leads && is_there) != (leads && is_there));
        let goes_on = tokio::select! {
            changed = leader.changed() => changed.is_ok(),
            changed = states.changed() => changed.is_ok(),
            changed = hosted_is_known.changed() => changed.is_ok(),
            () = may_write.closed() => false,
        };
        if !goes_on {
            return;
        }
    }
}

/// The objects of a cluster, as long as this replica leads.
#[derive(Clone)]
struct AtApiServer(Client, Leadership);

impl Place for AtApiServer {
    fn write(
        &self,
        gateway: &ObjectName,
        revision: &GatewayRevision,
    ) -> impl Future<Output = Result<i64, String>> + Send {
        kubernetes::revisions::write(&self.0, &self.1, gateway, revision)
    }

    fn remove(&self, gateway: &ObjectName) -> impl Future<Output = Result<(), String>> + Send {
        kubernetes::revisions::remove(&self.0, &self.1, gateway)
    }

    fn describe(&self, gateway: &ObjectName) -> String {
        format!("{} {gateway}", Kind::TailscaleGatewayRevision)
    }
}
