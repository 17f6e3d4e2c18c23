//! The text of one file, taken apart into documents. Pure.
//!
//! A file is cut into parts first (YAML at its `---` lines, JSON at its top-level values), and each part is read on its
//! own: what is broken in one loses no other, and a part that has not changed need not be read again. Never knows what
//! the documents mean.

use std::fmt;

use serde_json::Value;

use super::value::Strict;

/// The largest file that is read, in bytes. One Kubernetes object is at most about 1.5 MiB (etcd's limit).
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// How deep `List` objects may stand in one another.
const MAX_LIST_DEPTH: usize = 4;

/// In which language a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// YAML, one or more documents. JSON is YAML too.
    Yaml,
    /// JSON, one or more values one after the other.
    Json,
}

/// One value of a file: most often an object, but nothing here makes sure of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Which document of the file it is (or stands in, if it is an item of a `List`), from 0; empty ones do not count.
    pub index: usize,
    /// The line on which that document begins, from 1.
    pub line: u32,
    /// Where in the document it stands: empty for the document itself, or such as `items[3]`.
    pub path: String,
    /// What it says.
    pub value: Value,
}

/// A part of a file that can not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Which document of the file it is, from 0; 0 also when it is the whole file.
    pub index: usize,
    /// The line of the mistake, from 1; 0 when it is the whole file.
    pub line: u32,
    /// The column of the mistake in characters, from 1; 0 when it is the whole line or file.
    pub column: u32,
    /// What is wrong, without the position and without a line break.
    pub message: String,
}

impl fmt::Display for Unreadable {
    /// `line L, column C: message`, as far as the position is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => f.write_str(&self.message),
            (line, 0) => write!(f, "line {line}: {}", self.message),
            (line, column) => write!(f, "line {line}, column {column}: {}", self.message),
        }
    }
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// The documents that can be read, `List` objects replaced by their items.
    pub documents: Vec<Document>,
    /// The parts that can not.
    pub problems: Vec<Unreadable>,
}

/// Reads a whole file.
pub fn read(format: Format, content: &[u8]) -> Manifest {
    let mut manifest = Manifest::default();
    let text = match decode(content) {
        Ok(text) => text,
        Err(problem) => {
            manifest.problems.push(problem);
            return manifest;
        }
    };
    for (index, part) in split(format, text).into_iter().enumerate() {
        match read_part(format, part.text) {
            Ok(found) => manifest.documents.extend(found.into_iter().map(|found| Document {
                index,
                line: part.content_line,
                path: found.path,
                value: found.value,
            })),
            Err(problem) => manifest.problems.push(problem.at(index, &part)),
        }
    }
    manifest
}

/// The content as text, without a byte order mark.
///
/// # Errors
///
/// When it is too large ([`MAX_FILE_BYTES`]), has NUL bytes or is not UTF-8.
pub fn decode(content: &[u8]) -> Result<&str, Unreadable> {
    let whole_file = |message: String| Unreadable { index: 0, line: 0, column: 0, message };
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(whole_file(too_large(content.len() as u64)));
    }
    if content.contains(&0) {
        return Err(whole_file("this is a binary file, or text that is not UTF-8; manifests are UTF-8 text".into()));
    }
    match str::from_utf8(content) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let good = &content[..error.valid_up_to()];
            let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
            let message = "a byte here is not UTF-8; manifests are UTF-8 text".into();
            Err(Unreadable { index: 0, line: saturating_u32(line), column: 0, message })
        }
    }
}

/// What to say about a file of more than [`MAX_FILE_BYTES`].
pub fn too_large(bytes: u64) -> String {
    format!("the file has {bytes} bytes, and at most {MAX_FILE_BYTES} are read; split it")
}

/// A part of a file: the text of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The text, with the `---` line before it.
    pub text: &'a str,
    /// The line on which the text begins, from 1.
    pub first_line: u32,
    /// The first line of the text that has more on it than a comment or `---`, from 1.
    pub content_line: u32,
}

/// Cuts a file into the texts of its documents; empty documents are left out.
pub fn split(format: Format, text: &str) -> Vec<Part<'_>> {
    match format {
        Format::Yaml => split_yaml(text),
        Format::Json => split_json(text),
    }
}

