//! Collects what is wrong with one object while it is compiled. Never decides what follows from it.

use crate::model::{ObjectKey, Problem, Reason};

/// The problems of one object, in the order in which they were found.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    object: &'a ObjectKey,
    problems: Vec<Problem>,
}

impl<'a> Findings<'a> {
    /// Nothing found yet.
    pub(super) fn new(object: &'a ObjectKey) -> Self {
        Self { object, problems: Vec::new() }
    }

    /// Notes what is wrong with a field.
    pub(super) fn note(&mut self, field: impl Into<String>, reason: Reason, message: impl Into<String>) {
        self.add(Problem::new(self.object.clone(), field, reason, message));
    }

    /// Notes a value that can not be used as it stands.
    pub(super) fn unsupported(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.note(field, Reason::UnsupportedValue, message);
    }

    /// Notes a problem that somebody else described.
    pub(super) fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// What was found.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}
