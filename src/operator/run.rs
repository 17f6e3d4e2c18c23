//! Makes it so: applies what is planned, repairs what others change, deletes what should not exist any more.
//!
//! Acts as long as this replica leads, looks all the time. Never decides what should exist (the plan) or what is done about it
//! ([`steps`]).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use kube::Client;
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

use super::{
    Plan, PlanChange, PlannedObject,
    known::{Known, Touched},
    steps::{Settled, Step, may_write, steps},
};
use crate::{
    api::{OwnedNews, OwnedObject},
    kubernetes::{
        Leadership,
        apply::{ApplyError, Retry, apply, delete, find, hand_over_replicas},
        owned::follow,
    },
    metrics::Metrics,
    model::{ObjectName, OwnedKey, OwnedKind},
};

/// Gateways that are worked on at once, at most.
const AT_ONCE: usize = 8;
/// The longest pause between two attempts.
const LONGEST: Duration = Duration::from_secs(300);
/// The longest pause between two repairs of what others keep changing.
const LONGEST_PEACE: Duration = Duration::from_secs(60);
/// After how long without a repair the next one is the first again.
const FORGIVEN: Duration = Duration::from_secs(300);
/// News that are taken in before anything is done about them, at most.
const NEWS: usize = 256;

/// How it went for a Gateway: nothing when all that is planned is there, else what is missing, in the API server's words.
pub type Outcome = (ObjectName, Option<String>);

/// Follows the plans until nobody makes any more. The first message has all plans that there are; without it nothing is done.
pub async fn run(
    client: Client,
    plans: mpsc::UnboundedReceiver<Vec<PlanChange>>,
    leader: Leadership,
    metrics: Arc<Metrics>,
    outcomes: mpsc::UnboundedSender<Outcome>,
) {
    let (sender, news) = mpsc::channel(NEWS);
    let _watches = follow(&client, &sender);
    let runner = Runner {
        client,
        leader,
        metrics,
        outcomes,
        plans: None,
        known: Known::default(),
        settled: HashMap::new(),
        states: HashMap::new(),
        due: BTreeSet::new(),
        working: FuturesUnordered::new(),
    };
    runner.run(plans, news).await;
}

struct Runner {
    client: Client,
    leader: Leadership,
    metrics: Arc<Metrics>,
    outcomes: mpsc::UnboundedSender<Outcome>,
    /// Nothing until all are known.
    plans: Option<BTreeMap<ObjectName, Arc<Plan>>>,
    known: Known,
    settled: HashMap<OwnedKey, Settled>,
    states: HashMap<ObjectName, State>,
    /// The Gateways to look at, and when; in `states` too.
    due: BTreeSet<(Instant, ObjectName)>,
    working: FuturesUnordered<BoxFuture<'static, Done>>,
}

/// What was done for a Gateway so far.
#[derive(Default)]
struct State {
    due: Option<Instant>,
    working: bool,
    /// Attempts in a row that failed, and when the next one may be.
    failed: u32,
    rests_until: Option<Instant>,
    /// Repairs in a row, and when the last one was.
    repairs: u32,
    repaired: Option<Instant>,
    /// The plan changed since it was last acted on.
    is_new: bool,
    /// Something was heard while it was worked on.
    again: bool,
    /// What was said last.
    said: Option<String>,
}

/// What came of working on a Gateway.
struct Done {
    gateway: ObjectName,
    results: Vec<(OwnedKey, Result<Did, ApplyError>)>,
    /// This replica led to the end.
    complete: bool,
}

enum Did {
    Applied(Box<PlannedObject>, OwnedObject),
    Deleted,
}

