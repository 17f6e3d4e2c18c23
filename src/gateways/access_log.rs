//! Formats of access logs: whether Envoy will take one.
//!
//! Envoy refuses a whole listener for one operator that it does not know, so only those are let through that each supported
//! version takes; a test asks them. What the text means is Envoy's ("Access log command operators" of its documentation).

use std::fmt;

/// Operators without arguments.
pub const PLAIN_OPERATORS: [&str; 105] = [
    "ACCESS_LOG_TYPE",
    "BYTES_RECEIVED",
    "BYTES_RETRANSMITTED",
    "BYTES_SENT",
    "CONNECTION_ID",
    "CONNECTION_TERMINATION_DETAILS",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_LOCAL_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_PORT",
    "DOWNSTREAM_HANDSHAKE_DURATION",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_HEADER_BYTES_SENT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_LOCAL_IP_SAN",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_CERT_V_END",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
    "DOWNSTREAM_PEER_CHAIN_SERIALS",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_EMAIL_SAN",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_IP_SAN",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_REMOTE_PORT",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "DOWNSTREAM_WIRE_BYTES_RECEIVED",
    "DOWNSTREAM_WIRE_BYTES_SENT",
    "DURATION",
    "FILTER_CHAIN_NAME",
    "GRPC_STATUS",
    "GRPC_STATUS_NUMBER",
    "HOSTNAME",
    "LOCAL_REPLY_BODY",
    "PATH",
    "PROTOCOL",
    "REQUESTED_SERVER_NAME",
    "REQUEST_DURATION",
    "REQUEST_HEADERS_BYTES",
    "REQUEST_TX_DURATION",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_DURATION",
    "RESPONSE_FLAGS",
    "RESPONSE_FLAGS_LONG",
    "RESPONSE_HEADERS_BYTES",
    "RESPONSE_TRAILERS_BYTES",
    "RESPONSE_TX_DURATION",
    "ROUNDTRIP_DURATION",
    "ROUTE_NAME",
    "STREAM_ID",
    "TRACE_ID",
    "UNIQUE_ID",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_CLUSTER_RAW",
    "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "UPSTREAM_HEADER_BYTES_RECEIVED",
    "UPSTREAM_HEADER_BYTES_SENT",
    "UPSTREAM_HOST",
    "UPSTREAM_HOST_NAME",
    "UPSTREAM_HOST_NAME_WITHOUT_PORT",
    "UPSTREAM_LOCAL_ADDRESS",
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_LOCAL_PORT",
    "UPSTREAM_PEER_CERT_V_END",
    "UPSTREAM_PEER_CERT_V_START",
    "UPSTREAM_PEER_DNS_SAN",
    "UPSTREAM_PEER_IP_SAN",
    "UPSTREAM_PEER_ISSUER",
    "UPSTREAM_PEER_SUBJECT",
    "UPSTREAM_PEER_URI_SAN",
    "UPSTREAM_PROTOCOL",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_REMOTE_PORT",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_TLS_CIPHER",
    "UPSTREAM_TLS_VERSION",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "UPSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_WIRE_BYTES_SENT",
    "VIRTUAL_CLUSTER_NAME",
];

/// Operators that take the name of a header, another one for when it is missing, and a length: `REQ(A?B):10`.
pub const HEADER_OPERATORS: [&str; 3] = ["REQ", "RESP", "TRAILER"];
/// Operators that may take a format as `strftime` has it.
pub const TIME_OPERATORS: [&str; 4] = ["EMIT_TIME", "EMIT_TIME_LOCAL", "START_TIME", "START_TIME_LOCAL"];

/// The members of a JSON line whose format is left out, and their values.
pub const DEFAULT_JSON: [(&str, &str); 18] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("client", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route", "%ROUTE_NAME%"),
    ("server_name", "%REQUESTED_SERVER_NAME%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
];

/// Why Envoy would not take a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatProblem {
    /// A percent sign that begins no operator.
    Stray,
    /// An operator that not every supported Envoy knows.
    Unknown(String),
    /// An operator with what it does not take in brackets or after a colon.
    Argument(String),
}

