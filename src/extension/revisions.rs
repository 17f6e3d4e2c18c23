//! When an Envoy Gateway is made to translate one of its Gateways again: it does so only when something that it watches
//! changes, and nobody can ask it to. What it watches is an object of ours for each such Gateway
//! ([`TailscaleGatewayRevision`](crate::api::TailscaleGatewayRevision)), which says no more than that something is different.
//!
//! What needs it: whatever the hooks put in. Routes to tailnet endpoints with their matches and filters, rules with backends of
//! our kinds and their weights, clusters (an endpoint that is added or goes, its name, port or protocol as far as they stand in
//! the cluster, its health check and timeouts), and the certificate by which Envoys reach our xDS.
//!
//! What does not: whatever Envoys fetch from our xDS when they know where it is. By EDS the addresses of endpoints, by SDS the
//! authorities that HTTPS targets are checked against. They are no part of
//! [`Hosted::revision`](crate::snapshot::Hosted::revision).
//!
//! [`Revisions`] is pure, with the time as an argument: what is wanted and what is found go in, what to write and when to look
//! again come out. [`run`] does it, wherever such objects are: at an API server, or in a [`folder`] that an Envoy Gateway
//! watches which runs without a cluster.

pub mod folder;
pub mod run;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::model::{GatewayRevision, ObjectName};

/// The least time between two writes for one Gateway: a translation of a large one takes an Envoy Gateway as long.
pub const PEACE: Duration = Duration::from_secs(1);
/// The longest time between two attempts that fail.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// What stands in the place of a Gateway's object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    #[default]
    Nothing,
    /// An object of ours.
    Ours(GatewayRevision),
    /// An object of ours that somebody has changed.
    Altered,
    /// An object that is not ours.
    Theirs,
}

/// What to do about a Gateway's object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write this.
    Write(GatewayRevision),
    /// Remove it.
    Remove,
}

/// What is wanted and found for each Gateway, and what follows from it.
#[derive(Debug, Default)]
pub struct Revisions {
    gateways: BTreeMap<ObjectName, State>,
    /// Those whose object is not as it should be.
    pending: BTreeSet<ObjectName>,
    /// Those of which there is nothing; forgotten when they have rested.
    leaving: BTreeSet<ObjectName>,
}

#[derive(Debug, Default)]
struct State {
    wanted: Option<GatewayRevision>,
    found: Found,
    /// Which state of the object was found, as an API server counts them; later ones have higher numbers.
    generation: i64,
    /// Something else was wanted meanwhile. An Envoy Gateway that has translated then has to do so again, though what stands
    /// there says the same as what is wanted.
    strayed: bool,
    writing: bool,
    rests_until: Option<Instant>,
    /// Attempts in a row that failed.
    failures: u32,
}

impl State {
    fn step(&self) -> Option<Step> {
        match (&self.wanted, &self.found) {
            (_, Found::Theirs) | (None, Found::Nothing) => None,
            (None, Found::Ours(_) | Found::Altered) => Some(Step::Remove),
            (Some(wanted), Found::Ours(found)) if wanted.says_the_same(found) => {
                let new = match self.strayed {
                    true => found.again(),
                    false => found.clone(),
                };
                let new = GatewayRevision { owner: wanted.owner.clone(), ..new };
                (new != *found).then_some(Step::Write(new))
            }
            (Some(wanted), _) => Some(Step::Write(wanted.clone())),
        }
    }

    /// Whether what stands there says what is wanted.
    fn agrees(&self) -> bool {
        match (&self.wanted, &self.found) {
            (Some(wanted), Found::Ours(found)) => wanted.says_the_same(found),
            (None, Found::Nothing) => true,
            _ => false,
        }
    }

    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| until > now)
    }
}

impl Revisions {
    /// What a Gateway's object should say; nothing when there should be none.
    pub fn want(&mut self, gateway: &ObjectName, wanted: Option<GatewayRevision>) {
        let state = self.gateways.entry(gateway.clone()).or_default();
        state.wanted = wanted;
        state.strayed |= !state.agrees();
        self.mark(gateway);
    }

    /// What stands in its place, and which state of it that is (`metadata.generation`). News of an earlier state than the one
    /// that was written last are old. Answers whether it is something else than before.
    pub fn find(&mut self, gateway: &ObjectName, found: Found, generation: i64) -> bool {
        let state = self.gateways.entry(gateway.clone()).or_default();
        let is_old = found != Found::Nothing && generation < state.generation;
        let is_news = !is_old && state.found != found;
        if is_news {
            state.found = found;
            state.generation = generation;
            state.strayed &= !state.agrees();
        }
        self.mark(gateway);
        is_news
    }

    /// Something that may be done now. Whoever takes it tells how it went: until then, nothing else is done for the Gateway.
    pub fn next(&mut self, now: Instant) -> Option<(ObjectName, Step)> {
        let (gateways, leaving) = (&mut self.gateways, &mut self.leaving);
        leaving.retain(|gateway| {
            let stays = gateways.get(gateway).is_some_and(|state| state.rests(now));
            if !stays {
                gateways.remove(gateway);
            }
            stays
        });
        let ready = |gateway: &&ObjectName| {
            self.gateways.get(*gateway).is_some_and(|state| !state.writing && !state.rests(now))
        };
        let gateway = self.pending.iter().find(ready)?.clone();
        let state = self.gateways.get_mut(&gateway).expect("what is pending is known");
        let step = state.step().expect("what is pending has something to do");
        state.writing = true;
        state.rests_until = Some(now + PEACE);
        Some((gateway, step))
    }

    /// When something may be done that may not be done now.
    pub fn wake_at(&self) -> Option<Instant> {
        let states = self.pending.iter().filter_map(|gateway| self.gateways.get(gateway));
        states.filter(|state| !state.writing).filter_map(|state| state.rests_until).min()
    }

    /// A step was done; of an object that was written, `generation` says which state of it that was.
    pub fn done(&mut self, gateway: &ObjectName, step: Step, generation: i64) {
        let state = self.gateways.entry(gateway.clone()).or_default();
        (state.writing, state.failures) = (false, 0);
        (state.found, state.generation) = match step {
            Step::Write(revision) => (Found::Ours(revision), generation),
            Step::Remove => (Found::Nothing, 0),
        };
        state.strayed = !state.agrees();
        self.mark(gateway);
    }

    /// A step was not done.
    pub fn failed(&mut self, gateway: &ObjectName, now: Instant) {
        let state = self.gateways.entry(gateway.clone()).or_default();
        let rest = (PEACE * 2_u32.saturating_pow(state.failures.min(16))).min(LONGEST_REST);
        state.failures += 1;
        state.writing = false;
        state.rests_until = Some(now + rest);
        self.mark(gateway);
    }

    fn mark(&mut self, gateway: &ObjectName) {
        let Some(state) = self.gateways.get(gateway) else { return };
        let is_gone = state.wanted.is_none() && state.found == Found::Nothing && !state.writing;
        let sets = [(&mut self.pending, state.step().is_some()), (&mut self.leaving, is_gone)];
        for (set, is_in) in sets {
            if is_in {
                set.insert(gateway.clone());
            } else {
                set.remove(gateway);
            }
        }
    }
}