impl Runner {
    async fn run(mut self, mut plans: mpsc::UnboundedReceiver<Vec<PlanChange>>, mut news: mpsc::Receiver<OwnedNews>) {
        loop {
            let acts = self.leader.look() && self.plans.is_some() && self.known.has_looked();
            let next = self.due.first().map(|(at, _)| *at).filter(|_| acts && self.working.len() < AT_ONCE);
            tokio::select! {
                biased;
                changes = plans.recv() => match changes {
                    Some(changes) => self.take_plans(changes),
                    None => return,
                },
                Some(seen) = news.recv() => {
                    self.take_news(seen);
                    while let Ok(seen) = news.try_recv() {
                        self.take_news(seen);
                    }
                }
                changed = self.leader.changed() => match changed {
                    Ok(()) => self.on_leadership(),
                    Err(_) => return,
                },
                Some(done) = self.working.next() => self.on_done(done),
                () = time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.work(),
            }
        }
    }

    fn take_plans(&mut self, changes: Vec<PlanChange>) {
        let plans = self.plans.get_or_insert_default();
        let now = Instant::now();
        let mut gateways = Vec::new();
        for (gateway, plan) in changes {
            match plan {
                Some(plan) => plans.insert(gateway.clone(), plan),
                None => plans.remove(&gateway),
            };
            gateways.push(gateway);
        }
        for gateway in gateways {
            let state = self.states.entry(gateway.clone()).or_default();
            (state.failed, state.rests_until, state.repairs, state.is_new) = (0, None, 0, true);
            self.mark(gateway, now);
        }
    }

    fn take_news(&mut self, news: OwnedNews) {
        match &news {
            OwnedNews::Failing(kind, words) if self.known.failing(*kind) != Some(words) => {
                tracing::warn!(kind = kind.as_str(), reason = words, "objects of Gateways can not be watched");
            }
            _ => {}
        }
        let first = matches!(&news, OwnedNews::Listed(kind, _) if !self.known.sees(*kind));
        for touched in self.known.take(news) {
            self.mark_about(touched);
        }
        if first {
            self.mark_all();
        }
    }

    /// Another replica may have written anything while this one did not lead.
    fn on_leadership(&mut self) {
        if self.leader.look() {
            self.mark_all();
        }
    }

    fn mark_all(&mut self) {
        let now = Instant::now();
        let planned = self.plans.iter().flatten().map(|(gateway, _)| gateway);
        let all: BTreeSet<ObjectName> = planned.chain(self.known.owners()).cloned().collect();
        all.into_iter().for_each(|gateway| self.mark(gateway, now));
    }

    /// The Gateways that an object is of, or was, or that have planned something of its name: all in its namespace.
    fn mark_about(&mut self, touched: Touched) {
        let Touched { key, owners, gone } = touched;
        if gone {
            self.settled.remove(&key);
        }
        let is_planned = |plan: &Plan| match plan {
            Plan::Objects { objects, .. } => objects.iter().any(|object| object.key == key),
            Plan::Keep { .. } => false,
        };
        let from = ObjectName::new(Arc::clone(&key.name.namespace), "");
        let of_namespace = self.plans.iter().flat_map(|plans| plans.range(from.clone()..));
        let planned = of_namespace
            .take_while(|(gateway, _)| gateway.namespace == key.name.namespace)
            .filter(|(_, plan)| is_planned(plan))
            .map(|(gateway, _)| gateway.clone());
        let gateways: BTreeSet<ObjectName> = planned.chain(owners).collect();
        for gateway in gateways {
            let at = self.states.get(&gateway).map_or_else(Instant::now, State::next);
            self.mark(gateway, at);
        }
    }

    fn mark(&mut self, gateway: ObjectName, at: Instant) {
        let state = self.states.entry(gateway.clone()).or_default();
        if let Some(before) = state.due {
            if before <= at {
                return;
            }
            self.due.remove(&(before, gateway.clone()));
        }
        state.due = Some(at);
        self.due.insert((at, gateway));
    }

