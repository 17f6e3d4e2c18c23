//! The regular expressions that the schemas use, each written once.
//!
//! They are in the dialect that RE2 (the API server) and ECMA 262 (JSON Schema) share. Never used to match text outside a
//! schema.

/// A DNS label (RFC 1123 §2.1): lower-case letters, digits and inner dashes.
pub const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// A DNS name of labels (RFC 1123 §2.1), no wildcard.
pub const DNS_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A DNS name whose first label may be `*` (Gateway API: `Hostname`).
pub const HOSTNAME: &str = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// An API group: a DNS name, or nothing for Kubernetes' core group (Gateway API: `Group`).
pub const GROUP: &str = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// The name of a kind of object (Gateway API: `Kind`).
pub const KIND: &str = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$";

/// A domain, a slash and a path (Gateway API: `GatewayController`).
pub const CONTROLLER: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$";

/// The token of RFC 9110 §5.1 (Gateway API: `HeaderName`).
pub const HEADER_NAME: &str = r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$";

/// A number in hexadecimal digits.
pub const HEX: &str = "^[0-9a-f]+$";

/// The value of a Kubernetes label.
pub const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";

/// One to four numbers with a unit each (GEP-2257).
pub const GATEWAY_DURATION: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// What Go's `time.ParseDuration` takes, without negative values.
pub const GO_DURATION: &str = r"^([+]?(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+|[+-]?0)$";

/// A listener's protocol: a word, or a domain, a slash and a word (Gateway API: `ProtocolType`).
pub const LISTENER_PROTOCOL: &str = r"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9]+$";

/// A kind of address: a known word, or a domain, a slash and a word (Gateway API: `AddressType`).
pub const ADDRESS_TYPE: &str = r"^Hostname|IPAddress|NamedAddress|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$";

/// An origin as CORS knows it, with `*` allowed as the whole or as the first label (Gateway API: `CORSOrigin`).
pub const CORS_ORIGIN: &str =
    r"(^\*$)|(^(http(s)?):\/\/(((\*\.)?([a-zA-Z0-9\-]+\.)*[a-zA-Z0-9-]+|\*)(:([0-9]{1,5}))?)$)";

/// A method of HTTP, or `*` for every method (Gateway API: `HTTPMethodWithWildcard`).
pub const CORS_METHOD: &str = r"^(GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|\*)$";

/// A path made of the characters of RFC 3986 §3.3 and percent-encoded bytes.
pub const URL_PATH: &str = r"^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$";

/// The name of a Tailscale Service, a virtual IP that several nodes can answer for: `svc:` and a DNS label.
pub const TAILSCALE_SERVICE: &str = "^svc:[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// A tag of a tailnet's policy file.
pub const TAG: &str = "^tag:[a-zA-Z][-a-zA-Z0-9]*$";

/// What the hostnames of devices may begin with.
pub const HOSTNAME_PREFIX: &str = "^[a-z0-9][a-z0-9-]{0,61}$";