impl fmt::Display for FormatProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stray => f.write_str("a percent sign begins no operator such as %PROTOCOL%; write %% for one"),
            Self::Unknown(name) => write!(
                f,
                "%{name}% is no operator that is supported; take %REQ(NAME)%, %START_TIME% and the others without arguments \
                 of Envoy's documentation"
            ),
            Self::Argument(name) if HEADER_OPERATORS.contains(&name.as_str()) => {
                write!(f, "%{name}…% needs the name of a header, such as %{name}(X-NAME)% or %{name}(A?B):10%")
            }
            Self::Argument(name) if TIME_OPERATORS.contains(&name.as_str()) => {
                write!(f, "%{name}…% takes a format as strftime has it, without line breaks, such as %{name}(%F %T)%")
            }
            Self::Argument(name) => write!(f, "%{name}% takes no argument and no length"),
        }
    }
}

/// Looks at a format.
///
/// # Errors
///
/// The first thing that an Envoy would not take.
pub fn check_format(format: &str) -> Result<(), FormatProblem> {
    let mut rest = format;
    while let Some((_, after)) = rest.split_once('%') {
        rest = match after.strip_prefix('%') {
            Some(after) => after,
            None => operator(after)?,
        };
    }
    Ok(())
}

/// Looks at the operator whose percent sign was just read, and gives what follows it.
fn operator(text: &str) -> Result<&str, FormatProblem> {
    let end = text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    let (known_header, known_time) = (HEADER_OPERATORS.contains(&name), TIME_OPERATORS.contains(&name));
    if name.is_empty() {
        return Err(FormatProblem::Stray);
    }
    if !known_header && !known_time && !PLAIN_OPERATORS.contains(&name) {
        // What follows a word might still be no operator at all: "100%OK".
        return Err(if after.starts_with(['%', '(', ':']) {
            FormatProblem::Unknown(name.to_owned())
        } else {
            FormatProblem::Stray
        });
    }
    let wrong = || FormatProblem::Argument(name.to_owned());
    let (argument, after) = match after.strip_prefix('(') {
        Some(inner) => {
            let (argument, after) = inner.split_once(')').ok_or_else(wrong)?;
            (Some(argument), after)
        }
        None => (None, after),
    };
    let (length, after) = match after.strip_prefix(':') {
        Some(after) => {
            let (length, rest) = after.split_once('%').ok_or_else(wrong)?;
            (Some(length), rest)
        }
        None => (None, after.strip_prefix('%').ok_or_else(wrong)?),
    };
    let right = match argument {
        Some(names) if known_header => {
            let length_ok = length.is_none_or(|length| {
                !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) && length.parse::<u32>().is_ok()
            });
            length_ok && are_header_names(names)
        }
        None if known_header => false,
        Some(format) if known_time => length.is_none() && is_time_format(format),
        None => length.is_none(),
        Some(_) => false,
    };
    if right { Ok(after) } else { Err(wrong()) }
}

/// One name or two (`A?B`), each a token (RFC 9110 §5.1) that may begin with a colon, as HTTP/2's own do.
fn are_header_names(names: &str) -> bool {
    let is_name = |name: &str| {
        let name = name.strip_prefix(':').unwrap_or(name);
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte))
    };
    match names.split_once('?') {
        Some((first, second)) => is_name(first) && is_name(second),
        None => is_name(names),
    }
}

/// Without control characters, and without the specifiers that give a line break.
fn is_time_format(format: &str) -> bool {
    let gives_line_break = |after: &str| {
        let after = after.trim_start_matches(|c: char| "-_0^#".contains(c) || c.is_ascii_digit());
        after.trim_start_matches(['E', 'O']).starts_with('n')
    };
    !format.chars().any(char::is_control) && !format.split('%').skip(1).any(gives_line_break)
}
