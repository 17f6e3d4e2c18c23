//! Kinds on demand, which are Secrets: only metadata is watched, and what some output reads is fetched one by one.
//!
//! Never holds the contents of an object that nothing refers to.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use kube::{
    Api, Client,
    api::{DynamicObject, PartialObjectMeta},
    runtime::watcher::{self, Event, watcher},
};
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};

use super::{
    ClusterUpdate, FromWatch, Health, KindState, PATIENCE, Sight,
    interpret::{interpret, key_of},
    resource,
    watch::{Pause, Trouble, qualified, remove, upsert},
};
use crate::model::{Kind, ObjectKey};

/// Metadata in a page of a list.
const PAGE: u32 = 500;
/// After how long a fetch that failed, or a kind that may not be read, is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// The contents of one kind.
pub(super) struct Contents {
    client: Client,
    kind: Kind,
    wants: watch::Receiver<BTreeSet<ObjectKey>>,
    sender: mpsc::Sender<FromWatch>,
    health: Health,
    /// What is wanted, as far as it has been looked at.
    wanted: BTreeSet<ObjectKey>,
    /// What is being fetched; true when it has to be fetched again after that, because it changed meanwhile.
    fetching: BTreeMap<ObjectKey, bool>,
    fetches: FuturesUnordered<BoxFuture<'static, Fetched>>,
    /// What may not be read, and since when.
    forbidden: BTreeMap<ObjectKey, Instant>,
}

/// An object as it is, or nothing when it is not there.
type Fetched = (ObjectKey, Result<Option<DynamicObject>, Trouble>);

impl Contents {
    pub(super) fn new(
        client: Client,
        kind: Kind,
        wants: watch::Receiver<BTreeSet<ObjectKey>>,
        sender: mpsc::Sender<FromWatch>,
        health: Health,
    ) -> Self {
        Self {
            client,
            kind,
            wants,
            sender,
            health,
            wanted: BTreeSet::new(),
            fetching: BTreeMap::new(),
            fetches: FuturesUnordered::new(),
            forbidden: BTreeMap::new(),
        }
    }

