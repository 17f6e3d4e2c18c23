//! Which statuses could not be written, and when they are tried again. Pure: the time is an argument.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::model::{Kind, ObjectKey, Programmed, Report};

/// After how long a write that failed is tried again, the first time; twice as long each time after that.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// And not longer than this when the API server did not answer, or may take something else.
const LONGEST: Duration = Duration::from_secs(10);
/// And this when somebody has to do something first.
const LONGEST_FORBIDDEN: Duration = Duration::from_secs(120);
/// After how long the same is tried again although nothing has changed: the API server's rules may have.
const SAME_AGAIN: Duration = Duration::from_secs(300);

/// What a status is made from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Made {
    pub(super) report: Option<Arc<Report>>,
    /// Nothing while nobody has spoken of the Gateway as it is now.
    pub(super) programmed: Option<Programmed>,
    /// The version of the object that it is written to.
    pub(super) version: String,
}

/// Why a status was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The API server did not answer, or not now.
    Unanswered,
    /// This program may not write it.
    Forbidden,
    /// The API server does not take what it says (422).
    Invalid,
}

impl Cause {
    pub(super) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                408 | 429 | 500.. => Self::Unanswered,
                422 => Self::Invalid,
                _ => Self::Forbidden,
            },
            _ => Self::Unanswered,
        }
    }
}

/// The writes that failed since one did not, by object.
#[derive(Default)]
pub(super) struct Failures {
    failures: HashMap<ObjectKey, Failure>,
    /// Kinds of which it was said that they are forbidden: once for all objects.
    forbidden: HashSet<Kind>,
}

struct Failure {
    times: u32,
    words: String,
    made: Made,
    /// When anything may be tried.
    anything_at: Instant,
    /// When the same may be tried.
    same_at: Instant,
}

impl Failures {
    /// Until when the status that is made from this is not to be written.
    pub(super) fn rests_until(&self, key: &ObjectKey, made: &Made, now: Instant) -> Option<Instant> {
        let failure = self.failures.get(key)?;
        let until = if failure.made == *made { failure.same_at } else { failure.anything_at };
        (now < until).then_some(until)
    }

    /// A write failed. Answers when to try again, and whether that is to be said: the same words are said once.
    pub(super) fn note(
        &mut self,
        key: &ObjectKey,
        made: Made,
        cause: &Cause,
        words: &str,
        now: Instant,
    ) -> (Instant, bool) {
        let before = self.failures.remove(key);
        let times = before.as_ref().map_or(0, |before| before.times);
        let pause = RETRY * 2_u32.saturating_pow(times.min(16));
        let (anything, same) = match cause {
            Cause::Unanswered => (pause.min(LONGEST), pause.min(LONGEST)),
            Cause::Forbidden => (pause.min(LONGEST_FORBIDDEN), pause.min(LONGEST_FORBIDDEN)),
            Cause::Invalid => (pause.min(LONGEST), SAME_AGAIN),
        };
        let is_new = match cause {
            Cause::Forbidden => self.forbidden.insert(key.kind),
            _ => before.is_none_or(|before| before.words != words),
        };
        let (anything_at, same_at) = (now + anything, now + same);
        let failure = Failure { times: times + 1, words: words.to_owned(), made, anything_at, same_at };
        self.failures.insert(key.clone(), failure);
        (same_at, is_new)
    }

    /// A write succeeded.
    pub(super) fn succeeded(&mut self, key: &ObjectKey) {
        self.failures.remove(key);
        self.forbidden.remove(&key.kind);
    }

    /// The object is gone.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.failures.remove(key);
    }

    /// What another replica wrote meanwhile is not known.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectName;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Kind::Gateway, ObjectName::new("default", name))
    }

    fn made(version: &str) -> Made {
        Made { report: None, programmed: None, version: version.to_owned() }
    }

    #[test]
    fn each_failure_waits_longer_than_the_one_before_and_is_said_when_its_words_are_new() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let mut note = |words| {
            let (at, is_new) = failures.note(&key("a"), made("1"), &Cause::Unanswered, words, now);
            ((at - now).as_secs(), is_new)
        };
        let waits = [note("late"), note("late"), note("late"), note("never"), note("never"), note("never")];
        assert_eq!(waits, [(1, true), (2, false), (4, false), (8, true), (10, false), (10, false)]);
        failures.succeeded(&key("a"));
        assert_eq!(failures.rests_until(&key("a"), &made("1"), now), None);
    }

    #[test]
    fn what_the_api_server_does_not_take_waits_for_another_report_or_object() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let at = |second| now + Duration::from_secs(second);
        failures.note(&key("a"), made("1"), &Cause::Invalid, "too many", now);
        assert_eq!(failures.rests_until(&key("a"), &made("1"), at(10)), Some(at(300)));
        assert_eq!(failures.rests_until(&key("a"), &made("2"), at(0)), Some(at(1)), "but not at once");
        assert_eq!(failures.rests_until(&key("a"), &made("2"), at(1)), None);
        let other = Made { programmed: Some(Programmed::Acknowledged), ..made("1") };
        assert_eq!(failures.rests_until(&key("a"), &other, at(1)), None);
        assert_eq!(failures.rests_until(&key("a"), &made("1"), at(300)), None, "its rules may be others");
        assert_eq!(failures.rests_until(&key("b"), &made("1"), at(0)), None);
    }

    #[test]
    fn a_permission_that_is_missing_is_said_once_for_a_kind() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let mut note = |name| failures.note(&key(name), made("1"), &Cause::Forbidden, name, now).1;
        assert_eq!([note("a"), note("b"), note("a")], [true, false, false]);
        for times in 0..10 {
            let (at, _) = failures.note(&key("a"), made("1"), &Cause::Forbidden, "no", now);
            assert!((at - now).as_secs() <= 120, "after {times} more");
        }
        failures.succeeded(&key("b"));
        assert!(failures.note(&key("a"), made("1"), &Cause::Forbidden, "no", now).1, "it is missing again");
    }
}
