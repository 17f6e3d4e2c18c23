//! What a stream asked for, of one type: the rules of wildcards and names, in both protocols (`xds.md` §1.3).
//!
//! Never knows what exists or what was sent.

use std::{collections::HashSet, sync::Arc};

use super::{NameSet, NameSets};
use crate::snapshot::TypeUrl;

/// The name that stands for all resources of a type.
const WILDCARD: &str = "*";

/// What is subscribed now.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    wildcard: bool,
    /// Names subscribed one by one, with or without the wildcard.
    names: Arc<NameSet>,
    /// Whether a request has come.
    started: bool,
    /// Whether any name, also `*`, has come: from then on an empty list is an empty list.
    named: bool,
    /// Whether the wildcard was asked for by its name.
    starred: bool,
}

/// What a request changed.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Whether it was the first request.
    pub(super) first: bool,
    /// Names to answer, whether or not they were sent before.
    pub(super) asked: Vec<Arc<str>>,
    /// Those among them that were not subscribed before in any way.
    pub(super) fresh: Vec<Arc<str>>,
    /// Whether the wildcard came into force, from nothing or from these names.
    pub(super) widened: Option<Arc<NameSet>>,
    /// Whether `*` was subscribed although it had been by name. A client that made the wildcard of an empty first request
    /// explicit has not forgotten anything.
    pub(super) wildcard_again: bool,
    /// Whether something may have ceased to be subscribed.
    pub(super) narrowed: bool,
}

impl Subscription {
    /// Nothing.
    pub(super) fn new(sets: &NameSets) -> Self {
        Self { wildcard: false, names: sets.empty(), started: false, named: false, starred: false }
    }

    /// Whether a resource of this name, if there is one, is for this stream.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Whether all resources are.
    pub(super) fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The names subscribed one by one.
    pub(super) fn names(&self) -> &Arc<NameSet> {
        &self.names
    }

    /// Takes a delta request: first what it subscribes, then what it unsubscribes (`xds.md` P25 8–13, P29).
    pub(super) fn delta(
        &mut self,
        sets: &NameSets,
        type_url: TypeUrl,
        subscribe: Vec<Arc<str>>,
        unsubscribe: Vec<Arc<str>>,
    ) -> Change {
        let before = self.clone();
        let mut change = Change { first: !self.started, ..Change::default() };
        if change.first && subscribe.is_empty() && type_url.has_wildcard() {
            self.wildcard = true;
        }
        self.started = true;
        for name in subscribe {
            if &*name == WILDCARD {
                self.wildcard = true;
                self.starred = true;
                change.wildcard_again = before.starred;
            } else {
                if !before.covers(&name) {
                    change.fresh.push(Arc::clone(&name));
                }
                change.asked.push(name);
            }
        }
        let subscribed = sets.with(&self.names, &change.asked, []);
        let mut dropped = Vec::new();
        for name in unsubscribe {
            if &*name == WILDCARD {
                change.narrowed |= self.wildcard;
                self.wildcard = false;
                self.starred = false;
            } else if subscribed.contains(&name) {
                dropped.push(name);
            }
        }
        self.names = sets.with(&subscribed, [], &dropped);
        change.narrowed |= !dropped.is_empty();
        if self.wildcard {
            // The wildcard still covers what was unsubscribed, and the client can not know whether it exists (P26).
            change.asked.extend(dropped);
            if !before.wildcard {
                change.widened = Some(before.names);
            }
        }
        change.wildcard_again &= self.wildcard;
        change
    }

    /// Takes the full list of a state-of-the-world request (`xds.md` P25 1–7).
    pub(super) fn sotw(
        &mut self,
        sets: &NameSets,
        type_url: TypeUrl,
        list: &[String],
        share: impl Fn(&str) -> Arc<str>,
    ) -> Change {
        let mut change = Change { first: !self.started, ..Change::default() };
        self.started = true;
        let was_wildcard = self.wildcard;
        self.wildcard = if list.is_empty() {
            !self.named && type_url.has_wildcard()
        } else {
            self.named = true;
            list.iter().any(|name| name == WILDCARD)
        };
        let names = || list.iter().map(String::as_str).filter(|name| *name != WILDCARD);
        let before = Arc::clone(&self.names);
        if !sets.is_list_of(&before, names()) {
            let distinct: HashSet<&str> = names().collect();
            let mut added: Vec<Arc<str>> =
                distinct.iter().filter(|name| !before.contains(name)).map(|name| share(name)).collect();
            added.sort_unstable();
            let dropped = NameSets::missing_from(&before, &distinct);
            self.names = sets.with(&before, &added, &dropped);
            change.narrowed = !dropped.is_empty();
            if !was_wildcard {
                change.fresh = added.clone();
            }
            change.asked = added;
        }
        change.narrowed |= was_wildcard && !self.wildcard;
        if self.wildcard && !was_wildcard {
            change.widened = Some(before);
        }
        change
    }
}