    /// Begins what is due.
    fn work(&mut self) {
        let now = Instant::now();
        while self.working.len() < AT_ONCE {
            let Some((at, gateway)) = self.due.first().cloned() else { return };
            if at > now {
                return;
            }
            self.due.pop_first();
            let state = self.states.entry(gateway.clone()).or_default();
            state.due = None;
            if state.working {
                // The end of the work under way looks again.
                state.again = true;
                continue;
            }
            self.begin(gateway);
        }
    }

    fn begin(&mut self, gateway: ObjectName) {
        let plan = self.plans.as_ref().and_then(|plans| plans.get(&gateway)).map(Arc::clone);
        let mut about: BTreeMap<OwnedKey, Arc<OwnedObject>> = BTreeMap::new();
        let planned = match plan.as_deref() {
            Some(Plan::Objects { objects, .. }) => objects.as_slice(),
            _ => &[],
        };
        let keys = planned.iter().map(|object| &object.key).chain(self.known.of_gateway(&gateway));
        for key in keys {
            if let Some(object) = self.known.object(key) {
                about.insert(key.clone(), Arc::clone(object));
            }
        }
        let steps = steps(&gateway, plan.as_deref(), &about, &self.settled, |kind| self.known.sees(kind));
        let unseen: BTreeSet<OwnedKind> =
            planned.iter().map(|object| object.key.kind).filter(|kind| !self.known.sees(*kind)).collect();
        let unseen = unseen.into_iter().map(|kind| {
            let words = self.known.failing(kind).unwrap_or_default().to_owned();
            let key = OwnedKey::new(kind, gateway.clone());
            (key, Err(ApplyError::Unseen { kind, words }))
        });
        let mut results: Vec<(OwnedKey, Result<Did, ApplyError>)> = unseen.collect();
        let state = self.states.entry(gateway.clone()).or_default();
        let is_new = std::mem::take(&mut state.is_new);
        if steps.is_empty() && results.is_empty() {
            self.settle_state(&gateway, None);
            return;
        }
        state.working = true;
        if !is_new && state.failed == 0 && !steps.is_empty() {
            state.repairing();
        }
        let (client, leader) = (self.client.clone(), self.leader.clone());
        let work = async move {
            for step in steps {
                let (key, result) = carry_out(&client, &leader, &gateway, step).await;
                // The lease may have gone to another replica: what was not done is not missing for that.
                if result.is_err() && !leader.leads() {
                    return Done { gateway, results, complete: false };
                }
                results.push((key, result));
            }
            Done { gateway, results, complete: true }
        };
        self.working.push(work.boxed());
    }

    fn on_done(&mut self, done: Done) {
        let Done { gateway, results, complete } = done;
        let mut words: Vec<String> = Vec::new();
        let mut retry: Option<Retry> = None;
        for (key, result) in results {
            match result {
                Ok(Did::Applied(object, applied)) => {
                    tracing::info!(gateway = %gateway, object = %key, "applied");
                    self.metrics.provisioned(key.kind, true);
                    match Settled::new(*object, &applied) {
                        Some(settled) => self.settled.insert(key.clone(), settled),
                        None => self.settled.remove(&key),
                    };
                    // The watch tells of the same in a moment; by then it is known.
                    if let Some(touched) = self.known.note(key, Arc::new(applied)) {
                        self.mark_about(touched);
                    }
                }
                Ok(Did::Deleted) => {
                    tracing::info!(gateway = %gateway, object = %key, "deleted");
                    self.metrics.provisioned(key.kind, true);
                    self.known.note_deleting(&key);
                }
                Err(error) => {
                    if error.was_asked() {
                        self.metrics.provisioned(key.kind, false);
                    }
                    words.push(error.to_string());
                    retry = Some(retry.map_or(error.retry(), |other| other.sooner(error.retry())));
                }
            }
        }
        let state = self.states.entry(gateway.clone()).or_default();
        state.working = false;
        if !complete {
            return;
        }
        let now = Instant::now();
        state.rests_until = retry.map(|retry| now + state.failure(retry));
        if retry.is_none() {
            state.failed = 0;
        }
        let again = std::mem::take(&mut state.again);
        let at = state.next();
        let is_due = again || retry.is_some();
        self.settle_state(&gateway, (!words.is_empty()).then(|| words.join("; ")));
        if is_due {
            self.mark(gateway, at);
        }
    }

