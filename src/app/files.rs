//! Wiring with a folder of manifests.

use std::{collections::BTreeSet, io, path::Path, sync::Arc, time::Instant};

use tokio::{sync::mpsc, task};

use super::{
    AppError, Serving,
    extension::{FolderOfRevisions, RevisionTeller},
};
use crate::{
    model::Severity,
    pipeline::{self, Applied, Batch, Pipeline},
    source::{FileSource, Located, SourceUpdate},
};

/// Reads the manifests, compiles them, and keeps following them.
///
/// # Errors
///
/// When the folder can not be read or watched.
pub(super) async fn start(
    serving: &Serving,
    mut pipeline: Pipeline,
    path: &Path,
    revisions: Option<FolderOfRevisions>,
) -> Result<(), AppError> {
    let began = Instant::now();
    let path = path.to_owned();
    let (first, source) = task::spawn_blocking(move || FileSource::start(&path)).await.map_err(io::Error::other)??;
    let known = tell(&BTreeSet::new(), first.problems);
    let compiling = Instant::now();
    let applied = pipeline.apply(first.changes);
    pipeline.tell(&applied, &serving.metrics, began, compiling.elapsed());
    let hosted = pipeline.published_hosted();
    let revisions: Option<RevisionTeller> =
        revisions.map(|revisions| revisions.start(hosted, &applied, Arc::clone(&serving.metrics)));
    serving.hosted_is_known.send_replace(true);
    serving.set_ready();

    let (sender, batches) = mpsc::channel(1);
    task::spawn(feed(source, sender, known));
    let after = move |_: &Pipeline, applied: &mut Applied| {
        if let Some(revisions) = &revisions {
            revisions.tell(&applied.hosted);
        }
    };
    task::spawn(pipeline::run(pipeline, batches, serving.metrics.clone(), after, serving.on_panic()));
    Ok(())
}

/// Hands what the files say to the pipeline.
async fn feed(mut source: FileSource, sender: mpsc::Sender<Batch>, mut known: BTreeSet<Located>) {
    while let Some(SourceUpdate { changes, problems }) = source.next().await {
        let seen = Instant::now();
        known = tell(&known, problems);
        if sender.send(Batch { changes, seen, hosted_is_known: true }).await.is_err() {
            return;
        }
    }
}

/// Logs what is newly wrong with the files, and what is no more.
fn tell(known: &BTreeSet<Located>, now: Vec<Located>) -> BTreeSet<Located> {
    let now: BTreeSet<Located> = now.into_iter().collect();
    for problem in now.difference(known) {
        match problem.severity() {
            Severity::Error => tracing::warn!(reason = problem.reason.as_str(), "{problem}"),
            Severity::Warning => tracing::info!(reason = problem.reason.as_str(), "{problem}"),
        }
    }
    for problem in known.difference(&now) {
        tracing::info!(reason = problem.reason.as_str(), "no longer: {problem}");
    }
    now
}
