//! Which file gave which objects, and what that makes of the world. Pure: it is handed the content of files.
//!
//! The rules, all of them about not taking away what works:
//!
//! * **Twice the same object**: the first counts, by the order of paths and then by the place in the file, whatever was
//!   read first. The others are problems; when the first goes, the next takes over.
//! * **A file that can not be read** (not UTF-8, no permission) keeps what it gave before, and so does one that has become
//!   empty without a trace: editors and `cp` truncate before they write. A comment is enough to say that nothing is meant.
//! * **A document that can not be read** loses no other. But whom it was about can not be known, so what the file gave
//!   before and does not mention now stays until the file is whole again. An object that its schema refuses stays as it
//!   was, as it would in a cluster.
//! * What stays like this counts less than the same object in a file that is whole.
//!
//! A document that has not changed is not read again, whatever else in its file did.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use xxhash_rust::xxh3::xxh3_128;

use super::{
    located::{Located, Subject},
    manifest::{self, Format, Part, PartError},
    object::{Entry, read_object},
};
use crate::{
    api::{Finding, Object},
    model::{ObjectKey, Problem, Reason},
    store::Change,
};

/// How many problems of one file are listed one by one.
const MAX_PROBLEMS_LISTED: usize = 1000;

/// What is said of a problem that has taken nothing away.
const KEPT: &str = " (what was there before stays in force)";

/// The objects of any number of files.
#[derive(Debug, Default)]
pub struct FileWorld {
    files: BTreeMap<Arc<Path>, File>,
    /// Everyone who claims an object; the first counts.
    claims: HashMap<ObjectKey, BTreeMap<Rank, Claim>>,
    /// The objects that stand in more than one place, kept up with `claims`.
    contested: BTreeSet<ObjectKey>,
}

/// What a file gave.
#[derive(Debug, Default)]
struct File {
    /// What became of each document, by the hash of its text.
    parts: HashMap<u128, Arc<Outcome>>,
    /// The objects it claims, and with which rank.
    claimed: Vec<(ObjectKey, Rank)>,
    /// What is wrong in it, but for objects that stand elsewhere too.
    problems: Vec<Located>,
}

/// What became of one document.
#[derive(Debug)]
struct Outcome {
    entries: Vec<Entry>,
    error: Option<PartError>,
}

/// Who counts if several claim one object: the smallest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Whether the file no longer says so, but can not be read either.
    kept: bool,
    file: Arc<Path>,
    /// The how manieth object of the file.
    position: usize,
}

#[derive(Clone, Debug)]
struct Claim {
    /// The line on which the document begins.
    line: u32,
    object: Object,
    /// The hash of the document's text and the how manieth object of the document: if they are equal, the object is.
    origin: (u128, usize),
}

impl FileWorld {
    /// No file at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the content of a file, in place of what it had before. Returns what that changed.
    ///
    /// Files whose name ends in `.json` are JSON, all others YAML.
    pub fn load(&mut self, path: &Path, content: &[u8]) -> Vec<Change> {
        let path = self.intern(path);
        let text = match manifest::decode(content) {
            Ok(text) => text,
            Err(problem) => return self.keep(&path, Located::unreadable(&path, 0, problem)),
        };
        let file = self.files.entry(Arc::clone(&path)).or_default();
        if content.is_empty() && !file.claimed.is_empty() {
            let message = "the file has become empty; delete it or write a comment into it if nothing is meant";
            return self.keep(&path, Located::whole_file(Arc::clone(&path), message));
        }

        let format = format_of(&path);
        let old_parts = std::mem::take(&mut file.parts);
        let mut reading = Reading::of(Arc::clone(&path));
        for (index, part) in manifest::split(format, text).into_iter().enumerate() {
            let hash = xxh3_128(part.text.as_bytes());
            let outcome = match old_parts.get(&hash).or_else(|| file.parts.get(&hash)) {
                Some(outcome) => Arc::clone(outcome),
                None => Arc::new(read_document(format, part.text)),
            };
            reading.add(index, &part, hash, &outcome);
            file.parts.insert(hash, outcome);
        }
        let before = std::mem::take(&mut file.claimed);
        for (key, rank) in &before {
            if let Some(claim) = self.claims.get(key).and_then(|claims| claims.get(rank)) {
                reading.keep(key, rank, claim);
            }
        }
        let Reading { claims: after, problems, unlisted, .. } = reading;
        file.problems = problems;
        if unlisted > 0 {
            file.problems
                .push(Located::whole_file(path, format!("{unlisted} more problems of this file are not listed")));
        }
        file.claimed = after.iter().map(|(key, rank, _)| (key.clone(), rank.clone())).collect();
        self.replace(before, after)
    }

