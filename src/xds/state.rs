//! What a stream knows of one type: what the client has, what it accepted and what it refused.
//!
//! Two views say it all, and both are exact for every subscribed name: `sent` is what the client has once it applied
//! everything in flight, `acked` what it has accepted. A resource that is withheld, retained or refused stands in them as the
//! client has it. They share their memory with the snapshots they came from, so a stream holds no names or versions of its
//! own but the few exceptions.
//!
//! Never decides what is sent next: see `compose` and `order`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use smallvec::SmallVec;

use super::{
    ErrorDetail, LastNack, NameSet, NameSets, Nonce,
    stream::Protocol,
    subscription::{Change, Subscription},
};
use crate::snapshot::{Resource, Step, TypeView, Version};

/// Refused responses that are kept in doubt at most: a client that refuses everything must not fill our memory.
const DOUBTS: usize = 8;

/// A type's state on a stream.
pub(super) struct TypeState {
    pub(super) subscription: Subscription,
    /// What the client has once it applied everything in flight. Names that are not subscribed mean nothing in it.
    pub(super) sent: Arc<TypeView>,
    /// What the client has accepted.
    pub(super) acked: Arc<TypeView>,
    /// What the client may have applied of responses that it refused, until it accepts another one and nothing is
    /// unsure.
    pub(super) doubt: Vec<Arc<TypeView>>,
    /// Responses without an answer, oldest first.
    pub(super) in_flight: SmallVec<[InFlight; 1]>,
    /// Subscribed names that must be answered or told again, whether or not anything changed.
    pub(super) resend: BTreeSet<Arc<str>>,
    /// Whether the client waits for an answer even if it is empty.
    pub(super) owes: bool,
    /// Whether the last response was cut at its size limit.
    pub(super) loading: bool,
    /// The newest response.
    pub(super) nonce: Option<Nonce>,
    /// Refused content: it is not sent to this stream again, or not before its turn among the suspects.
    pub(super) parked: BTreeMap<Arc<str>, Parked>,
    /// Groups of suspects that are tried one after the other, the next one last. A name in it that is not parked as waiting
    /// is none any more.
    suspects: Vec<Vec<Arc<str>>>,
    /// Routing resources that wait for their clusters, listeners that wait for parts of their route tables.
    pub(super) held: BTreeMap<Arc<str>, Held>,
    /// Resources that are gone and that the client still needs: for events and the status only.
    pub(super) retained: BTreeSet<Arc<str>>,
    pub(super) last_nack: Option<LastNack>,
    pub(super) was_acked: bool,
    /// What a reconnecting client says it has, until there is a snapshot to compare it with.
    pub(super) offered: Option<Offered>,
    /// What the client had already when the stream began; dropped when it is no longer asked for (`xds.md` P38).
    pub(super) base: Option<Arc<TypeView>>,
    /// Resources that a reconnecting client has and that are gone: they wait to be removed there.
    pub(super) gone: BTreeSet<Arc<str>>,
    /// When a client began this type that had it on an earlier stream, and so may have more than is known here.
    pub(super) returned_at: Option<Instant>,
    /// Whether there was a moment when nothing was in flight and nothing withheld: from then on all is known.
    pub(super) is_known: bool,
    /// When removals that wait for the unknown are sent all the same.
    pub(super) keeps_until: Option<Instant>,
}

/// A response without an answer.
pub(super) struct InFlight {
    pub(super) nonce: Nonce,
    pub(super) sent_at: Instant,
    /// `sent` as it was with this response.
    pub(super) after: Arc<TypeView>,
    pub(super) contents: Contents,
    /// Resources in it that turned out to be bad when an earlier response was refused.
    pub(super) known_bad: Vec<Arc<str>>,
}

impl InFlight {
    /// The resources in it; of a full state all of the view, subscribed or not.
    fn resources(&self) -> Box<dyn Iterator<Item = &Arc<Resource>> + '_> {
        match &self.contents {
            Contents::Step(step) => Box::new(step.updated.iter()),
            Contents::List(resources, _) => Box::new(resources.iter()),
            Contents::Full => Box::new(self.after.iter()),
        }
    }
}

/// What is in a response.
pub(super) enum Contents {
    /// A whole step, shared.
    Step(Arc<Step>),
    /// All subscribed resources of the view that it leads to.
    Full,
    /// These resources and removed names.
    List(Vec<Arc<Resource>>, Vec<Arc<str>>),
}

