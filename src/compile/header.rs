//! Names and values of headers, and the filters that change headers.
//!
//! Envoy refuses a response in which a header filter touches `Host` or a pseudo-header, or holds a name or value that HTTP
//! does not know; and it substitutes `%COMMANDS%` in values. Both are taken care of here. Never decides which requests a
//! change is for.

use std::collections::BTreeSet;

use tailscale_gateway_proto::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
};

use super::findings::Findings;
use crate::{
    api::{HttpHeader, HttpHeaderFilter},
    model::Reason,
};

/// The longest name of a header that Gateway API allows, in bytes.
const MAX_NAME: usize = 256;
/// The longest value of a header that Gateway API allows, in characters.
const MAX_VALUE: usize = 4096;
/// How many headers a filter may change; Gateway API's lists end at 16 each, Envoy's at 1000.
const MAX_CHANGES: usize = 64;

/// Checks the name of a header: a token (RFC 9110 §5.1).
///
/// # Errors
/// What is wrong with it, to follow the name.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err("must have 1 to 256 characters".into());
    }
    if name.starts_with(':') {
        return Err("is no header: use the fields for path, method and hostname instead".into());
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)) {
        return Err("may consist of letters, digits and !#$%&'*+-.^_`|~ only".into());
    }
    Ok(())
}

/// Checks the value of a header (RFC 9110 §5.5).
///
/// # Errors
/// What is wrong with it, to follow the name of the field.
pub(super) fn check_value(value: &str) -> Result<(), String> {
    if value.chars().count() > MAX_VALUE {
        Err("must not be longer than 4096 characters".into())
    } else if value.chars().any(|c| c.is_control() && c != '\t') {
        Err("must not contain control characters such as line breaks".into())
    } else {
        Ok(())
    }
}

/// Changes of headers, checked, as Envoy is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct HeaderChanges {
    /// Headers that are set or added.
    pub(super) put: Vec<HeaderValueOption>,
    /// Names, in lower case, of headers that are taken out before that.
    pub(super) remove: Vec<String>,
}

impl HeaderChanges {
    /// Checks a filter. Notes what is wrong and gives nothing then.
    pub(super) fn compile(filter: &HttpHeaderFilter, field: &str, findings: &mut Findings<'_>) -> Option<Self> {
        if filter.set.len() + filter.add.len() + filter.remove.len() > MAX_CHANGES {
            findings.unsupported(field, format!("must not change more than {MAX_CHANGES} headers"));
            return None;
        }
        let mut changes = Self::default();
        let mut seen = BTreeSet::new();
        let mut valid = true;
        let lists = [
            ("set", &filter.set, HeaderAppendAction::OverwriteIfExistsOrAdd),
            ("add", &filter.add, HeaderAppendAction::AppendIfExistsOrAdd),
        ];
        for (list, headers, action) in lists {
            let mut in_list = BTreeSet::new();
            for (at, header) in headers.iter().enumerate() {
                let field = format!("{field}.{list}[{at}]");
                let name = header.name.to_ascii_lowercase();
                if !in_list.insert(name.clone()) {
                    // HTTPHeader.name: "Subsequent entries with an equivalent header name MUST be ignored."
                    let message = format!("the header {name} stands in the list before; this entry is ignored");
                    findings.note(format!("{field}.name"), Reason::NotActedOn, message);
                    continue;
                }
                valid &= changeable(&header.name, &format!("{field}.name"), findings);
                valid &= once(&mut seen, &name, &format!("{field}.name"), findings);
                match check_value(&header.value) {
                    Ok(()) => changes.put.push(put(header, name, action)),
                    Err(problem) => {
                        findings.unsupported(format!("{field}.value"), format!("the value {problem}"));
                        valid = false;
                    }
                }
            }
        }
        let mut removed = BTreeSet::new();
        for (at, name) in filter.remove.iter().enumerate() {
            let field = format!("{field}.remove[{at}]");
            let lower = name.to_ascii_lowercase();
            if !removed.insert(lower.clone()) {
                continue;
            }
            valid &= changeable(name, &field, findings);
            valid &= once(&mut seen, &lower, &field, findings);
            changes.remove.push(lower);
        }
        valid.then_some(changes)
    }

    /// Whether nothing is changed.
    pub(super) fn is_empty(&self) -> bool {
        self.put.is_empty() && self.remove.is_empty()
    }

    /// These changes and `later` ones as one. Envoy removes before it adds, so what is taken back has to go.
    pub(super) fn then(&self, later: &Self) -> Self {
        let undone = |option: &HeaderValueOption| {
            let name = name_of(option);
            later.remove.iter().any(|removed| removed == name)
                || later.put.iter().any(|put| {
                    put.append_action == HeaderAppendAction::OverwriteIfExistsOrAdd as i32 && name_of(put) == name
                })
        };
        let put = self.put.iter().filter(|option| !undone(option)).chain(&later.put).cloned().collect();
        let mut remove = self.remove.clone();
        remove.extend(later.remove.iter().filter(|name| !self.remove.contains(name)).cloned());
        Self { put, remove }
    }
}

fn name_of(option: &HeaderValueOption) -> &str {
    option.header.as_ref().map_or("", |header| &header.key)
}

fn put(header: &HttpHeader, name: String, action: HeaderAppendAction) -> HeaderValueOption {
    // White space around a value does not belong to it (RFC 9110 §5.5), and HTTP/2 peers refuse it.
    let value = header.value.trim_matches([' ', '\t']).replace('%', "%%");
    HeaderValueOption {
        keep_empty_value: value.is_empty(),
        header: Some(HeaderValue { key: name, value, ..Default::default() }),
        append_action: action as i32,
        ..Default::default()
    }
}

/// Whether Envoy lets a filter touch the header.
fn changeable(name: &str, field: &str, findings: &mut Findings<'_>) -> bool {
    let problem = match check_name(name) {
        Err(problem) => format!("{name:?} {problem}"),
        Ok(()) if name.eq_ignore_ascii_case("host") => {
            "the Host header can not be changed by a header filter: use a URLRewrite filter with hostname".into()
        }
        Ok(()) => return true,
    };
    findings.unsupported(field, problem);
    false
}

/// HTTPHeaderFilter: "Only one action for a given header name is permitted."
fn once(seen: &mut BTreeSet<String>, name: &str, field: &str, findings: &mut Findings<'_>) -> bool {
    if seen.insert(name.to_owned()) {
        return true;
    }
    findings.unsupported(field, format!("another list of this filter changes the header {name} too: keep one of them"));
    false
}