    /// Says how it went, if that is new, and forgets a Gateway of which nothing is left.
    fn settle_state(&mut self, gateway: &ObjectName, words: Option<String>) {
        let state = self.states.entry(gateway.clone()).or_default();
        if state.said != words {
            match &words {
                Some(words) => tracing::warn!(gateway = %gateway, reason = words, "not all that is planned is there"),
                None => tracing::info!(gateway = %gateway, "all that is planned is there"),
            }
            state.said.clone_from(&words);
            // Nobody to tell is nobody's loss.
            let _ = self.outcomes.send((gateway.clone(), words));
        }
        let is_idle = !state.working && state.due.is_none() && state.said.is_none();
        let is_planned = self.plans.iter().any(|plans| plans.contains_key(gateway));
        if is_idle && !is_planned && self.known.of_gateway(gateway).next().is_none() {
            self.states.remove(gateway);
        }
    }
}

impl State {
    /// When there may be something to do again without a new plan. What others change is repaired each time in a row
    /// later, so that two programs that disagree cost a write now and then.
    fn next(&self) -> Instant {
        let now = Instant::now();
        if self.is_new {
            return now;
        }
        let peace = self.repaired.filter(|at| self.repairs > 1 && now - *at < FORGIVEN).map(|at| {
            let pause = Duration::from_millis(500) * 2_u32.saturating_pow(self.repairs.min(8));
            at + pause.min(LONGEST_PEACE)
        });
        now.max(peace.unwrap_or(now)).max(self.rests_until.unwrap_or(now))
    }

    fn repairing(&mut self) {
        let now = Instant::now();
        let forgiven = self.repaired.is_some_and(|at| now - at >= FORGIVEN);
        self.repairs = if forgiven { 1 } else { self.repairs.saturating_add(1) };
        self.repaired = Some(now);
    }

    /// How long to rest after one more attempt that failed.
    fn failure(&mut self, retry: Retry) -> Duration {
        self.failed = self.failed.saturating_add(1);
        let pause = match retry {
            Retry::Now if self.failed <= 3 => return Duration::ZERO,
            Retry::Now => Duration::from_secs(1),
            Retry::After(pause) => pause,
        };
        (pause * 2_u32.saturating_pow((self.failed - 1).min(16))).min(LONGEST)
    }
}

async fn carry_out(
    client: &Client,
    leader: &Leadership,
    gateway: &ObjectName,
    step: Step,
) -> (OwnedKey, Result<Did, ApplyError>) {
    match step {
        Step::Taken(key) => (key.clone(), Err(ApplyError::Taken(key))),
        Step::Delete { key, uid } => {
            let deleted = delete(client, leader, &key, &uid).await;
            (key, deleted.map(|()| Did::Deleted))
        }
        Step::Create(object) => {
            // Something with this name and without our labels may be there. Between the look and the write somebody could
            // make it; it would take our fields then.
            let result = match find(client, leader, &object.key).await {
                Ok(Some(there)) if !may_write(gateway, &there) => Err(ApplyError::Taken(object.key.clone())),
                Ok(_) => apply(client, leader, &object.key, &object.manifest).await,
                Err(error) => Err(error),
            };
            (object.key.clone(), result.map(|applied| Did::Applied(Box::new(object), applied)))
        }
        Step::Change { object, keep_replicas } => {
            let handed_over =
                if keep_replicas { hand_over_replicas(client, leader, &object.key).await } else { Ok(()) };
            let result = match handed_over {
                Ok(()) => apply(client, leader, &object.key, &object.manifest).await,
                Err(error) => Err(error),
            };
            (object.key.clone(), result.map(|applied| Did::Applied(Box::new(object), applied)))
        }
    }
}