/// A resource that waits for what it refers to.
pub(super) struct Held {
    pub(super) since: Instant,
    /// One of those it waits for.
    pub(super) awaited: Arc<str>,
}

/// Refused content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Parked {
    pub(super) version: Version,
    /// Whether it is not known what the client has: the refusal named nothing in its response, so that it may have applied
    /// this; or it may have something from before that was never accepted on this stream.
    pub(super) is_unsure: bool,
    pub(super) verdict: Verdict,
}

/// Whether refused content is to blame for the refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is: the refusal named it, or there was nothing else in the response.
    Guilty,
    /// It, or something else in its response. It waits to be sent once more, with fewer others.
    Suspect,
    /// It is sent once more now. What the client says to that decides.
    OnTrial,
}

impl Parked {
    /// Whether this content must not be sent.
    pub(super) fn bars(&self, version: Version) -> bool {
        self.version == version && self.verdict != Verdict::OnTrial
    }

    /// Whether this content is known to be refused for itself.
    pub(super) fn condemns(&self, version: Version) -> bool {
        self.version == version && self.verdict == Verdict::Guilty
    }
}

/// `initial_resource_versions`.
pub(super) struct Offered {
    pub(super) versions: Vec<(String, String)>,
    /// Whether everything must be sent all the same.
    pub(super) distrusted: bool,
}

/// What a refusal did.
pub(super) struct Refusal {
    pub(super) latency: std::time::Duration,
    /// Sorted.
    pub(super) parked: Vec<Arc<str>>,
    /// What is sent again in parts, to find out which of it is to blame; sorted.
    pub(super) suspects: Vec<Arc<str>>,
}

impl TypeState {
    pub(super) fn new(sets: &NameSets) -> Self {
        Self {
            subscription: Subscription::new(sets),
            sent: Arc::default(),
            acked: Arc::default(),
            doubt: Vec::new(),
            in_flight: SmallVec::new(),
            resend: BTreeSet::new(),
            owes: false,
            loading: false,
            nonce: None,
            parked: BTreeMap::new(),
            suspects: Vec::new(),
            held: BTreeMap::new(),
            retained: BTreeSet::new(),
            last_nack: None,
            was_acked: false,
            offered: None,
            base: None,
            gone: BTreeSet::new(),
            returned_at: None,
            is_known: false,
            keeps_until: None,
        }
    }

    /// The view that the client has accepted or is about to.
    pub(super) fn views(&self) -> impl Iterator<Item = &Arc<TypeView>> {
        [&self.acked, &self.sent].into_iter().chain(&self.doubt).chain(self.in_flight.iter().map(|sent| &sent.after))
    }

    /// Follows a change of the subscription: answers what must be answered, and forgets that the client once had what it
    /// subscribes only now.
    pub(super) fn follow(&mut self, change: &Change) {
        if let Some(names) = &change.widened {
            self.each_view(|view| only(view, names));
        }
        if !change.fresh.is_empty() {
            self.each_view(|view| without(view, &change.fresh));
        }
        if change.wildcard_again {
            self.ask_all_again();
        }
        self.resend.extend(change.asked.iter().cloned());
        for name in &change.asked {
            self.gone.remove(name);
        }
        if change.narrowed {
            let subscription = &self.subscription;
            self.resend.retain(|name| subscription.covers(name));
            self.parked.retain(|name, _| subscription.covers(name));
        }
        if let Some(offered) = self.offered.as_mut().filter(|_| !change.first && !change.asked.is_empty()) {
            let asked: BTreeSet<&str> = change.asked.iter().map(|name| &**name).collect();
            offered.versions.retain(|(name, _)| !asked.contains(&**name));
        }
    }

    /// Says of everything in responses without an answer how it is now: a client that asks for all while they are on their way
    /// keeps what is in them.
    pub(super) fn ask_in_flight_again(&mut self) {
        let sent = self.in_flight.iter().flat_map(InFlight::resources);
        self.resend.extend(sent.map(|resource| Arc::clone(resource.name())));
    }

