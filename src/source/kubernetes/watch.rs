//! The watch of one kind, for as long as the program runs.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use kube::{
    Api, Client,
    api::{DynamicObject, PartialObjectMeta},
    runtime::watcher::{self, Event, watcher},
};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

use super::{
    ClusterUpdate, FromWatch, Health, KindState, PATIENCE, Sight,
    interpret::{Interpreted, interpret},
    resource,
};
use crate::{
    model::{Kind, ObjectKey},
    store::Change,
};

/// Objects in a page of a list.
const PAGE: u32 = 500;
/// The first pause after an error; each further one is twice as long, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(200);
/// The longest pause after an error.
const LONGEST: Duration = Duration::from_secs(10);
/// How often a kind that is not installed or forbidden is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// Why a watch does not go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The API server does not know the resource.
    NotInstalled,
    /// This program may not do that, in the API server's words.
    Forbidden(String),
    /// It should work later.
    Passing(String),
    /// The watch is too old: the library lists again at once.
    Expired,
}

impl Trouble {
    pub(super) fn of(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => Self::of_client(error),
            watcher::Error::WatchError(status) if status.code == 410 => Self::Expired,
            watcher::Error::WatchError(status) => Self::of_code(status.code, &status.message),
            watcher::Error::NoResourceVersion => Self::Passing(error.to_string()),
        }
    }

    pub(super) fn of_client(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 410 => Self::Expired,
            kube::Error::Api(status) => Self::of_code(status.code, &status.message),
            error => Self::Passing(words(error)),
        }
    }

    fn of_code(code: u16, message: &str) -> Self {
        match code {
            404 => Self::NotInstalled,
            403 => Self::Forbidden(message.to_owned()),
            // 401 says nothing of a kind: who we are is not known, and that is so for all.
            _ => Self::Passing(message.to_owned()),
        }
    }
}

/// An error's words, and those of what caused it: "client error" alone helps nobody.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !words.contains(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        cause = next.source();
    }
    words
}

/// Grows with each error and starts again after a success.
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(SHORTEST)
    }
}

impl Pause {
    /// How long to wait now.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST);
        wait
    }
}

/// Kinds without which everything seems to be none of our business: to go on without them is to take everything away.
const NEEDED: [Kind; 2] = [Kind::GatewayClass, Kind::Gateway];

/// Whether the rest may go on without a kind that could not be read for so long.
fn goes_on_without(kind: Kind, forbidden_for: Duration) -> bool {
    forbidden_for >= PATIENCE && !NEEDED.contains(&kind)
}

/// The watch of a kind.
pub(super) struct Watch {
    client: Client,
    kind: Kind,
    sender: mpsc::Sender<FromWatch>,
    health: Health,
    /// What was told of and not taken back.
    known: BTreeSet<ObjectKey>,
    /// What has come of a list that is not complete.
    listing: Vec<Interpreted>,
    /// Whether it was told once what there is.
    is_known: bool,
    /// Since when the kind may not be read, until it may.
    forbidden_since: Option<Instant>,
}

/// Nobody takes the updates any more.
struct Closed;

impl Watch {
    pub(super) fn new(client: Client, kind: Kind, sender: mpsc::Sender<FromWatch>, health: Health) -> Self {
        let (known, listing) = Default::default();
        Self { client, kind, sender, health, known, listing, is_known: false, forbidden_since: None }
    }

