//! Follows the objects that were created for Gateways: those with our labels, in all namespaces.
//!
//! Of Secrets the metadata alone: what is in them is none of its business. Never writes.

use std::{mem, pin::pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt};
use kube::{
    Api, Client,
    api::{DynamicObject, PartialObjectMeta},
    runtime::watcher::{self, Event, watcher},
};
use serde::Serialize;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet, time};

use super::apply::{owned_resource, words};
use crate::{
    api::{OwnedNews, OwnedObject},
    model::{COMPONENT, COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL, OwnedKind},
};

/// Objects in a page of a list.
const PAGE: u32 = 500;
/// The first pause after an error; each further one is twice as long, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(200);
/// The longest pause after an error.
const LONGEST: Duration = Duration::from_secs(10);

/// Follows all kinds until nobody takes the news any more, or the tasks are dropped.
pub fn follow(client: &Client, news: &mpsc::Sender<OwnedNews>) -> JoinSet<()> {
    OwnedKind::ALL.into_iter().map(|kind| follow_kind(client.clone(), kind, news.clone())).collect()
}

async fn follow_kind(client: Client, kind: OwnedKind, news: mpsc::Sender<OwnedNews>) {
    let resource = owned_resource(kind);
    let config = watcher::Config::default()
        .labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY},{COMPONENT_LABEL}={COMPONENT}"))
        .page_size(PAGE);
    if kind == OwnedKind::Secret {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
        hand_on(kind, watcher(api, config).map_ok(|event| map(event, to_json)), news).await;
    } else {
        let api: Api<DynamicObject> = Api::all_with(client, &resource);
        hand_on(kind, watcher(api, config).map_ok(|event| map(event, to_json)), news).await;
    }
}

fn to_json(object: impl Serialize) -> Value {
    serde_json::to_value(object).expect("what was read from JSON can be written as JSON")
}

fn map<K, T>(event: Event<K>, of: impl Fn(K) -> T) -> Event<T> {
    match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(of(object)),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(of(object)),
        Event::Delete(object) => Event::Delete(of(object)),
    }
}

async fn hand_on(
    kind: OwnedKind,
    events: impl Stream<Item = Result<Event<Value>, watcher::Error>>,
    news: mpsc::Sender<OwnedNews>,
) {
    let mut events = pin!(events);
    let (mut listing, mut pause) = (Vec::new(), SHORTEST);
    let read = |object| OwnedObject::read(kind, object).map(|(key, object)| (key, Arc::new(object)));
    while let Some(event) = events.next().await {
        let told = match event {
            Ok(Event::Init) => {
                listing = Vec::new();
                None
            }
            Ok(Event::InitApply(object)) => {
                listing.extend(read(object));
                None
            }
            Ok(Event::InitDone) => Some(OwnedNews::Listed(kind, mem::take(&mut listing))),
            Ok(Event::Apply(object)) => read(object).map(|(key, object)| OwnedNews::Changed(key, object)),
            Ok(Event::Delete(object)) => read(object).map(|(key, _)| OwnedNews::Gone(key)),
            // A watch that is too old: the list that follows tells what was missed.
            Err(watcher::Error::WatchError(status)) if status.code == 410 => None,
            Err(error) => {
                let told = news.send(OwnedNews::Failing(kind, words(&error))).await;
                time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
                if told.is_err() {
                    return;
                }
                continue;
            }
        };
        pause = SHORTEST;
        if let Some(told) = told
            && news.send(told).await.is_err()
        {
            return;
        }
    }
}