    /// Answers everything that is subscribed, whether or not it was sent before.
    pub(super) fn ask_all_again(&mut self) {
        let subscription = &self.subscription;
        let sent = self.sent.iter().map(|resource| resource.name()).filter(|name| subscription.covers(name));
        self.resend.extend(sent.chain(subscription.names().iter()).cloned());
        self.owes |= subscription.is_wildcard();
    }

    /// The place of a response that waits for an answer.
    pub(super) fn position(&self, nonce: Nonce) -> Option<usize> {
        self.in_flight.iter().position(|sent| sent.nonce == nonce)
    }

    /// The response in this place is accepted, and so are those before it: a client answers in order. Answers the time since
    /// it was sent.
    pub(super) fn on_ack(&mut self, place: usize, now: Instant) -> std::time::Duration {
        let accepted = self.in_flight.drain(..=place).next_back().expect("the place is that of a response");
        self.acked = accepted.after;
        let acked = &self.acked;
        self.parked.retain(|name, parked| {
            parked.verdict != Verdict::OnTrial || version_in(acked, name) != Some(parked.version)
        });
        self.clear_doubt();
        self.was_acked = true;
        now.saturating_duration_since(accepted.sent_at)
    }

    /// Nothing but what is unsure is in doubt after an acceptance.
    pub(super) fn clear_doubt(&mut self) {
        if !self.parked.values().any(|parked| parked.is_unsure) {
            self.doubt.clear();
        }
    }

    /// The response in this place is refused (`xds.md` P12).
    ///
    /// The client may have applied the rest or not: of clusters and listeners Envoy applies what it does not refuse, but
    /// nothing at all when it refuses one while it decodes the response (a constraint of the message is violated); of other
    /// types it stops at the first bad one. So the rest is sent once more. That ends: each time it is less.
    ///
    /// When the text names nothing and several may be to blame, each half of them is sent once more on its own, and so on. That ends too: each time there are fewer to choose from, and one alone is to blame.
    pub(super) fn on_nack(&mut self, protocol: Protocol, place: usize, error: ErrorDetail, now: Instant) -> Refusal {
        let mut is_unanswered = false;
        match protocol {
            Protocol::Delta if place > 0 => drop(self.on_ack(place - 1, now)),
            // A client may have kept its answer to a full state to itself when a newer one came. What it did not accept stays
            // new, and is in the newer one too.
            _ => is_unanswered = self.in_flight.drain(..place).count() > 0,
        }
        let refused = self.in_flight.remove(0);
        let Blame { culprits, is_guess, is_open } = self.blame(&refused, &error.message);
        let mut withheld = Vec::new();
        let mut undone = Vec::new();
        for resource in &culprits {
            let name = resource.name();
            undone.push(Undone::of(resource, &self.acked));
            // Newer content of the same name may be in flight already; then this is not sent again anyway.
            if version_in(&self.sent, name) == Some(resource.version()) {
                let is_unknown = self.returned_at.is_some() && self.acked.get(name).is_none();
                let is_unsure = is_guess || is_unanswered || is_unknown;
                let verdict = if is_open { Verdict::Suspect } else { Verdict::Guilty };
                self.park(name, Parked { version: resource.version(), is_unsure, verdict });
                withheld.push(Arc::clone(name));
            }
        }
        let count = undone.len();
        if culprits.is_empty() && refused.known_bad.is_empty() {
            // Nothing to leave out: what was refused is not sent again.
            self.acked = Arc::clone(&refused.after);
        } else {
            // Of several that may be to blame, those that could not be parked are tried again as long as others could.
            let blamed = match is_guess && !withheld.is_empty() {
                true => BTreeSet::new(),
                false => culprits.iter().map(|resource| &**resource.name()).collect(),
            };
            self.take_back_rest(&refused, &blamed, &mut undone);
        }
        if undone.len() > count || is_guess && !self.is_doubted(&culprits) {
            if self.doubt.len() == DOUBTS {
                self.doubt.remove(0);
            }
            self.doubt.push(refused.after);
        }
        self.sent = undo(&self.sent, &undone);
        for later in &mut self.in_flight {
            let is_in = |undone: &&Undone| version_in(&later.after, &undone.name) == undone.was;
            later.known_bad.extend(undone[..count].iter().filter(is_in).map(|undone| Arc::clone(&undone.name)));
            later.after = undo(&later.after, &undone);
        }
        self.last_nack = Some(LastNack { code: error.code, message: error.message, at: now });
        withheld.sort_unstable();
        let (parked, suspects) = if is_open { (Vec::new(), withheld) } else { (withheld, Vec::new()) };
        self.suspect(&suspects);
        Refusal { latency: now.saturating_duration_since(refused.sent_at), parked, suspects }
    }

