//! What is known of the other replicas' Leases. Pure: the time is an argument, and what stands in a Lease is compared with what
//! stood there before, and never with a clock.

use std::{collections::HashMap, time::Duration};

use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use tokio::time::Instant;

use super::{
    Sayings,
    spelled::{ANNOTATION, read, spelled},
};

/// For how long a replica that is not heard of still counts.
pub(super) const LASTS: Duration = Duration::from_secs(30);
/// After how long without a renewal a Lease is taken for one that nobody will write any more.
const LEFT_BEHIND: Duration = Duration::from_secs(300);

/// The other replicas, by the names of their Leases.
#[derive(Default)]
pub(super) struct Others(HashMap<String, Other>);

struct Other {
    /// When it says that it began, by its own clock.
    began: Option<MicroTime>,
    /// When it says that it wrote last.
    renewed: Option<MicroTime>,
    version: Option<String>,
    says: Sayings,
    /// It was seen to write.
    lives: bool,
    /// When that was last, or when the Lease was found.
    seen_at: Instant,
    /// When the Lease may be deleted.
    delete_at: Instant,
}

impl Others {
    /// Notes what stands in another's Lease. Answers whether it is one that has not heard of us.
    pub(super) fn note(&mut self, lease: &Lease, now: Instant) -> bool {
        let Some(name) = lease.metadata.name.clone() else { return false };
        let spec = lease.spec.as_ref();
        let (began, renewed) =
            (spec.and_then(|spec| spec.acquire_time.clone()), spec.and_then(|spec| spec.renew_time.clone()));
        let says = lease.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION));
        let says = says.map(|text| read(text)).unwrap_or_default();
        let version = lease.metadata.resource_version.clone();
        let before = self.0.get(&name);
        if let Some(before) = before.filter(|before| before.renewed == renewed) {
            let (lives, seen_at, delete_at) = (before.lives, before.seen_at, before.delete_at);
            self.0.insert(name, Other { began, renewed, version, says, lives, seen_at, delete_at });
            return false;
        }
        let is_new = before.is_none_or(|before| before.began != began);
        let lives = before.is_some();
        self.0.insert(name, Other { began, renewed, version, says, lives, seen_at: now, delete_at: now + LEFT_BEHIND });
        is_new
    }

    /// Its Lease is gone.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// What those say that live, in an order that does not depend on their names.
    pub(super) fn heard(&self, now: Instant) -> Vec<Sayings> {
        let living = self.0.values().filter(|other| other.lives && other.seen_at + LASTS > now);
        let mut heard: Vec<Sayings> =
            living.map(|other| other.says.clone()).filter(|says| *says != Sayings::default()).collect();
        heard.sort_by_cached_key(spelled);
        heard
    }

    /// The Leases that nobody will write any more, with their versions.
    pub(super) fn left_behind(&self, now: Instant) -> Vec<(String, Option<String>)> {
        let left = self.0.iter().filter(|(_, other)| other.delete_at <= now);
        left.map(|(name, other)| (name.clone(), other.version.clone())).collect()
    }

    /// A Lease was to be deleted: if it is still there, not again at once.
    pub(super) fn put_off(&mut self, name: &str, now: Instant) {
        if let Some(other) = self.0.get_mut(name) {
            other.delete_at = now + LEFT_BEHIND;
        }
    }

    /// When something of this is other because time has passed; `deletes` says whether it matters which can be deleted.
    pub(super) fn changes_at(&self, now: Instant, deletes: bool) -> Option<Instant> {
        let silent = self.0.values().filter(|other| other.lives).map(|other| other.seen_at + LASTS);
        let deleted = self.0.values().filter(|_| deletes).map(|other| other.delete_at);
        silent.filter(|at| *at > now).chain(deleted).min()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;
    use crate::model::{Edition, ObjectName, Programmed, Said};

    fn says() -> Sayings {
        let said = Said { edition: Edition::default(), programmed: Programmed::Refused("no".to_owned()) };
        Sayings { of: [(ObjectName::new("default", "web"), said)].into(), is_partial: false }
    }

    /// The Lease of a replica that began and wrote at these seconds, by a clock of its own.
    fn lease(began: i64, renewed: i64) -> Lease {
        let time = |second| Some(MicroTime(Timestamp::from_second(second).expect("a time")));
        Lease {
            metadata: ObjectMeta {
                name: Some("group-other".to_owned()),
                annotations: Some([(ANNOTATION.to_owned(), spelled(&says()))].into()),
                resource_version: Some(renewed.to_string()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec { acquire_time: time(began), renew_time: time(renewed), ..LeaseSpec::default() }),
        }
    }

    #[test]
    fn a_lease_speaks_only_once_it_was_seen_to_be_renewed_and_not_for_ever() {
        let (mut others, begin) = (Others::default(), Instant::now());
        let at = |second| begin + Duration::from_secs(second);
        assert!(others.note(&lease(1, 2), at(0)), "it does not know us");
        assert_eq!(others.heard(at(0)), [], "it may have been dead for years");
        // The list comes again.
        assert!(!others.note(&lease(1, 2), at(1)));
        assert_eq!(others.heard(at(1)), []);
        assert!(!others.note(&lease(1, 3), at(2)));
        assert_eq!((others.heard(at(2)), others.changes_at(at(2), false)), (vec![says()], Some(at(32))));
        assert_eq!((others.heard(at(32)), others.changes_at(at(32), false)), (vec![], None));
        assert!(others.note(&lease(40, 40), at(40)), "it began anew");
        assert_eq!(others.heard(at(40)), [says()]);
    }

    #[test]
    fn what_nobody_renews_is_to_be_deleted_once_and_later_again() {
        let (mut others, begin) = (Others::default(), Instant::now());
        let at = |second| begin + Duration::from_secs(second);
        others.note(&lease(1, 2), at(0));
        assert_eq!((others.left_behind(at(299)), others.changes_at(at(299), true)), (vec![], Some(at(300))));
        let left = [("group-other".to_owned(), Some("2".to_owned()))];
        assert_eq!(others.left_behind(at(300)), left);
        others.put_off("group-other", at(300));
        assert_eq!(others.left_behind(at(599)), []);
        assert_eq!(others.left_behind(at(600)), left);
        others.note(&lease(1, 3), at(601));
        assert_eq!(others.left_behind(at(601)), []);
        others.forget("group-other");
        assert_eq!(others.changes_at(at(601), true), None);
    }
}
