//! The one task that owns the world: takes in changes, brings everything up to date, publishes what came out.
//!
//! Never decides what an object means (`compile`) or what a stream gets (`xds`).

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use imbl::OrdMap;
use tokio::{sync::mpsc, time};

use crate::{
    compile::{Compiler, Made, OutputKey},
    metrics::Metrics,
    model::{ObjectKey, ObjectName, Problem, Reason, Report, Severity},
    snapshot::{Hosted, HostedChange, HostedRoute, PublishedHosted, SnapshotCache, TypeUrl, ViewChange},
    store::{Change, Commit, Engine},
};

/// What a source hands over at once, to be applied as one.
#[derive(Debug)]
pub struct Batch {
    /// The differences.
    pub changes: Vec<Change>,
    /// When the first of them was seen.
    pub seen: Instant,
    /// With them it is known what should be put into configurations of other controllers.
    pub hosted_is_known: bool,
}

/// The world and what is made from it.
pub struct Pipeline {
    engine: Engine<Compiler>,
    cache: Arc<SnapshotCache>,
    reports: Reports,
    published: Arc<ArcSwap<Reports>>,
    hosted: Arc<PublishedHosted>,
    /// How many problems there are, by reason.
    counts: BTreeMap<Reason, usize>,
}

/// What was found about each object. A copy of it costs nothing.
pub type Reports = OrdMap<ObjectKey, Arc<Report>>;

/// What applying some changes came to.
#[derive(Debug, Default)]
pub struct Applied {
    /// The objects that really changed.
    pub objects: Vec<ObjectKey>,
    /// How many outputs were made.
    pub made: usize,
    /// How many resources of each type were added, changed or removed, over all Gateways.
    pub resources: BTreeMap<TypeUrl, usize>,
    /// The Gateways whose snapshot changed.
    pub gateways: Vec<ObjectName>,
    /// The Gateways of other controllers whose configuration gets other parts of ours, or may get.
    pub hosted: BTreeSet<ObjectName>,
    /// It is known by now what these should be.
    pub hosted_is_known: bool,
    /// What is newly found about objects; nothing about those that are none of our business any more.
    pub reports: Vec<(ObjectKey, Option<Arc<Report>>)>,
    /// Problems that were not there before.
    pub problems: Vec<Problem>,
    /// Problems that are there no more.
    pub solved: usize,
}

impl Pipeline {
    /// An empty world that publishes to a cache.
    pub fn new(compiler: Compiler, cache: Arc<SnapshotCache>) -> Self {
        let counts = Reason::ALL.iter().map(|reason| (*reason, 0)).collect();
        Self {
            engine: Engine::new(compiler),
            cache,
            reports: Reports::new(),
            published: Arc::default(),
            hosted: Arc::default(),
            counts,
        }
    }

    /// The world.
    pub fn engine(&self) -> &Engine<Compiler> {
        &self.engine
    }

    /// What was found about each object, as it is now.
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// The same for readers in other tasks, renewed with every commit.
    pub fn published_reports(&self) -> Arc<ArcSwap<Reports>> {
        Arc::clone(&self.published)
    }

    /// What is put into configurations of other controllers, for readers in other tasks, renewed with every commit.
    pub fn published_hosted(&self) -> Arc<PublishedHosted> {
        Arc::clone(&self.hosted)
    }

    /// Applies changes as one, and publishes each Gateway's differences as one step.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Applied {
        let Commit { changed, made, objects } = self.engine.commit(changes);
        let mut applied = Applied { objects, made, ..Applied::default() };
        let mut steps: BTreeMap<ObjectName, Vec<ViewChange>> = BTreeMap::new();
        let mut reported = false;
        let mut hosted: Option<Hosted> = None;
        for (key, value) in changed {
            if let Some(change) = key.hosted(value.as_ref()) {
                if let HostedChange::Route(route, new) = &change {
                    self.renew_hosted(route, new.as_deref(), &mut applied);
                }
                let hosted = hosted.get_or_insert_with(|| (**self.hosted.load()).clone());
                hosted.apply(change, &mut applied.hosted);
            } else if let Some((gateway, change)) = key.served(value.as_ref()) {
                *applied.resources.entry(change.type_url).or_default() += 1;
                match steps.get_mut(gateway) {
                    Some(step) => step.push(change),
                    None => {
                        steps.insert(gateway.clone(), vec![change]);
                    }
                }
            } else if let OutputKey::Report(object) = key {
                reported = true;
                let report = match value {
                    Some(Made::Report(report)) => report,
                    _ => None,
                };
                self.renew_report(object.clone(), report.clone(), &mut applied);
                applied.reports.push((object, report));
            }
        }
        for (gateway, step) in steps {
            self.cache.publish(&gateway, step);
            applied.gateways.push(gateway);
        }
        // After the snapshots: what a hook puts in may point at what is served.
        if let Some(mut hosted) = hosted {
            hosted.remember(&applied.hosted);
            self.hosted.store(Arc::new(hosted));
        }
        if reported {
            self.published.store(Arc::new(self.reports.clone()));
        }
        applied
    }

    /// Counts and logs what applying changes came to: the first of them was seen at `seen`, and compiling `took` so long.
    pub fn tell(&self, applied: &Applied, metrics: &Metrics, seen: Instant, took: Duration) {
        metrics.translated("commit", applied.made as u64, took);
        metrics.committed(seen.elapsed());
        for (reason, count) in &self.counts {
            metrics.problems(*reason, *count);
        }
        log(applied, took);
    }

    fn renew_report(&mut self, object: ObjectKey, report: Option<Arc<Report>>, applied: &mut Applied) {
        let old = match &report {
            Some(report) => self.reports.insert(object, Arc::clone(report)),
            None => self.reports.remove(&object),
        };
        let before = old.iter().flat_map(|report| report.problems()).collect();
        let after = report.iter().flat_map(|report| report.problems()).collect();
        self.renew_problems(&before, &after, applied);
    }

    /// The same for a route of another controller's Gateway, which has no report: no status of ours tells of it.
    fn renew_hosted(&mut self, route: &ObjectKey, new: Option<&HostedRoute>, applied: &mut Applied) {
        let hosted = self.hosted.load_full();
        let before = hosted.route(route).into_iter().flat_map(|old| &old.problems).collect();
        let after = new.into_iter().flat_map(|new| &new.problems).collect();
        self.renew_problems(&before, &after, applied);
    }

    fn renew_problems(&mut self, before: &BTreeSet<&Problem>, after: &BTreeSet<&Problem>, applied: &mut Applied) {
        for problem in before.difference(after) {
            applied.solved += 1;
            *self.counts.entry(problem.reason).or_default() -= 1;
        }
        for problem in after.difference(before) {
            applied.problems.push((*problem).clone());
            *self.counts.entry(problem.reason).or_default() += 1;
        }
    }
}