    /// Parks refused content. What was unsure about it before is so still.
    fn park(&mut self, name: &Arc<str>, mut parked: Parked) {
        let known = self.parked.get(name).filter(|known| known.version == parked.version);
        parked.is_unsure |= known.is_some_and(|known| known.is_unsure);
        self.parked.insert(Arc::clone(name), parked);
    }

    /// Has these tried again, in halves.
    fn suspect(&mut self, names: &[Arc<str>]) {
        let (first, second) = names.split_at(names.len().div_ceil(2));
        // The last one is the next to be tried.
        self.suspects.extend([second, first].into_iter().filter(|half| !half.is_empty()).map(<[_]>::to_vec));
    }

    /// Puts the next group of suspects on trial, once everything else is settled: then nothing but them is to blame for what the
    /// client says. Answers whether there is one.
    pub(super) fn try_suspects(&mut self) -> bool {
        // Those on trial may be withheld for a while, as routes are that wait for clusters.
        let is_busy = !self.in_flight.is_empty()
            || self.suspects.is_empty()
            || self.parked.values().any(|parked| parked.verdict == Verdict::OnTrial);
        let mut is_any = false;
        while !is_busy
            && !is_any
            && let Some(group) = self.suspects.pop()
        {
            for name in group {
                if let Some(parked) = self.parked.get_mut(&name).filter(|parked| parked.verdict == Verdict::Suspect) {
                    parked.verdict = Verdict::OnTrial;
                    self.resend.insert(name);
                    is_any = true;
                }
            }
        }
        is_any
    }

    /// Whether it is in doubt already that the client has applied these.
    fn is_doubted(&self, resources: &[Arc<Resource>]) -> bool {
        let in_doubt = |resource: &Arc<Resource>| {
            self.doubt.iter().any(|view| version_in(view, resource.name()) == Some(resource.version()))
        };
        resources.iter().all(in_doubt)
    }

    /// Who is to blame for a refusal.
    fn blame(&self, refused: &InFlight, text: &str) -> Blame {
        let is_covered = |resource: &&Arc<Resource>| self.subscription.covers(resource.name());
        let mut culprits: Vec<_> = refused.resources().filter(is_covered).cloned().collect();
        let is_named = |resource: &Arc<Resource>| names_in(text, resource.name());
        let is_new = |resource: &Arc<Resource>| {
            self.acked.get(resource.name()).is_none_or(|known| known.version() != resource.version())
        };
        let explained = refused.known_bad.iter().any(|name| names_in(text, name));
        let is_guess = !explained && !culprits.iter().any(is_named);
        let mut is_open = false;
        if !is_guess {
            culprits.retain(is_named);
        } else if culprits.iter().any(is_new) {
            culprits.retain(is_new);
            is_open = culprits.len() > 1 || !refused.known_bad.is_empty();
        } else if !refused.known_bad.is_empty() {
            culprits.clear();
        }
        Blame { culprits, is_guess, is_open }
    }

    /// Takes back what a refused response held besides the parked resources, so that it is sent again: the client may have
    /// applied it or not.
    fn take_back_rest(&mut self, refused: &InFlight, blamed: &BTreeSet<&str>, undone: &mut Vec<Undone>) {
        let Self { sent, acked, doubt, parked, resend, subscription, .. } = self;
        let mut updated = |resource: &Arc<Resource>| {
            let name = resource.name();
            let is_barred = parked.get(name).is_some_and(|parked| parked.verdict != Verdict::OnTrial);
            if is_barred || blamed.contains(&**name) || !subscription.covers(name) {
                return;
            }
            match version_in(sent, name) {
                Some(sent) if sent == resource.version() => undone.push(Undone::of(resource, acked)),
                // Newer content is in flight.
                Some(_) => return,
                // It stood for one that is gone.
                None => undone.push(Undone { name: Arc::clone(name), was: None, before: acked.get(name).cloned() }),
            }
            resend.insert(Arc::clone(name));
        };
        let mut steps = Vec::new();
        match &refused.contents {
            Contents::Step(step) => steps.push(Arc::clone(step)),
            Contents::List(..) => {}
            // Of a full state, all that differs from what the client may have had.
            Contents::Full => {
                steps.extend([&*acked].into_iter().chain(&*doubt).map(|had| refused.after.step_from(had)))
            }
        }
        let (resources, removed): (&[_], &[_]) = match &refused.contents {
            Contents::List(resources, removed) => (resources, removed),
            _ => (&[], &[]),
        };
        steps.iter().flat_map(|step| &step.updated).chain(resources).for_each(&mut updated);
        let removed = steps.iter().flat_map(|step| &step.removed).chain(removed);
        for name in removed.filter(|name| subscription.covers(name) && sent.get(name).is_none()) {
            undone.push(Undone { name: Arc::clone(name), was: None, before: acked.get(name).cloned() });
            resend.insert(Arc::clone(name));
        }
    }

