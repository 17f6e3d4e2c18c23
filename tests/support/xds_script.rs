//! Runs a conversation between a server and one client, written down line by line, on the protocol's machines.
//!
//! ```text
//! # A comment.
//! stream: delta                        delta, sotw or both; then `only TYPE`, `hold=2s`, `removals=1s`, `chunk=100` (bytes)
//! publish: Cluster a=1 -b; Route r=1(a b)    contents; what a route names; removals
//! client: Cluster +a -b                subscribe, unsubscribe; `[a b]` is a state-of-the-world list, and is meant again
//!                                      when a later line of the type leaves it out
//! client: Cluster ack                  accept the newest response of the type; `ack:1` its first, `stale` none that was sent
//! client: Cluster nack why             refuse it, or with `nack:1` its first; what follows is the text
//! client: Cluster has a=1 b=2          initial_resource_versions
//! client: Cluster version=1             version_info, as a client has it that was connected before
//! server: Cluster a=1 -b               the next response, in any order; `empty` is content that the server made up
//! server delta: Cluster -b             only in that protocol
//! server: nothing                      no response now
//! event: RemovalHeld Cluster b         since the last such line; acknowledgements are not listed
//! time: 500ms                          passes
//! deadline: 1500ms                     until time alone may bring a response; or `none`
//! refused: Cluster text                like `client`, but ends the stream with this text in the error
//! ```

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tailscale_gateway::{
    snapshot::{Snapshot, TypeUrl},
    xds::{
        DeltaRequest, DeltaStream, ErrorDetail, Event, Machine, Options, Refused, Response, Scope, SotwRequest,
        SotwStream,
    },
};

use crate::xds_world::{Received, name_of, resource, set, type_named};

/// A machine of either protocol, driven with requests that both understand.
pub enum Driven {
    /// Delta.
    Delta(DeltaStream),
    /// State of the world.
    Sotw(SotwStream),
}

/// What a line of the client says.
#[derive(Default)]
struct Said {
    type_url: String,
    nonce: String,
    error: Option<ErrorDetail>,
    plus: Vec<String>,
    minus: Vec<String>,
    list: Option<Vec<String>>,
    has: Vec<(String, String)>,
    version: String,
}

struct Run {
    machine: Driven,
    snapshot: Snapshot,
    is_published: bool,
    now: Instant,
    /// The nonces of each type, in order.
    nonces: BTreeMap<TypeUrl, Vec<String>>,
    /// What a state-of-the-world client subscribes.
    lists: BTreeMap<TypeUrl, Vec<String>>,
    events: Vec<String>,
}

/// The folder of the scripts.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/xds")
}

/// Runs a script in each protocol it is for.
pub fn run(name: &str) {
    let path = folder().join(name).with_extension("txt");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let first = text.lines().find_map(|line| line.strip_prefix("stream:")).expect("a script has a stream line");
    let protocol = first.split_whitespace().next();
    for each in ["delta", "sotw"].into_iter().filter(|each| protocol == Some(each) || protocol == Some("both")) {
        Run::new(first, each).run(name, &text, each);
    }
}

