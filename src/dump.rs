//! Encoded messages as canonical JSON, for people: the admin pages, `translate` and the golden files.
//!
//! Never shows a private key: what [`SENSITIVE`] names is replaced by [`REDACTED`], in nested `Any`s too.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, SerializeOptions};
use serde_json::Value;
use thiserror::Error;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// The fields whose content is never shown, by message: those that Envoy's API marks as
/// `(udpa.annotations.sensitive)`, and the configuration of a private key provider, which holds keys as well.
/// The descriptors carry no such marks.
const SENSITIVE: [(&str, &[&str]); 4] = [
    ("envoy.extensions.transport_sockets.tls.v3.TlsCertificate", &["private_key", "pkcs12", "password"]),
    ("envoy.extensions.transport_sockets.tls.v3.PrivateKeyProvider", &["typed_config"]),
    ("envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys", &["keys"]),
    ("envoy.extensions.transport_sockets.tls.v3.GenericSecret", &["secret", "secrets"]),
];

/// Why a message can not be shown.
#[derive(Debug, Error)]
pub enum DumpError {
    /// The type is not among the descriptors that this program carries.
    #[error("type {0} is not known")]
    UnknownType(String),
    /// The bytes are not a message of the type.
    #[error("the bytes are no {type_url}: {source}")]
    Malformed {
        /// The type that was asked for.
        type_url: String,
        /// What the decoder says.
        source: prost::DecodeError,
    },
    /// The message has no JSON form, because an `Any` in it is malformed or of a type that is not known.
    #[error("the {type_url} has no JSON form: {reason}")]
    Unprintable {
        /// The type that was asked for.
        type_url: String,
        /// What the encoder says.
        reason: String,
    },
}

/// The canonical proto3 JSON of an encoded message: lowerCamelCase names, fields with default values left out, `Any`s
/// opened, private keys replaced by [`REDACTED`].
///
/// `type_url` is the full URL (`type.googleapis.com/envoy.config.cluster.v3.Cluster`); what stands before the last
/// slash is not looked at.
pub fn to_json(type_url: &str, message: &[u8]) -> Result<Value, DumpError> {
    let descriptor = descriptor(type_url).ok_or_else(|| DumpError::UnknownType(type_url.to_owned()))?;
    let message = DynamicMessage::decode(descriptor.clone(), message)
        .map_err(|source| DumpError::Malformed { type_url: type_url.to_owned(), source })?;
    let mut json = message
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new().skip_default_fields(true))
        .map_err(|error| DumpError::Unprintable { type_url: type_url.to_owned(), reason: error.to_string() })?;
    redact_message(&descriptor, &mut json);
    Ok(json)
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(tailscale_gateway_proto::DESCRIPTORS)
        .expect("the descriptors that the types are generated from are well-formed")
});

/// The descriptor of the type with this URL.
fn descriptor(type_url: &str) -> Option<MessageDescriptor> {
    POOL.get_message_by_name(type_url.rsplit('/').next().unwrap_or(type_url))
}

/// Hides what is sensitive in the JSON of a message of this type.
fn redact_message(descriptor: &MessageDescriptor, json: &mut Value) {
    if descriptor.full_name() == "google.protobuf.Any" {
        if let Some(inner) = json.get("@type").and_then(Value::as_str).and_then(self::descriptor) {
            redact_message(&inner, json);
        }
        return;
    }
    let Value::Object(fields) = json else {
        return; // A well-known type with a JSON form of its own: a duration, a wrapper.
    };
    let sensitive =
        SENSITIVE.iter().find(|(name, _)| *name == descriptor.full_name()).map_or(&[][..], |(_, list)| list);
    for field in descriptor.fields() {
        let Some(value) = fields.get_mut(field.json_name()) else { continue };
        if sensitive.contains(&field.name()) {
            redact_all(value);
            continue;
        }
        let kind = if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
            entry.map_entry_value_field().kind()
        } else {
            field.kind()
        };
        let Kind::Message(inner) = kind else { continue };
        match value {
            Value::Array(items) if field.is_list() => items.iter_mut().for_each(|item| redact_message(&inner, item)),
            Value::Object(entries) if field.is_map() => {
                entries.values_mut().for_each(|entry| redact_message(&inner, entry));
            }
            other => redact_message(&inner, other),
        }
    }
}

/// Hides every text and number below; the shape stays.
fn redact_all(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(redact_all),
        Value::Object(fields) => {
            fields.iter_mut().filter(|(name, _)| *name != "@type").for_each(|(_, field)| redact_all(field));
        }
        Value::Null => {}
        other => *other = Value::String(REDACTED.to_owned()),
    }
}