    fn each_view(&mut self, change: impl Fn(&Arc<TypeView>) -> Arc<TypeView>) {
        self.sent = change(&self.sent);
        self.acked = change(&self.acked);
        for sent in &mut self.in_flight {
            sent.after = change(&sent.after);
        }
    }
}

/// Who is to blame for a refusal.
struct Blame {
    /// Those resources that the text names; else those that were new in the response; else all.
    culprits: Vec<Arc<Resource>>,
    /// The text names none.
    is_guess: bool,
    /// Then not all of them need be bad: it can be found out which are.
    is_open: bool,
}

/// A resource of a refused response, and what was there before it.
struct Undone {
    name: Arc<str>,
    /// Nothing if the response removed it.
    was: Option<Version>,
    before: Option<Arc<Resource>>,
}

impl Undone {
    fn of(resource: &Arc<Resource>, before: &TypeView) -> Self {
        let name = resource.name();
        Self { name: Arc::clone(name), was: Some(resource.version()), before: before.get(name).cloned() }
    }
}

/// A view in which what was refused is as before, unless the view has something newer.
fn undo(view: &Arc<TypeView>, undone: &[Undone]) -> Arc<TypeView> {
    let changes: Vec<_> = undone
        .iter()
        .filter(|undone| version_in(view, &undone.name) == undone.was)
        .map(|undone| (Arc::clone(&undone.name), undone.before.clone()))
        .collect();
    with(view, &changes)
}

fn version_in(view: &TypeView, name: &str) -> Option<Version> {
    view.get(name).map(|resource| resource.version())
}

/// A view with some resources put as they are here.
pub(super) fn with(view: &Arc<TypeView>, changes: &[(Arc<str>, Option<Arc<Resource>>)]) -> Arc<TypeView> {
    if changes.is_empty() { Arc::clone(view) } else { Arc::new(view.with(changes.iter().cloned())) }
}

/// A view without some names.
fn without(view: &Arc<TypeView>, names: &[Arc<str>]) -> Arc<TypeView> {
    let there: Vec<_> =
        names.iter().filter(|name| view.get(name).is_some()).map(|name| (Arc::clone(name), None)).collect();
    with(view, &there)
}

/// A view with nothing but some names.
fn only(view: &Arc<TypeView>, names: &NameSet) -> Arc<TypeView> {
    if view.is_empty() {
        return Arc::clone(view);
    }
    let there =
        names.iter().filter_map(|name| view.get(name)).map(|kept| (Arc::clone(kept.name()), Some(Arc::clone(kept))));
    Arc::new(TypeView::default().with(there))
}

/// Whether a text names a resource: the name stands in it, and not as a part of a longer name.
fn names_in(text: &str, name: &str) -> bool {
    if name.is_empty() {
        return false;
    }
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        !goes_on(before.chars().rev()) && !goes_on(after.chars())
    })
}

/// Whether a name goes on with these characters, read away from it. A dot or colon belongs to a name only between others:
/// `a: invalid.` names `a`.
fn goes_on(mut rest: impl Iterator<Item = char>) -> bool {
    let is_inner = |letter: char| letter.is_alphanumeric() || "/_-*|".contains(letter);
    match rest.next() {
        Some('.' | ':') => rest.next().is_some_and(is_inner),
        Some(letter) => is_inner(letter),
        None => false,
    }
}