impl Run {
    fn new(header: &str, protocol: &str) -> Self {
        let mut options = Options::default();
        let mut scope = Scope::Aggregated;
        let mut words = header.split_whitespace().skip(1);
        while let Some(word) = words.next() {
            match word.split_once('=') {
                Some(("hold", time)) => options.route_hold = duration(time),
                Some(("removals", time)) => options.removal_hold = duration(time),
                Some(("chunk", size)) => options.max_chunk = size.parse().expect("a number of bytes"),
                _ if word == "only" => scope = Scope::Only(type_named(words.next().expect("a type"))),
                _ => panic!("{word}: no such setting"),
            }
        }
        let machine = match protocol {
            "delta" => Driven::Delta(DeltaStream::new(scope, options)),
            _ => Driven::Sotw(SotwStream::new(scope, options)),
        };
        Self {
            machine,
            snapshot: Snapshot::default(),
            is_published: false,
            now: Instant::now(),
            nonces: BTreeMap::new(),
            lists: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    fn run(&mut self, name: &str, text: &str, protocol: &str) {
        for (number, line) in text.lines().enumerate() {
            let place = format!("{name}:{} in {protocol}: {line}", number + 1);
            if line.trim().is_empty() || line.starts_with('#') || line.starts_with("stream:") {
                continue;
            }
            let (verb, rest) = line.split_once(':').unwrap_or_else(|| panic!("{place}: no verb"));
            let rest = rest.trim();
            let verb = match verb.split_once(' ') {
                Some((_, only)) if only != protocol => continue,
                Some((verb, _)) => verb,
                None => verb,
            };
            match verb {
                "publish" => self.publish(rest),
                "client" => self.client(rest).unwrap_or_else(|refused| panic!("{place}: {refused}")),
                "server" => assert_eq!(self.next(), sorted(rest), "{place}"),
                "event" => self.event(rest, &place),
                "time" => self.now += duration(rest),
                "deadline" => {
                    let left = self.deadline().map(|at| at - self.now);
                    assert_eq!(left, (rest != "none").then(|| duration(rest)), "{place}");
                }
                "refused" => {
                    let (said, text) = rest.split_once(" => ").expect("`=>` and a part of the error");
                    let refused = self.client(said).expect_err(&place);
                    assert!(refused.0.contains(text), "{place}: {refused}");
                }
                _ => panic!("{place}: no such verb"),
            }
        }
        assert_eq!(self.next(), "nothing", "{name} in {protocol}: at the end");
    }

    fn publish(&mut self, text: &str) {
        for part in text.split(';') {
            let mut words = Words(part);
            let Some(type_name) = words.next() else { continue };
            let type_url = type_named(&type_name);
            for word in words {
                self.snapshot = match word.strip_prefix('-') {
                    Some(name) => set(&self.snapshot, type_url, name, None),
                    None => {
                        let (name, content) = word.split_once('=').expect("NAME=CONTENT");
                        let (content, routes) = content.split_once('(').unwrap_or((content, ")"));
                        let routes: Vec<&str> = routes.trim_end_matches(')').split_whitespace().collect();
                        set(&self.snapshot, type_url, name, Some(resource(type_url, name, content, &routes)))
                    }
                };
            }
        }
        self.is_published = true;
        let snapshot = Arc::new(self.snapshot.clone());
        match &mut self.machine {
            Driven::Delta(stream) => stream.on_snapshot(&snapshot, self.now),
            Driven::Sotw(stream) => stream.on_snapshot(&snapshot, self.now),
        }
    }

    fn client(&mut self, text: &str) -> Result<(), Refused> {
        let said = self.said(text);
        match &mut self.machine {
            Driven::Delta(stream) => {
                assert!(said.list.is_none(), "{text}: the delta protocol has no lists");
                let request = DeltaRequest {
                    type_url: said.type_url,
                    response_nonce: said.nonce,
                    error: said.error,
                    subscribe: said.plus,
                    unsubscribe: said.minus,
                    initial_versions: said.has,
                };
                stream.on_request(request, self.now)
            }
            Driven::Sotw(stream) => {
                let type_url = TypeUrl::parse(&said.type_url);
                let list = type_url.map(|type_url| self.lists.entry(type_url).or_default());
                let names = match (said.list, list) {
                    (Some(names), Some(list)) => {
                        list.clone_from(&names);
                        names
                    }
                    (Some(names), None) => names,
                    (None, Some(list)) => {
                        list.extend(said.plus);
                        list.retain(|name| !said.minus.contains(name));
                        list.clone()
                    }
                    (None, None) => said.plus,
                };
                let request = SotwRequest {
                    type_url: said.type_url,
                    version_info: said.version,
                    response_nonce: said.nonce,
                    error: said.error,
                    names,
                };
                stream.on_request(request, self.now)
            }
        }
    }

    fn said(&self, text: &str) -> Said {
        let mut words = Words(text);
        let type_name = words.next().unwrap_or_default();
        let known = type_name.starts_with(char::is_uppercase).then(|| type_named(&type_name));
        let nonces: &[String] = known.and_then(|known| self.nonces.get(&known)).map_or(&[], Vec::as_slice);
        let mut said = Said {
            type_url: match (known, &*type_name) {
                (Some(known), _) => known.as_str().to_owned(),
                (None, "none") => String::new(),
                (None, other) => other.to_owned(),
            },
            ..Said::default()
        };
        if matches!(self.machine, Driven::Sotw(_)) {
            // Whatever the client says, it says which response it saw last.
            said.nonce = nonces.last().cloned().unwrap_or_default();
        }
        let mut is_has = false;
        while let Some(word) = words.next() {
            match &*word {
                "ack" => said.nonce = nonces.last().expect("something to accept").clone(),
                "stale" => said.nonce = "no such nonce".to_owned(),
                "fresh" => said.nonce = String::new(),
                "has" => is_has = true,
                "version=1" => said.version = "1".to_owned(),
                "nack" => {
                    said.nonce = nonces.last().expect("something to refuse").clone();
                    said.error = Some(ErrorDetail { code: 3, message: words.0.trim().to_owned() });
                    break;
                }
                list if list.starts_with('[') => {
                    let inner = list.trim_start_matches('[').trim_end_matches(']');
                    said.list = Some(inner.split_whitespace().map(str::to_owned).collect());
                }
                other if other.starts_with("nack:") => {
                    let number: usize = other[5..].parse().expect("a number from 1");
                    said.nonce = nonces[number - 1].clone();
                    said.error = Some(ErrorDetail { code: 3, message: words.0.trim().to_owned() });
                    break;
                }
                other => match (other.split_at(1), other.split_once(':'), other.split_once('=')) {
                    (_, Some(("ack", number)), _) => {
                        let number: usize = number.parse().expect("a number from 1");
                        said.nonce = nonces[number - 1].clone();
                    }
                    (_, _, Some((name, content))) if is_has => {
                        let version = resource(known.expect("a known type"), name, content, &[]).version();
                        said.has.push((name.to_owned(), version.to_string()));
                    }
                    (("+", name), ..) => said.plus.push(name.to_owned()),
                    (("-", name), ..) => said.minus.push(name.to_owned()),
                    _ => panic!("{other}: not something a client says"),
                },
            }
        }
        said
    }

    /// The next response as a script writes it.
    fn next(&mut self) -> String {
        let response = match &mut self.machine {
            Driven::Delta(stream) => stream.next_response(self.now),
            Driven::Sotw(stream) => stream.next_response(self.now),
        };
        self.take_events();
        let Some(response) = response else { return "nothing".to_owned() };
        let seen = self.nonces.entry(response.type_url).or_default();
        let nonce = response.nonce.to_string();
        assert!(!nonce.is_empty() && !seen.contains(&nonce), "P30: {nonce:?} after {seen:?}");
        seen.push(nonce);
        shown(&response, &self.receive(&response))
    }

    fn receive(&self, response: &Response) -> Received {
        match &self.machine {
            Driven::Delta(_) => Received::delta(response),
            Driven::Sotw(_) => Received::sotw(response),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.machine {
            Driven::Delta(stream) => stream.deadline(),
            Driven::Sotw(stream) => stream.deadline(),
        }
    }

    fn take_events(&mut self) {
        let events = match &mut self.machine {
            Driven::Delta(stream) => stream.take_events(),
            Driven::Sotw(stream) => stream.take_events(),
        };
        self.events.extend(events.iter().filter_map(written));
    }

    fn event(&mut self, wanted: &str, place: &str) {
        self.take_events();
        let happened = std::mem::take(&mut self.events);
        let happened = if happened.is_empty() { "nothing".to_owned() } else { happened.join("; ") };
        assert_eq!(happened, wanted, "{place}");
    }
}

/// Words between spaces; brackets keep theirs together.
struct Words<'a>(&'a str);

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let text = self.0.trim_start();
        let mut depth = 0;
        let end = text.find(|letter: char| {
            match letter {
                '[' | '(' => depth += 1,
                ']' | ')' => depth -= 1,
                _ => {}
            }
            depth == 0 && letter.is_whitespace()
        });
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        self.0 = rest;
        (!word.is_empty()).then(|| word.to_owned())
    }
}