    /// Notes that a file can not be read, and why. What it gave before stays, but counts less. Returns what that changed.
    pub fn unreadable(&mut self, path: &Path, message: impl Into<String>) -> Vec<Change> {
        let path = self.intern(path);
        let problem = Located::whole_file(Arc::clone(&path), message);
        self.keep(&path, problem)
    }

    fn keep(&mut self, path: &Arc<Path>, mut problem: Located) -> Vec<Change> {
        let file = self.files.entry(Arc::clone(path)).or_default();
        if !file.claimed.is_empty() {
            problem.message.push_str(KEPT);
        }
        file.problems = vec![problem];
        let before = std::mem::take(&mut file.claimed);
        let mut after = Vec::new();
        for (key, rank) in &before {
            let claim = self.claims[key][rank].clone();
            after.push((key.clone(), Rank { kept: true, ..rank.clone() }, claim));
        }
        file.claimed = after.iter().map(|(key, rank, _)| (key.clone(), rank.clone())).collect();
        self.replace(before, after)
    }

    /// Forgets a file that is gone. Returns what that changed.
    pub fn remove(&mut self, path: &Path) -> Vec<Change> {
        match self.files.remove(path) {
            Some(file) => self.replace(file.claimed, Vec::new()),
            None => Vec::new(),
        }
    }

    /// The files it knows of.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(|path| &**path)
    }

    /// The objects that count, in no particular order.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.claims.values().filter_map(|claims| claims.first_key_value()).map(|(_, claim)| &claim.object)
    }

    /// Everything that is wrong with the files and with each of their objects on its own, by file and place.
    pub fn problems(&self) -> Vec<Located> {
        let mut all: Vec<Located> = self.files.values().flat_map(|file| &file.problems).cloned().collect();
        for key in &self.contested {
            let mut places = self.claims[key].iter().filter(|(rank, _)| !rank.kept);
            let Some((winner, claim)) = places.next() else { continue };
            for (rank, loser) in places {
                let winner = winner.file.display();
                let message =
                    format!("{winner}, line {} has the same object, and that one counts; delete one", claim.line);
                let problem = Problem::new(key.clone(), "", Reason::DuplicateObject, message);
                all.push(Located::of_object(Arc::clone(&rank.file), loser.line, rank.position, &problem));
            }
        }
        all.sort();
        all.dedup();
        all
    }

    /// The place of a problem that was found in an object by others; the file is empty if no file has the object.
    pub fn locate(&self, problem: &Problem) -> Located {
        match self.claims.get(&problem.object).and_then(BTreeMap::first_key_value) {
            Some((rank, claim)) => Located::of_object(Arc::clone(&rank.file), claim.line, rank.position, problem),
            None => Located::of_object(Path::new("").into(), 0, 0, problem),
        }
    }

    /// One `Arc` for each path, however often it is named.
    fn intern(&self, path: &Path) -> Arc<Path> {
        self.files.get_key_value(path).map_or_else(|| path.into(), |(path, _)| Arc::clone(path))
    }

    /// Takes claims away and puts others in their place; what that makes of each object.
    fn replace(&mut self, before: Vec<(ObjectKey, Rank)>, after: Vec<(ObjectKey, Rank, Claim)>) -> Vec<Change> {
        let mut touched: BTreeMap<ObjectKey, Option<Claim>> = BTreeMap::new();
        for key in before.iter().map(|(key, _)| key).chain(after.iter().map(|(key, _, _)| key)) {
            if !touched.contains_key(key) {
                touched.insert(key.clone(), self.counting(key).cloned());
            }
        }
        for (key, rank) in before {
            if let Some(claims) = self.claims.get_mut(&key) {
                claims.remove(&rank);
            }
        }
        for (key, rank, claim) in after {
            self.claims.entry(key).or_default().insert(rank, claim);
        }
        let mut changes = Vec::new();
        for (key, was) in touched {
            match self.claims.get(&key).map_or(0, BTreeMap::len) {
                0 => drop(self.claims.remove(&key)),
                1 => {}
                _ => drop(self.contested.insert(key.clone())),
            }
            if self.claims.get(&key).is_none_or(|claims| claims.len() < 2) {
                self.contested.remove(&key);
            }
            match (was, self.counting(&key)) {
                (None, None) => {}
                (Some(was), Some(is)) if was.origin == is.origin || was.object == is.object => {}
                (_, Some(is)) => changes.push(Change::Upsert(is.object.clone())),
                (Some(_), None) => changes.push(Change::Remove(key)),
            }
        }
        changes
    }

    fn counting(&self, key: &ObjectKey) -> Option<&Claim> {
        self.claims.get(key).and_then(BTreeMap::first_key_value).map(|(_, claim)| claim)
    }
}

