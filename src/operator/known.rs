//! What is known to exist of what was created for Gateways, by name and by Gateway. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use crate::{
    api::{OwnedNews, OwnedObject},
    model::{ObjectName, OwnedKey, OwnedKind},
};

/// What is known to exist.
#[derive(Debug, Default)]
pub struct Known {
    objects: BTreeMap<OwnedKey, Arc<OwnedObject>>,
    /// The objects of each Gateway.
    owned: BTreeMap<ObjectName, BTreeSet<OwnedKey>>,
    sights: BTreeMap<OwnedKind, Sight>,
}

/// What is seen of a kind.
#[derive(Debug, Default)]
struct Sight {
    /// All there was at some time is known, and what changed since.
    listed: bool,
    /// Why it is not seen now.
    failing: Option<String>,
}

impl Known {
    /// Takes in what is seen, and gives the objects that are other now, each with its owner before and after.
    pub fn take(&mut self, news: OwnedNews) -> Vec<Touched> {
        match news {
            OwnedNews::Failing(kind, words) => {
                self.sights.entry(kind).or_default().failing = Some(words);
                Vec::new()
            }
            OwnedNews::Listed(kind, objects) => {
                self.seen(kind);
                self.sights.entry(kind).or_default().listed = true;
                let listed: HashSet<&OwnedKey> = objects.iter().map(|(key, _)| key).collect();
                let of_kind = self.objects.keys().filter(|key| key.kind == kind);
                let gone: Vec<OwnedKey> = of_kind.filter(|key| !listed.contains(key)).cloned().collect();
                let gone = gone.into_iter().filter_map(|key| self.forget(key)).collect::<Vec<_>>();
                let there = objects.into_iter().filter_map(|(key, object)| self.note(key, object));
                gone.into_iter().chain(there.collect::<Vec<_>>()).collect()
            }
            OwnedNews::Changed(key, object) => {
                self.seen(key.kind);
                self.note(key, object).into_iter().collect()
            }
            OwnedNews::Gone(key) => {
                self.seen(key.kind);
                self.forget(key).into_iter().collect()
            }
        }
    }

    /// Notes how an object is, unless something newer is known already: an API server's answer to a write comes before
    /// the watch tells of what was before it.
    pub fn note(&mut self, key: OwnedKey, object: Arc<OwnedObject>) -> Option<Touched> {
        let known = self.objects.get(&key);
        if known.is_some_and(|known| known.uid == object.uid && is_newer(known, &object)) {
            return None;
        }
        let is_same = |known: &Arc<OwnedObject>| {
            **known == OwnedObject { resource_version: known.resource_version.clone(), ..(*object).clone() }
        };
        // Of a Deployment mostly the status changes.
        if known.is_some_and(is_same) {
            self.objects.insert(key, object);
            return None;
        }
        let before = known.and_then(|known| known.gateway.clone());
        let after = object.gateway.clone();
        self.disown(before.as_ref(), &key);
        if let Some(gateway) = &after {
            self.owned.entry(gateway.clone()).or_default().insert(key.clone());
        }
        self.objects.insert(key.clone(), object);
        Some(Touched { key, owners: before.into_iter().chain(after).collect(), gone: false })
    }

    /// Notes that an object was asked to go.
    pub fn note_deleting(&mut self, key: &OwnedKey) {
        if let Some(object) = self.objects.get_mut(key) {
            Arc::make_mut(object).deleting = true;
        }
    }

    /// The object of a name.
    pub fn object(&self, key: &OwnedKey) -> Option<&Arc<OwnedObject>> {
        self.objects.get(key)
    }

    /// The objects that a Gateway owns.
    pub fn of_gateway(&self, gateway: &ObjectName) -> impl Iterator<Item = &OwnedKey> {
        self.owned.get(gateway).into_iter().flatten()
    }

    /// The Gateways that own something, whether they exist or not.
    pub fn owners(&self) -> impl Iterator<Item = &ObjectName> {
        self.owned.keys()
    }

    /// Whether it is known what exists of a kind.
    pub fn sees(&self, kind: OwnedKind) -> bool {
        self.sights.get(&kind).is_some_and(|sight| sight.listed)
    }

    /// Why objects of a kind are not seen now, if so.
    pub fn failing(&self, kind: OwnedKind) -> Option<&str> {
        self.sights.get(&kind)?.failing.as_deref()
    }

    /// Whether each kind was listed or could not be.
    pub fn has_looked(&self) -> bool {
        OwnedKind::ALL.into_iter().all(|kind| self.sees(kind) || self.failing(kind).is_some())
    }

    fn seen(&mut self, kind: OwnedKind) {
        self.sights.entry(kind).or_default().failing = None;
    }

    fn forget(&mut self, key: OwnedKey) -> Option<Touched> {
        let known = self.objects.remove(&key)?;
        self.disown(known.gateway.as_ref(), &key);
        Some(Touched { key, owners: known.gateway.iter().cloned().collect(), gone: true })
    }

    fn disown(&mut self, gateway: Option<&ObjectName>, key: &OwnedKey) {
        if let Some(gateway) = gateway
            && let Some(keys) = self.owned.get_mut(gateway)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.owned.remove(gateway);
            }
        }
    }
}

/// An object that is other than it was known to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The object.
    pub key: OwnedKey,
    /// The Gateways that owned it or do now.
    pub owners: BTreeSet<ObjectName>,
    /// It is there no more.
    pub gone: bool,
}

/// Versions of one object are numbers that grow (Kubernetes, KEP-5504); of anything else nothing is known.
fn is_newer(object: &OwnedObject, than: &OwnedObject) -> bool {
    match (object.resource_version.parse::<u128>(), than.resource_version.parse::<u128>()) {
        (Ok(version), Ok(than)) => version > than,
        _ => false,
    }
}
