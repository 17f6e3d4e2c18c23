//! Does what [`Revisions`] says is due, one write at a time for each Gateway.

use std::{fmt, future::Future, sync::Arc};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};

use super::{Found, Revisions, Step};
use crate::{
    metrics::Metrics,
    model::{GatewayRevision, ObjectName},
};

/// Writes that are under way at once, at most.
const AT_ONCE: usize = 8;

/// Where the objects are.
pub trait Place: Clone + Send + Sync + 'static {
    /// Writes the object of a Gateway, and says which state of it that is (`metadata.generation`).
    fn write(
        &self,
        gateway: &ObjectName,
        revision: &GatewayRevision,
    ) -> impl Future<Output = Result<i64, String>> + Send;

    /// Removes it; when it is not there, that is as good.
    fn remove(&self, gateway: &ObjectName) -> impl Future<Output = Result<(), String>> + Send;

    /// The object of a Gateway, in words.
    fn describe(&self, gateway: &ObjectName) -> String;
}

/// What happened.
#[derive(Clone, Debug)]
pub enum RevisionNews {
    /// What these Gateways' objects should say has changed, or may have.
    Wanted(Vec<(ObjectName, Option<GatewayRevision>)>),
    /// What stands in the place of a Gateway's object, and which state of it that is (`metadata.generation`).
    Found(ObjectName, Found, i64),
}

type Done = (ObjectName, Step, Result<i64, String>);

/// Writes as long as `may_write` says so, until nobody has news any more.
pub async fn run<P: Place>(
    place: P,
    mut news: mpsc::UnboundedReceiver<RevisionNews>,
    mut may_write: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
) {
    let mut revisions = Revisions::default();
    let mut working: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
    loop {
        let writes = *may_write.borrow_and_update();
        // Whoever allows it has said before what is wanted.
        while let Ok(more) = news.try_recv() {
            take(&mut revisions, &place, more);
        }
        while writes && working.len() < AT_ONCE {
            let Some((gateway, step)) = revisions.next(Instant::now().into_std()) else { break };
            working.push(carry_out(place.clone(), gateway, step).boxed());
        }
        let wake_at = revisions.wake_at().filter(|_| writes && working.len() < AT_ONCE).map(Instant::from_std);
        tokio::select! {
            biased;
            first = news.recv() => {
                let Some(first) = first else { return };
                take(&mut revisions, &place, first);
            }
            changed = may_write.changed() => if changed.is_err() { return },
            Some(done) = working.next() => finish(&mut revisions, &place, &metrics, done),
            () = time::sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
        }
    }
}

async fn carry_out(place: impl Place, gateway: ObjectName, step: Step) -> Done {
    let result = match &step {
        Step::Write(revision) => place.write(&gateway, revision).await,
        Step::Remove => place.remove(&gateway).await.map(|()| 0),
    };
    (gateway, step, result)
}

fn take(revisions: &mut Revisions, place: &impl Place, news: RevisionNews) {
    match news {
        RevisionNews::Wanted(wanted) => {
            wanted.into_iter().for_each(|(gateway, revision)| revisions.want(&gateway, revision));
        }
        RevisionNews::Found(gateway, found, generation) => {
            let is_theirs = found == Found::Theirs;
            if revisions.find(&gateway, found, generation) && is_theirs {
                tracing::warn!(
                    %gateway,
                    "{} was not made by this program and is left alone, so the Envoy Gateway does not notice when it has to \
                     translate the Gateway again: delete it",
                    place.describe(&gateway)
                );
            }
        }
    }
}

fn finish(revisions: &mut Revisions, place: &impl Place, metrics: &Metrics, (gateway, step, result): Done) {
    let object = place.describe(&gateway);
    match result {
        Ok(generation) => {
            metrics.revision(match step {
                Step::Write(_) => "written",
                Step::Remove => "removed",
            });
            tracing::info!(%gateway, object, step = %Told(&step), "the Envoy Gateway is to translate the Gateway again");
            revisions.done(&gateway, step, generation);
        }
        Err(reason) => {
            metrics.revision("failed");
            tracing::warn!(
                %gateway, object, reason, "the Envoy Gateway can not be told to translate the Gateway again; trying again"
            );
            revisions.failed(&gateway, Instant::now().into_std());
        }
    }
}

/// A step in a log line.
struct Told<'a>(&'a Step);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Step::Write(revision) => write!(f, "{:032x}", revision.number),
            Step::Remove => f.write_str("removed"),
        }
    }
}
