//! A problem and the place in a file where it stands: one line of `validate`.

use std::{fmt, path::Path, sync::Arc};

use super::manifest::Unreadable;
use crate::model::{ObjectKey, Problem, Reason, Severity};

/// What a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A file, a document or a place in it that is no object.
    Text,
    /// An object.
    Object(ObjectKey),
    /// Something that is or looks like an object, of no kind that is read: `Kind namespace/name` as far as it is known.
    Other(String),
}

/// One thing that is wrong, and where. The order is that of files and of the places in them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Located {
    /// The file (or folder), as the user would write it.
    pub file: Arc<Path>,
    /// The line on which the document begins or the mistake stands, from 1; 0 when it is the whole file.
    pub line: u32,
    /// The column in characters, from 1; 0 when not known.
    pub column: u32,
    /// The how manieth object of the file it is, from 0; tells the items of a list apart.
    pub position: usize,
    /// What it is about.
    pub subject: Subject,
    /// The path of the field, such as `spec.rules[0]`; empty for the whole.
    pub field: String,
    /// Why, from the closed list.
    pub reason: Reason,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl Located {
    /// A problem of a whole file or folder.
    pub fn whole_file(file: impl Into<Arc<Path>>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            position: 0,
            subject: Subject::Text,
            field: String::new(),
            reason: Reason::Unreadable,
            message: message.into(),
        }
    }

    /// A part of a file that can not be read.
    pub(super) fn unreadable(file: &Arc<Path>, position: usize, problem: Unreadable) -> Self {
        let Unreadable { line, column, message, .. } = problem;
        Self { line, column, position, ..Self::whole_file(Arc::clone(file), message) }
    }

    /// A problem of an object, found by whatever looked at it.
    pub fn of_object(file: Arc<Path>, line: u32, position: usize, problem: &Problem) -> Self {
        Self {
            line,
            position,
            subject: Subject::Object(problem.object.clone()),
            field: problem.field.clone(),
            reason: problem.reason,
            ..Self::whole_file(file, problem.message.clone())
        }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.reason.severity()
    }
}

impl fmt::Display for Located {
    /// `FILE: Kind namespace/name: field: message` for an object, `FILE: line L, column C: field: message` for text; what
    /// is empty or not known is left out. Always one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", one_line(&self.file.display().to_string()))?;
        match (&self.subject, self.line, self.column) {
            (Subject::Object(object), ..) => write!(f, "{}: ", one_line(&object.to_string()))?,
            (Subject::Other(name), ..) => write!(f, "{}: ", one_line(name))?,
            (Subject::Text, 0, _) => {}
            (Subject::Text, line, 0) => write!(f, "line {line}: ")?,
            (Subject::Text, line, column) => write!(f, "line {line}, column {column}: ")?,
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", one_line(&self.field))?;
        }
        f.write_str(&one_line(&self.message))
    }
}

/// The text without line breaks and other control characters, so that nothing in a file can forge a second line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
