//! The last calls, and what went wrong last in each hook: for people, on the admin page.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use super::Hook;
use crate::model::ObjectName;

/// How many calls are kept.
const KEPT: usize = 64;

/// The last calls.
#[derive(Debug, Default)]
pub struct Calls(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    last: VecDeque<Call>,
    errors: BTreeMap<Hook, Failure>,
}

/// A call that was answered.
#[derive(Clone, Debug)]
pub struct Call {
    /// When the answer was ready.
    pub at: SystemTime,
    /// Which hook.
    pub hook: Hook,
    /// Who called; `unix` on a socket file.
    pub peer: String,
    /// The size of the request, in bytes.
    pub bytes_in: usize,
    /// The size of the response, in bytes.
    pub bytes_out: usize,
    /// From the whole request to the whole response.
    pub took: Duration,
    /// How many resources were changed or added.
    pub changed: usize,
    /// The Gateways it was about, as far as that was looked at.
    pub gateways: Vec<ObjectName>,
    /// Why the answer is an echo or an error, if it is one out of need.
    pub error: Option<String>,
}

/// What went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When.
    pub at: SystemTime,
    /// In words.
    pub error: String,
}

impl Calls {
    /// Keeps a call. The lock is held for as long as that takes.
    pub fn note(&self, call: Call) {
        let mut kept = self.lock();
        if let Some(error) = &call.error {
            kept.errors.insert(call.hook, Failure { at: call.at, error: error.clone() });
        }
        if kept.last.len() == KEPT {
            kept.last.pop_front();
        }
        kept.last.push_back(call);
    }

    /// The last calls, the newest one first.
    pub fn last(&self) -> Vec<Call> {
        self.lock().last.iter().rev().cloned().collect()
    }

    /// What went wrong last, by hook.
    pub fn errors(&self) -> BTreeMap<Hook, Failure> {
        self.lock().errors.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}
