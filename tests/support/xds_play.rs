//! A model of the whole conversation: a control plane that changes, a network that delays, and a client that behaves as
//! Envoy does or as it likes. What happens is drawn from a string of bytes, so a fuzzer, a random generator and a failure that
//! is shortened all speak the same language.
//!
//! What must hold whatever happens is checked where it happens; what must hold in the end is checked when all is delivered.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tailscale_gateway::{
    snapshot::{Snapshot, TypeUrl, ViewChange},
    xds::{
        ClientState, DeltaRequest, DeltaStream, ErrorDetail, Event, Machine, NameSets, Options, Release, Response,
        Scope, SotwRequest, SotwStream,
    },
};

use crate::xds_world::{EMPTY, Received, resource};

/// How long routes wait in the model.
const HOLD: Duration = Duration::from_secs(2);

/// The types in the model, and the names of each.
const WORLD: [(TypeUrl, &[&str]); 5] = [
    (TypeUrl::Secret, &["s0", "s1"]),
    (TypeUrl::Cluster, CLUSTERS),
    (TypeUrl::Endpoints, CLUSTERS),
    (TypeUrl::Listener, &["l0", "l1"]),
    (TypeUrl::Route, ROUTES),
];
const CLUSTERS: &[&str] = &["c0", "c1", "c2", "c3"];
const ROUTES: &[&str] = &["r0", "r1"];

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// Subscribes what the resources name, warms clusters and accepts them when they are warm.
    Envoy,
    /// Subscribes and answers as it likes.
    Free,
}

/// Plays what the bytes say, until they end. The last byte string of a failing run is all that is needed to see it again.
///
/// # Panics
///
/// A rule is broken.
pub fn play(is_delta: bool, manners: Manners, bytes: &[u8], trace: Option<&mut Vec<String>>) {
    let mut model = Model::new(is_delta, manners, bytes, trace);
    model.connect();
    while !model.choices.is_empty() {
        model.step();
    }
    model.settle();
    model.check_the_end();
    model.check_one_change_more();
}

enum Server {
    Delta(DeltaStream),
    Sotw(SotwStream),
}

/// A request on its way, in the words of both protocols.
#[derive(Clone, Debug, Default)]
struct Request {
    type_url: Option<TypeUrl>,
    nonce: String,
    error: Option<ErrorDetail>,
    plus: Vec<String>,
    minus: Vec<String>,
    /// The whole list, for the state of the world.
    list: Vec<String>,
    has: Vec<(String, String)>,
    is_returning: bool,
}

/// A response on its way, and what the client must be able to rely on when it comes.
struct Sent {
    response: Response,
    received: Received,
    /// The snapshot it was made from.
    snapshot: Arc<Snapshot>,
    /// Whether its routes waited long enough.
    timed_out: BTreeSet<String>,
    /// Whether the client had asked for clusters.
    knows_clusters: bool,
    is_first: bool,
    /// Whether removals have waited for routes that the server can not know.
    is_late: bool,
}

/// What the client has of a type.
#[derive(Default)]
struct Client {
    wildcard: bool,
    named: bool,
    names: BTreeSet<String>,
    /// Content and version.
    has: BTreeMap<String, (String, String)>,
    /// The newest response it saw.
    nonce: String,
    /// Clusters that wait for endpoints; the value says whether an older one serves meanwhile.
    warming: BTreeMap<String, bool>,
    /// Answers that wait for warm clusters.
    unsaid: Vec<(String, Option<ErrorDetail>)>,
    /// Nonces that were seen, to say again.
    seen: Vec<String>,
}

struct Model<'a> {
    choices: &'a [u8],
    trace: Option<&'a mut Vec<String>>,
    manners: Manners,
    is_delta: bool,
    options: Options,
    server: Server,
    snapshot: Arc<Snapshot>,
    now: Instant,
    connected_at: Instant,
    is_reconnected: bool,
    to_server: VecDeque<Request>,
    to_client: VecDeque<Sent>,
    clients: BTreeMap<TypeUrl, Client>,
    /// Responses that the server has no answer to, per type.
    unanswered: BTreeMap<TypeUrl, Vec<String>>,
    /// Nonces of this stream.
    nonces: BTreeSet<String>,
    answered_types: BTreeSet<TypeUrl>,
    /// Types that the server was asked for on this stream.
    asked_types: BTreeSet<TypeUrl>,
    /// Types of which it was told a name on this stream.
    named_types: BTreeSet<TypeUrl>,
    /// Whether the client refused clusters without saying which, so that a full state leaves out what it may have applied.
    is_guessed: bool,
    /// Content that the server knows to be refused on this stream.
    refused: BTreeMap<(TypeUrl, String), String>,
    contents: u32,
}