/// Decides when changes are applied (`xds.md` P75): at once when they come after silence, so that one change is not delayed; else
/// when it has been quiet for a moment, so that a storm is one commit; and after a while in any case.
#[derive(Debug, Default)]
pub struct Debounce {
    /// When changes were applied last.
    applied: Option<Instant>,
}

impl Debounce {
    /// A change that comes so long after the last one is applied at once.
    pub const IDLE: Duration = Duration::from_millis(10);
    /// How long it has to be silent until gathered changes are applied: longer than between the changes of a storm, and no
    /// longer, as who makes one change after the other waits for it each time.
    pub const QUIET: Duration = Duration::from_millis(2);
    /// How long changes are gathered at most.
    pub const CEILING: Duration = Duration::from_millis(100);

    /// Until when more is gathered, if nothing else comes: the first change came at `first`, the newest just now. Nothing when
    /// what is there is to be applied at once.
    pub fn until(&self, first: Instant, now: Instant) -> Option<Instant> {
        let is_idle = self.applied.is_none_or(|applied| first.saturating_duration_since(applied) >= Self::IDLE);
        let ceiling = first + Self::CEILING;
        (!is_idle && now < ceiling).then(|| ceiling.min(now + Self::QUIET))
    }

    /// Changes have been applied.
    pub fn applied(&mut self, now: Instant) {
        self.applied = Some(now);
    }
}

/// Runs the pipeline until its sources are gone. `after` is called after each commit; `on_panic` is called when compiling panicked: the last snapshots stay
/// served, and the change that did it is lost until the next start.
pub async fn run(
    mut pipeline: Pipeline,
    mut batches: mpsc::Receiver<Batch>,
    metrics: Arc<Metrics>,
    mut after: impl FnMut(&Pipeline, &mut Applied),
    on_panic: impl Fn(),
) {
    let mut debounce = Debounce::default();
    while let Some(Batch { mut changes, seen, mut hosted_is_known }) = batches.recv().await {
        let began = Instant::now();
        let mut gather = |more: Batch| {
            changes.extend(more.changes);
            hosted_is_known |= more.hosted_is_known;
        };
        // What is there already is not waited for.
        while let Ok(more) = batches.try_recv() {
            gather(more);
        }
        while let Some(until) = debounce.until(began, Instant::now()) {
            match time::timeout_at(until.into(), batches.recv()).await {
                Ok(Some(more)) => gather(more),
                Ok(None) | Err(_) => break,
            }
        }
        metrics.debounced(began.elapsed());
        let compiling = Instant::now();
        let Ok(mut applied) = catch_unwind(AssertUnwindSafe(|| pipeline.apply(changes))) else {
            tracing::error!("compiling panicked; the last good configuration stays served");
            on_panic();
            return;
        };
        applied.hosted_is_known = hosted_is_known;
        pipeline.tell(&applied, &metrics, seen, compiling.elapsed());
        // Our own statuses come back as objects in which nothing has changed.
        if !applied.objects.is_empty() {
            debounce.applied(Instant::now());
        }
        after(&pipeline, &mut applied);
    }
}

/// One line says what changed, why, how much and how long; one more for each new problem.
fn log(applied: &Applied, took: Duration) {
    if applied.objects.is_empty() {
        return;
    }
    let cause = match applied.objects.as_slice() {
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        [] => String::new(),
    };
    let resources: Vec<String> =
        applied.resources.iter().map(|(type_url, count)| format!("{type_url}={count}")).collect();
    tracing::info!(
        cause,
        objects = applied.objects.len(),
        outputs = applied.made,
        resources = resources.join(" "),
        gateways = applied.gateways.len(),
        new_problems = applied.problems.len(),
        solved_problems = applied.solved,
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "committed"
    );
    for problem in &applied.problems {
        match problem.severity() {
            Severity::Error => tracing::warn!(reason = problem.reason.as_str(), "{problem}"),
            Severity::Warning => tracing::info!(reason = problem.reason.as_str(), "{problem}"),
        }
    }
}
