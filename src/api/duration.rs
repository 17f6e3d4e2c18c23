//! Durations as Kubernetes manifests write them: `10s`, `1m30s`, `500ms`, `1.5h`.
//!
//! Keeps the author's text, so that an object that is written back reads as it did. Never knows negative durations.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::patterns;

/// The longest duration that Go can hold: 2^63 - 1 nanoseconds, about 292 years.
const MAX_NANOSECONDS: u128 = i64::MAX as u128;

/// A length of time in the syntax of Go's `time.ParseDuration`: decimal numbers with a unit each (`h`, `m`, `s`, `ms`,
/// `us`, `ns`), added up; a lone `0` needs no unit. GEP-2257, the syntax of Gateway API, is a subset of it.
#[derive(Clone)]
pub struct Duration {
    text: Box<str>,
    std: std::time::Duration,
}

impl Duration {
    /// The length of time, to the nanosecond.
    pub fn as_std(&self) -> std::time::Duration {
        self.std
    }

    /// The text as its author wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A whole number of seconds, written `Ns`.
    pub fn from_secs(seconds: u32) -> Self {
        Self { text: format!("{seconds}s").into(), std: std::time::Duration::from_secs(seconds.into()) }
    }
}

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// Not a sequence of numbers with units.
    #[error("must be a duration such as 10s, 1m30s or 500ms")]
    Syntax,
    /// Below zero.
    #[error("must not be negative")]
    Negative,
    /// Longer than 2^63 - 1 nanoseconds.
    #[error("must not be longer than 292 years")]
    TooLong,
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        if matches!(text, "0" | "+0" | "-0") {
            return Ok(Self { text: text.into(), std: std::time::Duration::ZERO });
        }
        if text.starts_with('-') {
            return Err(InvalidDuration::Negative);
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest.is_empty() {
            return Err(InvalidDuration::Syntax);
        }
        let mut total: u128 = 0;
        while !rest.is_empty() {
            let (nanoseconds, after) = part(rest)?;
            total = total.checked_add(nanoseconds).ok_or(InvalidDuration::TooLong)?;
            rest = after;
        }
        if total > MAX_NANOSECONDS {
            return Err(InvalidDuration::TooLong);
        }
        let nanoseconds = u64::try_from(total).map_err(|_| InvalidDuration::TooLong)?;
        Ok(Self { text: text.into(), std: std::time::Duration::from_nanos(nanoseconds) })
    }
}

/// Reads one number with its unit; gives its nanoseconds (rounded down) and what follows it.
fn part(text: &str) -> Result<(u128, &str), InvalidDuration> {
    let (whole, after) = digits(text);
    let (fraction, after) = match after.strip_prefix('.') {
        Some(after) => digits(after),
        None => ("", after),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(InvalidDuration::Syntax);
    }
    let unit_length = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
    let (unit, after) = after.split_at(unit_length);
    let unit: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(InvalidDuration::Syntax),
    };
    let mut nanoseconds = number(whole)?.checked_mul(unit).ok_or(InvalidDuration::TooLong)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        nanoseconds += place * u128::from(digit - b'0');
    }
    Ok((nanoseconds, after))
}

/// Splits off the leading decimal digits.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The value of decimal digits; nothing is zero.
fn number(digits: &str) -> Result<u128, InvalidDuration> {
    if digits.is_empty() {
        return Ok(0);
    }
    let value: u128 = digits.parse().map_err(|_| InvalidDuration::TooLong)?;
    if value > MAX_NANOSECONDS { Err(InvalidDuration::TooLong) } else { Ok(value) }
}

impl PartialEq for Duration {
    /// Equal as lengths of time: `60s` is `1m`.
    fn eq(&self, other: &Self) -> bool {
        self.std == other.std
    }
}

impl Eq for Duration {}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": patterns::GO_DURATION })
    }
}