impl<'a> Model<'a> {
    fn new(is_delta: bool, manners: Manners, bytes: &'a [u8], trace: Option<&'a mut Vec<String>>) -> Self {
        let mut model = Self {
            choices: bytes,
            trace,
            manners,
            is_delta,
            options: Options { route_hold: HOLD, names: Arc::new(NameSets::default()), ..Options::default() },
            server: Server::Sotw(SotwStream::new(Scope::Aggregated, Options::default())),
            snapshot: Arc::default(),
            now: Instant::now(),
            connected_at: Instant::now(),
            is_reconnected: false,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            clients: WORLD.iter().map(|(type_url, _)| (*type_url, Client::default())).collect(),
            unanswered: BTreeMap::new(),
            nonces: BTreeSet::new(),
            answered_types: BTreeSet::new(),
            asked_types: BTreeSet::new(),
            named_types: BTreeSet::new(),
            is_guessed: false,
            refused: BTreeMap::new(),
            contents: 0,
        };
        if model.choose(4) == 0 {
            model.options.max_chunk = 200;
        }
        if model.choose(4) == 0 {
            model.options.removal_hold = HOLD / 2;
        }
        model
    }

    // What happens.

    fn step(&mut self) {
        match self.choose(16) {
            0..=2 => self.publish(),
            3..=6 => drop(self.pull()),
            7..=9 => drop(self.client_reads()),
            10..=12 => drop(self.server_reads()),
            13 => self.client_speaks(),
            14 => {
                let wait = [100, 700, 1900, 2500][self.choose(4)];
                self.note(|| format!("time: {wait} ms"));
                self.now += Duration::from_millis(wait);
            }
            _ => match self.choose(3) {
                0 => self.connect(),
                1 => self.speak_stale(),
                _ => self.publish(),
            },
        }
    }