    /// Watches until nobody takes the updates.
    pub(super) async fn run(mut self) {
        let versions = self.kind.versions();
        let mut tried = 0;
        loop {
            // The versions in turn: an API server may serve a later one only, or an earlier one.
            let version = versions[tried % versions.len()];
            let Ok(trouble) = self.watch(version).await else { return };
            tried += 1;
            if tried % versions.len() != 0 && trouble == Trouble::NotInstalled {
                continue;
            }
            let told = match trouble {
                Trouble::NotInstalled => self.not_installed().await,
                Trouble::Forbidden(words) => self.forbidden(&words).await,
                Trouble::Passing(_) | Trouble::Expired => Ok(()),
            };
            if told.is_err() {
                return;
            }
            time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Follows one version until it is not there or not allowed.
    async fn watch(&mut self, version: &str) -> Result<Trouble, Closed> {
        let mut events = events(self.client.clone(), self.kind, version);
        let mut pause = Pause::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    pause = Pause::default();
                    self.take(event).await?;
                }
                Err(error) => match Trouble::of(&error) {
                    Trouble::Expired => {}
                    Trouble::Passing(words) => {
                        self.failing(words);
                        time::sleep(pause.next()).await;
                    }
                    other => return Ok(other),
                },
            }
        }
        Ok(Trouble::Passing("the watch ended".to_owned()))
    }

    async fn take(&mut self, event: Event<DynamicObject>) -> Result<(), Closed> {
        match event {
            Event::Init => self.listing = Vec::new(),
            Event::InitApply(object) if !self.follows(&object) => {}
            Event::InitApply(object) => self.listing.push(interpret(self.kind, object)),
            Event::InitDone => {
                self.watching();
                let listed = std::mem::take(&mut self.listing);
                let there: BTreeSet<ObjectKey> = listed.iter().map(|one| one.key.clone()).collect();
                let mut update = ClusterUpdate::default();
                for gone in std::mem::replace(&mut self.known, there).difference(&self.known) {
                    remove(&mut update, gone.clone());
                }
                listed.into_iter().for_each(|one| upsert(&mut update, one));
                self.send(Sight::Whole, update).await?;
            }
            Event::Apply(object) | Event::Delete(object) if !self.follows(&object) => self.watching(),
            Event::Apply(object) => {
                self.watching();
                let one = interpret(self.kind, object);
                self.known.insert(one.key.clone());
                let mut update = ClusterUpdate::default();
                upsert(&mut update, one);
                self.send(Sight::Part, update).await?;
            }
            Event::Delete(object) => {
                let metadata = &object.metadata;
                let key = super::interpret::key_of(self.kind, metadata.namespace.as_deref(), metadata.name.as_deref());
                self.known.remove(&key);
                let mut update = ClusterUpdate::default();
                remove(&mut update, key);
                self.send(Sight::Part, update).await?;
            }
        }
        Ok(())
    }

    fn follows(&self, object: &DynamicObject) -> bool {
        self.kind.follows(object.metadata.name.as_deref().unwrap_or_default())
    }

    /// All that was known of the kind is gone with its CRD.
    async fn not_installed(&mut self) -> Result<(), Closed> {
        if self.health.set(self.kind, KindState::NotInstalled) {
            let (kind, name) = (self.kind, qualified(self.kind));
            tracing::warn!("the CRD {name} is not installed; {kind} objects are followed as soon as it is");
        }
        let mut update = ClusterUpdate::default();
        std::mem::take(&mut self.known).into_iter().for_each(|gone| remove(&mut update, gone));
        self.send(Sight::Whole, update).await
    }

    /// What was known stays: it may still be true. That nothing was ever known does not mean that there is nothing: an API server
    /// may not know our rights yet, and somebody may have taken one away. So the rest waits for it, for a while.
    async fn forbidden(&mut self, words: &str) -> Result<(), Closed> {
        let name = qualified(self.kind);
        // Before it is told: who reads the line knows that the time runs.
        let since = *self.forbidden_since.get_or_insert_with(Instant::now);
        if self.health.set(self.kind, KindState::Forbidden { known: self.is_known }) {
            tracing::error!("not allowed to list and watch {name}; grant both to the service account: {words}");
        }
        if !self.is_known && goes_on_without(self.kind, since.elapsed()) {
            self.health.set(self.kind, KindState::Forbidden { known: true });
            tracing::error!("going on as if there were no {name}: for {} s they could not be read", PATIENCE.as_secs());
            return self.send(Sight::Nothing, ClusterUpdate::default()).await;
        }
        Ok(())
    }

    fn failing(&self, words: String) {
        let name = qualified(self.kind);
        if self.health.set(self.kind, KindState::Failing(words.clone())) {
            tracing::warn!("watching {name}: {words}; trying again");
        }
    }

    fn watching(&mut self) {
        self.forbidden_since = None;
        if self.health.set(self.kind, KindState::Watching) {
            tracing::debug!("watching {}", qualified(self.kind));
        }
    }

    async fn send(&mut self, sight: Sight, update: ClusterUpdate) -> Result<(), Closed> {
        self.is_known |= sight != Sight::Part;
        let from = FromWatch { kind: self.kind, sight, update, answers: Vec::new() };
        self.sender.send(from).await.map_err(|_| Closed)
    }
}