/// One value found in a part.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Where in the document it stands: empty, or such as `items[3]`.
    pub path: String,
    /// What it says.
    pub value: Value,
}

/// A mistake in a part, its position counted from the part's beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartError {
    /// How many lines of the part are before the mistake; nothing when its place is not known.
    pub line: Option<u32>,
    /// The column in characters, from 1; 0 when not known.
    pub column: u32,
    /// What is wrong, in one line.
    pub message: String,
}

impl PartError {
    /// The same mistake with its place in the file.
    pub fn at(&self, index: usize, part: &Part<'_>) -> Unreadable {
        let line = match self.line {
            Some(line) => part.first_line.saturating_add(line),
            None => part.content_line,
        };
        Unreadable { index, line, column: self.column, message: self.message.clone() }
    }
}

/// Reads the text of one document, with lists flattened; nothing is found in `null`.
///
/// # Errors
///
/// The first mistake in it. A document is whole or not there at all.
pub fn read_part(format: Format, text: &str) -> Result<Vec<Found>, PartError> {
    let value = match format {
        Format::Json => read_json(text)?,
        Format::Yaml => {
            let body = text.trim_start();
            let body = body.strip_prefix("---").unwrap_or(body);
            // Most of what machines write is JSON, which is read about twenty times as fast as YAML. What is not quite
            // JSON may still be YAML in flow style.
            let json = if body.trim_start().starts_with('{') { read_json(body).ok() } else { None };
            match json {
                Some(value) => value,
                None => read_yaml(text)?,
            }
        }
    };
    let mut found = Vec::new();
    flatten(String::new(), value, 0, &mut found)?;
    Ok(found)
}

fn split_yaml(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut first_line = 1;
    let mut content_line = None;
    let mut has_directive = false;
    let mut after_marker = false;
    let mut offset = 0;
    let mut line_number = 0_u32;
    for line in text.split_inclusive('\n') {
        line_number = line_number.saturating_add(1);
        let end = offset + line.len();
        if is_marker(line, "---") {
            if let Some(content_line) = content_line.take() {
                parts.push(Part { text: &text[start..offset], first_line, content_line });
                has_directive = false;
            }
            // What stands before is an empty document or a comment; but a directive belongs to what follows.
            if !has_directive || after_marker {
                (start, first_line) = (offset, line_number);
                has_directive = false;
            }
            after_marker = true;
            let rest = line[3..].trim();
            if !rest.is_empty() && !rest.starts_with('#') {
                content_line = Some(line_number);
            }
        } else if is_marker(line, "...") {
            if let Some(content_line) = content_line.take() {
                parts.push(Part { text: &text[start..offset], first_line, content_line });
            }
            (start, first_line) = (end, line_number.saturating_add(1));
            (has_directive, after_marker) = (false, false);
        } else if content_line.is_none() {
            let trimmed = line.trim();
            if line.starts_with('%') && !after_marker {
                has_directive = true;
            } else if !trimmed.is_empty() && !trimmed.starts_with('#') {
                content_line = Some(line_number);
            }
        }
        offset = end;
    }
    if let Some(content_line) = content_line {
        parts.push(Part { text: &text[start..], first_line, content_line });
    }
    parts
}

/// Whether a line is a document marker: YAML 1.2.2 §6.5, "the line starts with the marker, and white space or the end of
/// the line follows". In no kind of scalar may such a line stand, so that a cut here never goes through one.
fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Cuts at the ends of top-level objects and arrays, by counting brackets outside of strings. In text that is not JSON
/// the cuts are arbitrary, but then the part with the mistake does not parse.
fn split_json(text: &str) -> Vec<Part<'_>> {
    let bytes = text.as_bytes();
    let mut parts = Vec::new();
    let mut line = 1_u32;
    let mut start = None;
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (offset, byte) in bytes.iter().enumerate() {
        if start.is_none() && !byte.is_ascii_whitespace() {
            start = Some((offset, line));
        }
        if *byte == b'\n' {
            line = line.saturating_add(1);
        }
        let ends = if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            false
        } else {
            match byte {
                b'"' => in_string = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && matches!(byte, b'}' | b']')
        };
        if ends && let Some((begin, first_line)) = start.take() {
            parts.push(Part { text: &text[begin..=offset], first_line, content_line: first_line });
        }
    }
    if let Some((begin, first_line)) = start {
        parts.push(Part { text: &text[begin..], first_line, content_line: first_line });
    }
    parts
}