    /// Follows what is wanted until nobody takes the updates.
    pub(super) async fn run(mut self) {
        let resource = resource(self.kind, self.kind.versions()[0]);
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.client.clone(), &resource);
        let mut events = pin!(watcher(api, watcher::Config::default().page_size(PAGE)));
        let mut pause = Pause::default();
        // After an error: when the watch goes on. Fetches do not wait for that.
        let mut resume_at = None;
        // Nothing is wanted yet, so it is complete.
        let settled =
            FromWatch { kind: self.kind, sight: Sight::Whole, update: ClusterUpdate::default(), answers: Vec::new() };
        if self.sender.send(settled).await.is_err() {
            return;
        }
        loop {
            tokio::select! {
                () = time::sleep_until(resume_at.unwrap_or_else(Instant::now)), if resume_at.is_some() => resume_at = None,
                event = events.next(), if resume_at.is_none() => match event {
                    Some(Ok(event)) => {
                        pause = Pause::default();
                        if self.take(event).await.is_err() {
                            return;
                        }
                    }
                    Some(Err(error)) => {
                        let wait = self.trouble(Trouble::of(&error), &mut pause);
                        resume_at = Some(Instant::now() + wait);
                    }
                    None => return,
                },
                changed = self.wants.changed() => match changed {
                    Ok(()) => if self.follow().await.is_err() {
                        return;
                    },
                    Err(_) => return,
                },
                Some((key, fetched)) = self.fetches.next() => if self.fetched(key, fetched).await.is_err() {
                    return;
                },
            }
        }
    }

    async fn take(&mut self, event: Event<PartialObjectMeta<DynamicObject>>) -> Result<(), ()> {
        match event {
            Event::Init | Event::InitApply(_) => {}
            Event::InitDone => {
                self.health.set(self.kind, KindState::Watching);
                // What happened meanwhile is not known.
                let wanted: Vec<ObjectKey> = self.wanted.iter().cloned().collect();
                wanted.into_iter().for_each(|key| self.fetch(key));
            }
            Event::Apply(object) => {
                self.health.set(self.kind, KindState::Watching);
                let key = self.key(&object);
                if self.wanted.contains(&key) {
                    self.fetch(key);
                }
            }
            Event::Delete(object) => {
                let key = self.key(&object);
                // A fetch under way may have seen it still.
                if let Some(again) = self.fetching.get_mut(&key) {
                    *again = true;
                } else if self.wanted.contains(&key) {
                    let mut update = ClusterUpdate::default();
                    remove(&mut update, key.clone());
                    self.send(update, vec![key]).await?;
                }
            }
        }
        Ok(())
    }

    fn key(&self, object: &PartialObjectMeta<DynamicObject>) -> ObjectKey {
        key_of(self.kind, object.metadata.namespace.as_deref(), object.metadata.name.as_deref())
    }

    /// Takes in what is wanted now.
    async fn follow(&mut self) -> Result<(), ()> {
        let now = self.wants.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.wanted, now);
        let mut update = ClusterUpdate::default();
        for dropped in before.difference(&self.wanted) {
            self.forbidden.remove(dropped);
            remove(&mut update, dropped.clone());
        }
        let new: Vec<ObjectKey> = self.wanted.difference(&before).cloned().collect();
        new.into_iter().for_each(|key| self.fetch(key));
        if update.changes.is_empty() { Ok(()) } else { self.send(update, Vec::new()).await }
    }

    fn fetch(&mut self, key: ObjectKey) {
        if let Some(again) = self.fetching.get_mut(&key) {
            *again = true;
            return;
        }
        self.fetching.insert(key.clone(), false);
        self.fetches.push(self.get(key).boxed());
    }

    fn get(&self, key: ObjectKey) -> impl Future<Output = Fetched> + Send + 'static {
        let api: Api<DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            &key.name.namespace,
            &resource(self.kind, self.kind.versions()[0]),
        );
        async move {
            let fetched = api.get_opt(&key.name.name).await.map_err(|error| Trouble::of_client(&error));
            (key, fetched)
        }
    }

    async fn fetched(&mut self, key: ObjectKey, fetched: Result<Option<DynamicObject>, Trouble>) -> Result<(), ()> {
        let changed_meanwhile = self.fetching.remove(&key).unwrap_or_default();
        if !self.wanted.contains(&key) {
            return Ok(());
        }
        if changed_meanwhile {
            self.fetch(key);
            return Ok(());
        }
        let mut update = ClusterUpdate::default();
        match fetched {
            Ok(Some(object)) => upsert(&mut update, interpret(self.kind, object)),
            Ok(None) | Err(Trouble::NotInstalled) => remove(&mut update, key.clone()),
            Err(trouble) => {
                let is_forbidden = matches!(trouble, Trouble::Forbidden(_));
                let words = match trouble {
                    Trouble::Forbidden(words) | Trouble::Passing(words) => words,
                    Trouble::NotInstalled | Trouble::Expired => String::new(),
                };
                tracing::warn!("reading {key}: {words}; trying again");
                let again = self.get(key.clone());
                self.fetching.insert(key.clone(), false);
                self.fetches.push(
                    async move {
                        time::sleep(LOOK_AGAIN).await;
                        again.await
                    }
                    .boxed(),
                );
                if !is_forbidden {
                    return Ok(());
                }
                // That does not mean that it is not there, and what was known of it stays: as for a whole kind (`Watch`).
                let since = *self.forbidden.entry(key.clone()).or_insert_with(Instant::now);
                if since.elapsed() < PATIENCE {
                    return Ok(());
                }
            }
        }
        self.forbidden.remove(&key);
        self.send(update, vec![key]).await
    }

    /// Reports it, and says after how long the watch goes on.
    fn trouble(&self, trouble: Trouble, pause: &mut Pause) -> Duration {
        let name = qualified(self.kind);
        match trouble {
            Trouble::Expired => Duration::ZERO,
            Trouble::Forbidden(words) => {
                if self.health.set(self.kind, KindState::Forbidden { known: true }) {
                    tracing::error!("not allowed to list and watch {name}; grant both to the service account: {words}");
                }
                LOOK_AGAIN
            }
            Trouble::NotInstalled => LOOK_AGAIN,
            Trouble::Passing(words) => {
                if self.health.set(self.kind, KindState::Failing(words.clone())) {
                    tracing::warn!("watching {name}: {words}; trying again");
                }
                pause.next()
            }
        }
    }

    async fn send(&mut self, update: ClusterUpdate, answers: Vec<ObjectKey>) -> Result<(), ()> {
        let from = FromWatch { kind: self.kind, sight: Sight::Part, update, answers };
        self.sender.send(from).await.map_err(|_| ())
    }
}