fn shown(response: &Response, received: &Received) -> String {
    let mut parts = vec![name_of(response.type_url).to_owned()];
    parts.extend(received.resources.iter().map(|(name, content, _)| format!("{name}={content}")));
    parts.extend(received.removed.iter().map(|name| format!("-{name}")));
    sorted(&parts.join(" "))
}

/// A response with its parts in order.
fn sorted(text: &str) -> String {
    let mut words = text.split_whitespace();
    let mut parts = vec![words.next().unwrap_or_default()];
    let mut rest: Vec<&str> = words.collect();
    rest.sort_unstable();
    parts.extend(rest);
    parts.join(" ")
}

fn written(event: &Event) -> Option<String> {
    let typed = |verb: &str, type_url: &TypeUrl| format!("{verb} {}", name_of(*type_url));
    Some(match event {
        Event::Ack { .. } => return None,
        Event::Nack { type_url, parked, suspects, .. } => {
            let suspects = if suspects.is_empty() { String::new() } else { format!(" or of [{}]", suspects.join(" ")) };
            format!("{} [{}]{suspects}", typed("Nack", type_url), parked.join(" "))
        }
        Event::StaleNonce { type_url } => typed("StaleNonce", type_url),
        Event::UnknownType { type_url } => format!("UnknownType {type_url}"),
        Event::UpdateHeld { type_url, name, awaited } => {
            format!("{} {name} for {awaited}", typed("UpdateHeld", type_url))
        }
        Event::UpdateReleased { type_url, name, release, waited } => {
            format!("{} {name} {release:?} after {}ms", typed("UpdateReleased", type_url), waited.as_millis())
        }
        Event::RemovalHeld { type_url, name } => format!("{} {name}", typed("RemovalHeld", type_url)),
        Event::RemovalReleased { type_url, name } => format!("{} {name}", typed("RemovalReleased", type_url)),
        Event::Reconnected { type_url, matched, resent, gone } => {
            format!("{} {matched} matched, {resent} resent, {gone} gone", typed("Reconnected", type_url))
        }
    })
}

fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|letter: char| letter.is_alphabetic()).expect("a unit"));
    let number: u64 = number.parse().expect("a whole number");
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => panic!("{unit}: ms or s"),
    }
}

/// A test for each script.
#[macro_export]
macro_rules! scripts_of {
    ($($name:ident,)*) => {
        /// The scripts that are run here.
        pub(crate) const SCRIPTS: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                $crate::xds_script::run(stringify!($name));
            }
        )*
    };
}
pub use crate::scripts_of as scripts;