fn read_json(text: &str) -> Result<Value, PartError> {
    serde_json::from_str::<Strict>(text).map(|Strict(value)| value).map_err(|error| {
        let position = format!(" at line {} column {}", error.line(), error.column());
        let message = error.to_string();
        let message = message.strip_suffix(&position).unwrap_or(&message);
        PartError {
            line: error.line().checked_sub(1).map(saturating_u32),
            column: saturating_u32(error.column()),
            message: format!("this is not JSON: {}", one_line(message)),
        }
    })
}

fn read_yaml(text: &str) -> Result<Value, PartError> {
    serde_saphyr::from_str_with_options::<Strict>(text, yaml_options()).map(|Strict(value)| value).map_err(|error| {
        let location = error.location();
        let message = error.to_string();
        let mut message = message.as_str();
        if let Some(at) = &location {
            let position = format!(" at line {}, column {}", at.line(), at.column());
            message = message.strip_suffix(&position).unwrap_or(message);
        }
        PartError {
            line: location.and_then(|at| at.line().checked_sub(1)).map(saturating_u32),
            column: location.map_or(0, |at| saturating_u32(at.column())),
            message: format!("this is not YAML: {}", one_line(message)),
        }
    })
}

/// The limits fit the largest file that is read; they are there for aliases that multiply. Numbers with a leading zero
/// are octal, as for kubectl.
fn yaml_options() -> serde_saphyr::Options {
    let largest = usize::try_from(MAX_FILE_BYTES).unwrap_or(usize::MAX);
    serde_saphyr::options! {
        with_snippet: false,
        legacy_octal_numbers: true,
        budget: serde_saphyr::budget! {
            max_events: largest,
            max_nodes: largest,
            max_total_scalar_bytes: 2 * largest,
            max_total_comment_bytes: largest,
        },
    }
}

/// Replaces `v1` `List` and every `…List` that has `items` by its items. The items of a typed list need not repeat their
/// kind (the API server leaves it out): it is the list's without `List`.
fn flatten(path: String, value: Value, depth: usize, found: &mut Vec<Found>) -> Result<(), PartError> {
    let whole = |message: String| PartError { line: None, column: 0, message };
    let mut object = match value {
        Value::Null => return Ok(()),
        Value::Object(object) => object,
        other => {
            found.push(Found { path, value: other });
            return Ok(());
        }
    };
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let Some(item_kind) = kind.strip_suffix("List").map(str::to_owned) else {
        found.push(Found { path, value: Value::Object(object) });
        return Ok(());
    };
    let items = match object.remove("items") {
        Some(Value::Array(items)) => items,
        Some(Value::Null) => Vec::new(),
        None if item_kind.is_empty() => Vec::new(),
        None => {
            found.push(Found { path, value: Value::Object(object) });
            return Ok(());
        }
        Some(_) => return Err(whole(format!("{}items is no array", prefix(&path)))),
    };
    if depth == MAX_LIST_DEPTH {
        return Err(whole(format!("{}items: lists stand too deep in lists; take them apart", prefix(&path))));
    }
    let api_version = object.remove("apiVersion");
    for (position, mut item) in items.into_iter().enumerate() {
        if let Value::Object(fields) = &mut item
            && !item_kind.is_empty()
        {
            if !fields.contains_key("kind") {
                fields.insert("kind".into(), Value::String(item_kind.clone()));
            }
            if let Some(api_version) = &api_version
                && !fields.contains_key("apiVersion")
            {
                fields.insert("apiVersion".into(), api_version.clone());
            }
        }
        flatten(format!("{}items[{position}]", prefix(&path)), item, depth + 1, found)?;
    }
    Ok(())
}

fn prefix(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}.") }
}

/// The text with every run of white space and control characters as one space.
fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn saturating_u32(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}