/// What happens to the objects of a kind in one version.
fn events(client: Client, kind: Kind, version: &str) -> BoxStream<'static, watcher::Result<Event<DynamicObject>>> {
    let (resource, config) = (resource(kind, version), watcher::Config::default().page_size(PAGE));
    if kind.is_metadata_alone() {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
        watcher(api, config).map_ok(alone).boxed()
    } else {
        let api: Api<DynamicObject> = Api::all_with(client, &resource);
        watcher(api, config).boxed()
    }
}

/// The same about objects that have nothing but metadata.
fn alone(event: Event<PartialObjectMeta<DynamicObject>>) -> Event<DynamicObject> {
    let object = |partial: PartialObjectMeta<DynamicObject>| DynamicObject {
        types: None,
        metadata: partial.metadata,
        data: serde_json::Value::Null,
    };
    match event {
        Event::Init => Event::Init,
        Event::InitApply(partial) => Event::InitApply(object(partial)),
        Event::InitDone => Event::InitDone,
        Event::Apply(partial) => Event::Apply(object(partial)),
        Event::Delete(partial) => Event::Delete(object(partial)),
    }
}

/// `httproutes.gateway.networking.k8s.io`.
pub(super) fn qualified(kind: Kind) -> String {
    match kind.group() {
        "" => kind.plural().to_owned(),
        group => format!("{}.{group}", kind.plural()),
    }
}

/// Notes an object as it is now. One that its schema refuses is named and taken for absent: nothing can be made of it.
pub(super) fn upsert(update: &mut ClusterUpdate, one: Interpreted) {
    for ignored in one.ignored() {
        tracing::debug!("{}: {}: {}", one.key, ignored.field, ignored.message);
    }
    match one.object {
        Some(object) => update.changes.push(Change::Upsert(object)),
        None => {
            for finding in &one.findings {
                tracing::warn!("{}: {}: {}; the object is left out", one.key, finding.field, finding.message);
            }
            update.changes.push(Change::Remove(one.key.clone()));
        }
    }
    if one.key.kind.has_our_status() {
        update.observed.push((one.key, one.observed));
    }
}

pub(super) fn remove(update: &mut ClusterUpdate, key: ObjectKey) {
    if key.kind.has_our_status() {
        update.observed.push((key.clone(), None));
    }
    update.changes.push(Change::Remove(key));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_gateways_and_their_classes_nothing_goes_on_and_without_another_kind_the_rest_does() {
        let goes_on = |wait| Kind::ALL.into_iter().filter(|kind| goes_on_without(*kind, wait)).collect::<Vec<_>>();
        assert_eq!(goes_on(Duration::ZERO), [] as [Kind; 0]);
        assert_eq!(goes_on(PATIENCE - Duration::from_millis(1)), [] as [Kind; 0]);
        let in_the_end = goes_on(PATIENCE);
        assert_eq!(in_the_end.len(), Kind::ALL.len() - NEEDED.len());
        assert!(NEEDED.iter().all(|kind| !in_the_end.contains(kind)));
    }

    #[test]
    fn a_credential_that_is_not_known_is_no_right_that_is_missing() {
        let words = || "no".to_owned();
        assert_eq!(Trouble::of_code(401, "no"), Trouble::Passing(words()));
        assert_eq!(Trouble::of_code(403, "no"), Trouble::Forbidden(words()));
    }
}