/// What is gathered from the documents of one file.
struct Reading {
    file: Arc<Path>,
    /// How many objects (or what could have been some) have been seen.
    position: usize,
    claims: Vec<(ObjectKey, Rank, Claim)>,
    claimed: HashSet<ObjectKey>,
    /// The objects that are there and are refused.
    refused: HashSet<ObjectKey>,
    /// Whether something can not be read, so that nobody knows what the file says.
    unreadable: bool,
    problems: Vec<Located>,
    /// How many problems are left out of `problems`.
    unlisted: usize,
}

impl Reading {
    fn of(file: Arc<Path>) -> Self {
        Self {
            file,
            position: 0,
            claims: Vec::new(),
            claimed: HashSet::new(),
            refused: HashSet::new(),
            unreadable: false,
            problems: Vec::new(),
            unlisted: 0,
        }
    }

    /// Takes in a document.
    fn add(&mut self, index: usize, part: &Part<'_>, hash: u128, outcome: &Outcome) {
        if let Some(error) = &outcome.error {
            self.unreadable = true;
            self.problem(Located::unreadable(&self.file, self.position, error.at(index, part)));
            self.position += 1;
        }
        let line = part.content_line;
        for (ordinal, entry) in outcome.entries.iter().enumerate() {
            let position = self.position;
            self.position += 1;
            for Finding { field, reason, message } in &entry.findings {
                self.problem(Located {
                    line,
                    position,
                    subject: entry.subject.clone(),
                    field: field.clone(),
                    reason: *reason,
                    ..Located::whole_file(Arc::clone(&self.file), message.clone())
                });
            }
            match (&entry.object, &entry.subject) {
                (Some(object), _) => {
                    let rank = Rank { kept: false, file: Arc::clone(&self.file), position };
                    let claim = Claim { line, object: object.clone(), origin: (hash, ordinal) };
                    self.claimed.insert(object.key());
                    self.claims.push((object.key(), rank, claim));
                }
                (None, Subject::Object(key)) => drop(self.refused.insert(key.clone())),
                (None, _) => {
                    self.unreadable |= entry.findings.iter().any(|finding| finding.reason != Reason::UnknownKind);
                }
            }
        }
    }

    /// Takes in an object that the file gave before: it stays if the file does not mention it now and can not be
    /// believed, or mentions it in a form that is refused.
    fn keep(&mut self, key: &ObjectKey, rank: &Rank, claim: &Claim) {
        if self.claimed.contains(key) {
            return;
        }
        let about = if self.refused.contains(key) {
            self.problems
                .iter_mut()
                .find(|problem| matches!(&problem.subject, Subject::Object(subject) if subject == key))
        } else if self.unreadable {
            self.problems.iter_mut().find(|problem| problem.reason == Reason::Unreadable)
        } else {
            return;
        };
        if let Some(problem) = about
            && !problem.message.ends_with(KEPT)
        {
            problem.message.push_str(KEPT);
        }
        self.claims.push((key.clone(), Rank { kept: true, ..rank.clone() }, claim.clone()));
    }

    fn problem(&mut self, problem: Located) {
        if self.problems.len() < MAX_PROBLEMS_LISTED { self.problems.push(problem) } else { self.unlisted += 1 }
    }
}

fn read_document(format: Format, text: &str) -> Outcome {
    match manifest::read_part(format, text) {
        Ok(found) => {
            let entries = found.into_iter().filter_map(|found| read_object(&found.path, found.value)).collect();
            Outcome { entries, error: None }
        }
        Err(error) => Outcome { entries: Vec::new(), error: Some(error) },
    }
}

fn format_of(path: &Path) -> Format {
    match path.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("json") => Format::Json,
        _ => Format::Yaml,
    }
}