    /// One to three changes at once. A cluster comes with its endpoints, and goes with them.
    fn publish(&mut self) {
        let mut changes = Vec::new();
        for _ in 0..=self.choose(3) {
            let (type_url, names) = WORLD[self.choose(WORLD.len())];
            let name = names[self.choose(names.len())];
            let is_removal = self.choose(4) == 0;
            let mut content = format!("{}", self.choose(4));
            // Some content comes back later, other never did before.
            if self.choose(3) == 0 {
                self.contents += 1;
                content = format!("n{}", self.contents);
            }
            let is_bad = self.choose(6) == 0 && (self.manners == Manners::Free || type_url != TypeUrl::Endpoints);
            if is_bad {
                content.push('!');
            }
            let mut routes = Vec::new();
            if type_url == TypeUrl::Route {
                let set = self.choose(16);
                routes
                    .extend(CLUSTERS.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, name)| *name));
                content = format!("{content}:{}", routes.join(","));
            }
            let made = (!is_removal).then(|| resource(type_url, name, &content, &routes));
            self.note(|| format!("publish: {type_url} {name} {}", if is_removal { "-" } else { &content }));
            changes.push(ViewChange { type_url, name: name.into(), resource: made });
            if type_url == TypeUrl::Cluster && self.choose(4) != 0 {
                let made = (!is_removal).then(|| resource(TypeUrl::Endpoints, name, "0", &[]));
                self.note(|| format!("publish: Endpoints {name} {}", if is_removal { "-" } else { "0" }));
                changes.push(ViewChange { type_url: TypeUrl::Endpoints, name: name.into(), resource: made });
            }
        }
        self.show(changes);
    }

    fn show(&mut self, changes: Vec<ViewChange>) {
        for change in &changes {
            let key = (change.type_url, change.name.to_string());
            let old = self.snapshot.view(change.type_url).get(&change.name).map(|old| old.version());
            if old != change.resource.as_ref().map(|new| new.version()) {
                self.refused.remove(&key);
            }
        }
        self.snapshot = Arc::new(self.snapshot.with(changes));
        let snapshot = Arc::clone(&self.snapshot);
        match &mut self.server {
            Server::Delta(stream) => stream.on_snapshot(&snapshot, self.now),
            Server::Sotw(stream) => stream.on_snapshot(&snapshot, self.now),
        }
    }

    /// The transport can write.
    fn pull(&mut self) -> bool {
        let response = match &mut self.server {
            Server::Delta(stream) => stream.next_response(self.now),
            Server::Sotw(stream) => stream.next_response(self.now),
        };
        let mut timed_out = BTreeSet::new();
        for event in self.take_events() {
            if let Event::UpdateReleased { name, release: Release::TimedOut, .. } = event {
                timed_out.insert(name.to_string());
            }
        }
        let Some(response) = response else {
            let deadline = match &self.server {
                Server::Delta(stream) => stream.deadline(),
                Server::Sotw(stream) => stream.deadline(),
            };
            assert!(deadline.is_none_or(|at| at > self.now), "a deadline that has passed would spin");
            return false;
        };
        let received = if self.is_delta { Received::delta(&response) } else { Received::sotw(&response) };
        self.note(|| format!("server: {} {} {received:?}", response.type_url, response.nonce));
        self.check_sent(&response, &received);
        let type_url = response.type_url;
        self.to_client.push_back(Sent {
            knows_clusters: self.asked_types.contains(&TypeUrl::Cluster),
            is_first: self.answered_types.insert(type_url),
            is_late: self.now >= self.connected_at + HOLD,
            response,
            received,
            snapshot: Arc::clone(&self.snapshot),
            timed_out,
        });
        true
    }

    fn check_sent(&mut self, response: &Response, received: &Received) {
        let type_url = response.type_url;
        let nonce = response.nonce.to_string();
        assert!(!nonce.is_empty() && self.nonces.insert(nonce.clone()), "P30: {nonce:?} is not new");
        let unanswered = self.unanswered.entry(type_url).or_default();
        unanswered.push(nonce);
        let limit = match type_url {
            TypeUrl::Cluster if self.options.max_chunk < 1 << 20 => 32,
            // Each has a response of its own, so any load of them comes in pieces.
            TypeUrl::Secret => 32,
            TypeUrl::Cluster => 2,
            TypeUrl::Endpoints if self.is_delta => 2,
            _ => 1,
        };
        assert!(unanswered.len() <= limit, "P70: {} responses of {type_url} without an answer", unanswered.len());
        for (name, content, _) in &received.resources {
            if let Some(refused) = self.refused.get(&(type_url, name.clone())) {
                assert_ne!(refused, content, "P12: {type_url} {name} was refused with this content");
            }
        }
    }

    fn take_events(&mut self) -> Vec<Event> {
        match &mut self.server {
            Server::Delta(stream) => stream.take_events(),
            Server::Sotw(stream) => stream.take_events(),
        }
    }

    /// A request arrives.
    fn server_reads(&mut self) -> bool {
        let Some(request) = self.to_server.pop_front() else { return false };
        self.note(|| format!("arrives: {request:?}"));
        let type_url = request.type_url.expect("the model knows its types");
        self.asked_types.insert(type_url);
        if !request.list.is_empty() {
            self.named_types.insert(type_url);
        }
        let unanswered = self.unanswered.entry(type_url).or_default();
        if let Some(place) = unanswered.iter().position(|nonce| *nonce == request.nonce) {
            unanswered.drain(..=place);
        }
        let result = match &mut self.server {
            Server::Delta(stream) => stream.on_request(
                DeltaRequest {
                    type_url: type_url.as_str().to_owned(),
                    response_nonce: request.nonce.clone(),
                    error: request.error.clone(),
                    subscribe: request.plus.clone(),
                    unsubscribe: request.minus.clone(),
                    initial_versions: request.has.clone(),
                },
                self.now,
            ),
            Server::Sotw(stream) => stream.on_request(
                SotwRequest {
                    type_url: type_url.as_str().to_owned(),
                    version_info: if request.is_returning { "some".to_owned() } else { String::new() },
                    response_nonce: request.nonce.clone(),
                    error: request.error.clone(),
                    names: request.list.clone(),
                },
                self.now,
            ),
        };
        result.expect("the client breaks no rule");
        for name in &request.minus {
            self.refused.remove(&(type_url, name.clone()));
        }
        if !self.is_delta || !request.minus.is_empty() {
            let names = &request.list;
            let is_all =
                names.iter().any(|name| name == "*") || names.is_empty() && !self.named_types.contains(&type_url);
            self.refused.retain(|(of, name), _| *of != type_url || is_all || names.contains(name));
        }
        for event in self.take_events() {
            self.note(|| format!("event: {event:?}"));
            if let Event::Nack { parked, message, .. } = event {
                self.is_guessed |= type_url == TypeUrl::Cluster && message.contains("nobody knows") && !self.is_delta;
                for name in parked {
                    self.note_refused(type_url, &name);
                }
            }
        }
        true
    }

    /// What is parked must not come again until it changes.
    fn note_refused(&mut self, type_url: TypeUrl, name: &str) {
        let status = match &self.server {
            Server::Delta(stream) => stream.status(),
            Server::Sotw(stream) => stream.status(),
        };
        let of_type = status.iter().find(|status| status.type_url == type_url).expect("the type was asked for");
        let Some(version) = of_type.parked.get(name) else { return };
        let current = self.snapshot.view(type_url).get(name).expect("only what exists is shown as parked");
        assert_eq!(current.version(), *version);
        self.refused.insert((type_url, name.to_owned()), content_of(current));
    }

    // The client.

    /// A new stream; the old one, if any, is forgotten with all that was on its way.
    fn connect(&mut self) {
        self.note(|| "connect".to_owned());
        self.is_reconnected |= !self.nonces.is_empty();
        self.server = match self.is_delta {
            true => Server::Delta(DeltaStream::new(Scope::Aggregated, self.options.clone())),
            false => Server::Sotw(SotwStream::new(Scope::Aggregated, self.options.clone())),
        };
        self.connected_at = self.now;
        self.to_server.clear();
        self.to_client.clear();
        self.unanswered.clear();
        self.nonces.clear();
        self.answered_types.clear();
        self.asked_types.clear();
        self.named_types.clear();
        self.is_guessed = false;
        self.refused.clear();
        self.show(Vec::new());
        for client in self.clients.values_mut() {
            client.nonce.clear();
            client.unsaid.clear();
            client.seen.clear();
        }
        match self.manners {
            Manners::Envoy => {
                for type_url in [TypeUrl::Cluster, TypeUrl::Listener] {
                    self.client(type_url).wildcard = true;
                }
                let names = ROUTES.iter().map(|name| (*name).to_owned());
                self.client(TypeUrl::Route).names = names.collect();
                self.client(TypeUrl::Secret).names = ["s0".to_owned()].into();
                let is_warming = !self.client(TypeUrl::Cluster).warming.is_empty();
                if !is_warming {
                    self.begin(TypeUrl::Cluster);
                }
                for type_url in [TypeUrl::Endpoints, TypeUrl::Listener, TypeUrl::Secret, TypeUrl::Route] {
                    self.begin(type_url);
                }
                // Envoy asks for clusters only when those it has are warm.
                self.client(TypeUrl::Cluster).named = !is_warming;
            }
            Manners::Free => {
                for (type_url, _) in WORLD {
                    self.begin(type_url);
                }
            }
        }
    }

    /// The first request of a type on a stream.
    fn begin(&mut self, type_url: TypeUrl) {
        let is_delta = self.is_delta;
        let client = self.client(type_url);
        let mut list: Vec<String> = client.names.iter().cloned().collect();
        let is_legacy = client.wildcard && list.is_empty() && type_url.has_wildcard();
        if client.wildcard && !is_legacy {
            list.push("*".to_owned());
        }
        if list.is_empty() && !is_legacy {
            if is_delta && type_url.has_wildcard() {
                // An empty first request would ask for all.
                let nothing = || vec!["*".to_owned()];
                let request = Request { plus: nothing(), minus: nothing(), ..Request::default() };
                self.say(type_url, request);
            }
            return;
        }
        let has = if is_delta {
            client.has.iter().map(|(name, (_, version))| (name.clone(), version.clone())).collect()
        } else {
            Vec::new()
        };
        let is_returning = !client.has.is_empty();
        self.say(type_url, Request { plus: list.clone(), list, has, is_returning, ..Request::default() });
    }

    fn say(&mut self, type_url: TypeUrl, mut request: Request) {
        if !self.is_delta && request.list.is_empty() {
            let client = self.client(type_url);
            request.list.extend(client.names.iter().cloned());
            if client.wildcard && (client.named || !type_url.has_wildcard()) {
                request.list.push("*".to_owned());
            }
        }
        request.type_url = Some(type_url);
        self.note(|| format!("client: {request:?}"));
        self.to_server.push_back(request);
    }

    /// A response arrives.
    fn client_reads(&mut self) -> bool {
        let Some(sent) = self.to_client.pop_front() else { return false };
        let type_url = sent.response.type_url;
        let nonce = sent.response.nonce.to_string();
        let is_full = !self.is_delta && type_url.sotw_is_full_state();
        self.note(|| format!("reads: {} {nonce}", type_url));
        let is_partial = matches!(type_url, TypeUrl::Cluster | TypeUrl::Listener);
        let mut bad = Vec::new();
        let mut good = Received { removed: sent.received.removed.clone(), resources: Vec::new() };
        for part in &sent.received.resources {
            if !part.1.contains('!') {
                if bad.is_empty() || is_partial {
                    good.resources.push(part.clone());
                }
            } else if self.covers(type_url, &part.0) {
                bad.push(part.0.clone());
            }
        }
        if !bad.is_empty() && self.choose(2) == 0 {
            // It stopped at once: a resource that can not be decoded spoils the whole response.
            good = Received::default();
        }
        let versions: BTreeMap<String, String> = match self.is_delta {
            true => BTreeMap::new(),
            false => {
                let version =
                    |name: &String| sent.snapshot.view(type_url).get(name).map(|now| now.version().to_string());
                good.resources.iter().map(|(name, ..)| (name.clone(), version(name).unwrap_or_default())).collect()
            }
        };
        self.apply(&sent, &good, &versions, is_full, &bad);
        let client = self.client(type_url);
        client.nonce.clone_from(&nonce);
        client.seen.push(nonce.clone());
        let error = (!bad.is_empty()).then(|| {
            let message = match self.choose(4) {
                0 => "refused, and nobody knows why".to_owned(),
                _ => format!("refused: {}", bad.join(", ")),
            };
            ErrorDetail { code: 13, message }
        });
        self.client(type_url).unsaid.push((nonce, error));
        self.say_when_warm();
        self.follow_clusters(type_url);
        true
    }

    fn apply(
        &mut self,
        sent: &Sent,
        good: &Received,
        versions: &BTreeMap<String, String>,
        is_full: bool,
        bad: &[String],
    ) {
        let type_url = sent.response.type_url;
        let mut removed = good.removed.clone();
        if is_full {
            let there: BTreeSet<&String> = sent.received.resources.iter().map(|(name, ..)| name).collect();
            let has = self.client(type_url).has.keys();
            removed.extend(has.filter(|name| !there.contains(name)).cloned().collect::<Vec<_>>());
        }
        for (name, content, version) in &good.resources {
            if !self.covers(type_url, name) {
                continue;
            }
            if type_url == TypeUrl::Route {
                self.check_route(sent, name, content);
            }
            let version = versions.get(name).unwrap_or(version).clone();
            let old = self.client(type_url).has.insert(name.clone(), (content.clone(), version));
            match type_url {
                TypeUrl::Cluster if old.as_ref().is_none_or(|(old, _)| old != content) => {
                    let warming = &mut self.client(TypeUrl::Cluster).warming;
                    let serves = old.is_some() && warming.get(name).copied().unwrap_or(true);
                    warming.insert(name.clone(), serves);
                }
                TypeUrl::Endpoints => self.warm(name),
                _ => {}
            }
        }
        for name in removed.iter().filter(|name| !bad.contains(name)) {
            if type_url == TypeUrl::Cluster {
                self.check_removal(sent, name);
                self.client(TypeUrl::Cluster).warming.remove(name);
            }
            if type_url == TypeUrl::Endpoints {
                self.warm(name);
            }
            self.client(type_url).has.remove(name);
        }
        self.say_when_warm();
    }

    /// P56: whatever clusters a route newly names, the client has them warm, or there was no use in waiting.
    fn check_route(&mut self, sent: &Sent, name: &str, content: &str) {
        if self.manners == Manners::Free || sent.timed_out.contains(name) || !sent.knows_clusters {
            return;
        }
        let old = self.client(TypeUrl::Route).has.get(name).map(|(content, _)| content.clone()).unwrap_or_default();
        for cluster in routes_of(content).filter(|cluster| !routes_of(&old).any(|old| old == *cluster)) {
            let exists = sent.snapshot.view(TypeUrl::Cluster).get(cluster).is_some();
            assert!(
                !exists || self.serves(cluster),
                "P56: route {name} {content} came before cluster {cluster} was warm"
            );
        }
    }

    /// P58: no route that the client has, other than the one it is meant to have, names a cluster that goes.
    fn check_removal(&mut self, sent: &Sent, cluster: &str) {
        let is_unknowable = self.is_reconnected && (sent.is_late || !self.is_delta && sent.is_first);
        if self.manners == Manners::Free || is_unknowable || self.is_guessed {
            return;
        }
        for (name, (content, _)) in &self.client(TypeUrl::Route).has {
            let meant = sent.snapshot.view(TypeUrl::Route).get(name).map(content_of);
            let is_outdated = meant.as_ref() != Some(content);
            // A route that is gone can only be told to be gone in the delta protocol.
            let is_gone = meant.is_none() && sent.response.removed == 0;
            let names_it = routes_of(content).any(|named| named == cluster);
            assert!(
                !is_outdated || is_gone || !names_it,
                "P58: cluster {cluster} left while route {name} {content} names it"
            );
        }
    }

    fn serves(&mut self, cluster: &str) -> bool {
        let clusters = self.client(TypeUrl::Cluster);
        clusters.has.contains_key(cluster) && clusters.warming.get(cluster).copied().unwrap_or(true)
    }

    fn warm(&mut self, cluster: &str) {
        self.client(TypeUrl::Cluster).warming.remove(cluster);
    }

    /// Answers that can be said now. Clusters are answered when all are warm; then, in the state of the world, only the newest
    /// response is.
    fn say_when_warm(&mut self) {
        for (type_url, _) in WORLD {
            let is_delta = self.is_delta;
            let is_envoy = self.manners == Manners::Envoy;
            let client = self.client(type_url);
            if is_envoy && !client.warming.is_empty() {
                continue;
            }
            let mut answers = std::mem::take(&mut client.unsaid);
            if !is_delta {
                answers.drain(..answers.len().saturating_sub(1));
            }
            for (nonce, error) in answers {
                self.say(type_url, Request { nonce, error, ..Request::default() });
            }
        }
        let clusters = self.client(TypeUrl::Cluster);
        if clusters.warming.is_empty() && !clusters.named && self.manners == Manners::Envoy {
            self.client(TypeUrl::Cluster).named = true;
            self.begin(TypeUrl::Cluster);
        }
    }

    /// Envoy subscribes the endpoints of the clusters it has.
    fn follow_clusters(&mut self, type_url: TypeUrl) {
        if type_url != TypeUrl::Cluster || self.manners == Manners::Free {
            return;
        }
        let wanted: BTreeSet<String> = self.client(TypeUrl::Cluster).has.keys().cloned().collect();
        self.subscribe(TypeUrl::Endpoints, wanted);
    }

    fn subscribe(&mut self, type_url: TypeUrl, wanted: BTreeSet<String>) {
        let is_delta = self.is_delta;
        let client = self.client(type_url);
        let had = std::mem::replace(&mut client.names, wanted.clone());
        let plus: Vec<String> = wanted.difference(&had).cloned().collect();
        let minus: Vec<String> = had.difference(&wanted).cloned().collect();
        if plus.is_empty() && minus.is_empty() {
            return;
        }
        if !client.wildcard {
            client.has.retain(|name, _| wanted.contains(name));
        }
        let nonce = if is_delta { String::new() } else { client.nonce.clone() };
        // A state-of-the-world client that wants nothing says so with an empty list.
        self.say(type_url, Request { nonce, plus, minus, ..Request::default() });
    }

    /// A subscription changes for no reason.
    fn client_speaks(&mut self) {
        if self.manners == Manners::Envoy {
            return;
        }
        let (type_url, names) = WORLD[self.choose(WORLD.len())];
        let is_delta = self.is_delta;
        let name = names[self.choose(names.len())].to_owned();
        match self.choose(5) {
            0 | 1 => {
                let mut wanted = self.client(type_url).names.clone();
                if !wanted.remove(&name) {
                    wanted.insert(name);
                }
                self.client(type_url).named = true;
                self.subscribe(type_url, wanted);
            }
            2 => {
                // Again, as if it had forgotten.
                let client = self.client(type_url);
                if is_delta && client.names.contains(&name) {
                    client.has.remove(&name);
                    self.say(type_url, Request { plus: vec![name], ..Request::default() });
                }
            }
            3 => {
                let client = self.client(type_url);
                client.wildcard = !client.wildcard;
                client.named = true;
                if !client.wildcard {
                    let names = client.names.clone();
                    client.has.retain(|name, _| names.contains(name));
                }
                let star = vec!["*".to_owned()];
                let nonce = if is_delta { String::new() } else { client.nonce.clone() };
                let (plus, minus) = if client.wildcard { (star, Vec::new()) } else { (Vec::new(), star) };
                self.say(type_url, Request { nonce, plus, minus, ..Request::default() });
            }
            _ => {
                // Subscribed and unsubscribed at once: unsubscribed.
                if is_delta && !self.client(type_url).names.contains(&name) {
                    let both = || vec![name.clone()];
                    self.say(type_url, Request { plus: both(), minus: both(), ..Request::default() });
                }
            }
        }
    }

    /// An answer to something that was answered, or never sent.
    fn speak_stale(&mut self) {
        let (type_url, _) = WORLD[self.choose(WORLD.len())];
        let client = self.client(type_url);
        let mut seen = client.seen.clone();
        // In the state of the world a request with the newest nonce is always current.
        seen.retain(|nonce| *nonce != client.nonce && !client.unsaid.iter().any(|(unsaid, _)| unsaid == nonce));
        seen.push("never".to_owned());
        if client.nonce.is_empty() {
            return;
        }
        let nonce = seen[self.choose(seen.len())].clone();
        self.say(type_url, Request { nonce, ..Request::default() });
    }

    fn covers(&mut self, type_url: TypeUrl, name: &str) -> bool {
        let client = self.client(type_url);
        client.wildcard || client.names.contains(name)
    }

    fn client(&mut self, type_url: TypeUrl) -> &mut Client {
        self.clients.get_mut(&type_url).expect("the type is in the model")
    }

    // The end.

    /// Delivers everything, and lets what waits for time have it.
    fn settle(&mut self) {
        self.note(|| "settle".to_owned());
        for _ in 0..4 {
            let mut rounds = 0;
            loop {
                let mut moved = false;
                while self.server_reads() {
                    moved = true;
                }
                while self.pull() {
                    moved = true;
                    assert!(self.to_client.len() < 100, "the server does not stop");
                }
                while self.client_reads() {
                    moved = true;
                }
                if !moved {
                    break;
                }
                rounds += 1;
                assert!(rounds < 60, "the conversation does not end");
            }
            self.now += HOLD;
        }
    }

    /// The client has what it subscribed, and the server knows what the client has.
    fn check_the_end(&mut self) {
        let warming = &self.clients[&TypeUrl::Cluster].warming;
        assert!(self.manners == Manners::Free || warming.is_empty(), "P59: {warming:?} wait for endpoints for ever");
        let status = match &self.server {
            Server::Delta(stream) => stream.status(),
            Server::Sotw(stream) => stream.status(),
        };
        for (type_url, names) in WORLD {
            let client = &self.clients[&type_url];
            let Some(of_type) = status.iter().find(|status| status.type_url == type_url) else {
                assert!(client.names.is_empty() && !client.wildcard);
                continue;
            };
            assert_eq!(of_type.in_flight, 0);
            assert_eq!(of_type.wildcard, client.wildcard, "{type_url}");
            assert_eq!(of_type.subscribed, client.names.len(), "{type_url}");
            assert!(of_type.held.is_empty(), "{type_url}: held for ever");
            let believed = match &self.server {
                Server::Delta(stream) => stream.resources(type_url),
                Server::Sotw(stream) => stream.resources(type_url),
            };
            for name in names.iter().filter(|name| client.wildcard || client.names.contains(**name)) {
                let has = client.has.get(*name).map(|(content, _)| content.clone());
                let meant = self.snapshot.view(type_url).get(name).map(content_of);
                let belief = believed.iter().find(|belief| *belief.name == **name);
                let is_parked = of_type.parked.contains_key(*name);
                let is_kept = of_type.retained.iter().any(|kept| **kept == **name);
                let place =
                    format!("{type_url} {name}: has {has:?}, is meant to have {meant:?}, is believed to {belief:?}");
                // What does not exist the client may have empty, and of some types can not be told.
                let is_untold = !self.is_delta && !type_url.sotw_is_full_state();
                let is_empty = has.as_deref() == Some(EMPTY) && (type_url == TypeUrl::Endpoints || is_untold);
                if meant.is_none() && !is_kept {
                    assert!(has.is_none() || is_empty || is_untold, "{place}");
                } else if is_parked {
                    // Also when the client did not say which: the others of a refused response are not kept from it.
                    assert!(matches!(&meant, Some(meant) if meant.contains('!')), "P12: {place}: parked for nothing");
                    assert!(!matches!(&has, Some(has) if has.contains('!')), "{place}");
                } else if !is_kept {
                    assert_eq!(has, meant, "{place}");
                } else {
                    assert!(self.is_kept_for_a_reason(type_url, &status), "{place}: kept for no reason");
                }
                let knows = belief.map(|belief| belief.state);
                if !is_untold && !is_empty && !is_parked {
                    assert_eq!(belief.is_some_and(|belief| belief.version.is_some()), has.is_some(), "{place}");
                }
                assert_eq!(knows == Some(ClientState::Refused), is_parked, "{place}");
            }
        }
    }

    /// Something was refused, so something older is in use and may refer to it.
    fn is_kept_for_a_reason(&self, type_url: TypeUrl, status: &[tailscale_gateway::xds::TypeStatus]) -> bool {
        let has_parked = |type_url| status.iter().any(|of| of.type_url == type_url && !of.parked.is_empty());
        let has_kept = |type_url| status.iter().any(|of| of.type_url == type_url && !of.retained.is_empty());
        match type_url {
            TypeUrl::Cluster => has_parked(TypeUrl::Route),
            TypeUrl::Endpoints => has_kept(TypeUrl::Cluster),
            TypeUrl::Secret => {
                has_parked(TypeUrl::Cluster) || has_parked(TypeUrl::Listener) || has_kept(TypeUrl::Cluster)
            }
            _ => false,
        }
    }

    /// P19, P42: nothing is said again; and one change is a few messages.
    fn check_one_change_more(&mut self) {
        let route = self.snapshot.view(TypeUrl::Route).get("r0").cloned();
        if let Some(route) = route {
            let same = ViewChange { type_url: TypeUrl::Route, name: "r0".into(), resource: Some(route) };
            self.show(vec![same]);
            assert!(!self.pull(), "P19: nothing changed");
        }
        let before = self.nonces.len();
        let made = resource(TypeUrl::Cluster, "c0", "last", &[]);
        self.show(vec![ViewChange { type_url: TypeUrl::Cluster, name: "c0".into(), resource: Some(made) }]);
        self.settle();
        let sent = self.nonces.len() - before;
        assert!(sent <= 4, "one cluster changed and {sent} responses were sent");
        self.check_the_end();
    }

    fn choose(&mut self, of: usize) -> usize {
        let Some((first, rest)) = self.choices.split_first() else { return 0 };
        self.choices = rest;
        usize::from(*first) % of
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(text());
        }
    }
}

fn content_of(resource: &Arc<tailscale_gateway::snapshot::Resource>) -> String {
    let text = <String as prost::Message>::decode(resource.message_bytes()).expect("field 1 is a string");
    text.split_once('=').expect("NAME=CONTENT").1.to_owned()
}

fn routes_of(content: &str) -> impl Iterator<Item = &str> {
    content.split_once(':').map_or("", |(_, routes)| routes).split(',').filter(|route| !route.is_empty())
}
