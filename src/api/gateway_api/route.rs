//! HTTPRoute: which requests, of which parents, go where. Never decides precedence.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    super::{Duration, patterns},
    BackendObjectReference, HttpRouteFilter, ParentReference,
};

/// What an HTTPRoute asks for.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    root = "HttpRoute",
    plural = "httproutes",
    namespaced,
    status = "HttpRouteStatus",
    derive = "PartialEq",
    doc = "Hands HTTP requests of Gateways to backends."
)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// Gateways, or listeners of them, that the route wants to be attached to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub parent_refs: Vec<ParentReference>,
    /// Experimental: whether default Gateways are parents too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_default_gateways: Option<super::DefaultScope>,
    /// Hostnames that requests have to be for; `*` is allowed as the first label. Those of the listeners when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253), regex(pattern = patterns::HOSTNAME)))]
    pub hostnames: Vec<String>,
    /// What is done with which requests; by default one rule that takes every request.
    #[serde(default = "default_rules")]
    #[schemars(length(min = 1, max = 16))]
    pub rules: Vec<HttpRouteRule>,
}

fn default_rules() -> Vec<HttpRouteRule> {
    vec![HttpRouteRule::default()]
}

/// What is done with the requests that any of its matches takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRule {
    /// Name of the rule, unique in the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DNS_NAME))]
    pub name: Option<String>,
    /// Which requests; any of them is enough. By default, and when its author wrote an empty list, one match that takes
    /// every request: the list is never empty here.
    #[serde(default = "every_request", deserialize_with = "matches_or_every_request")]
    #[schemars(length(max = 64))]
    pub matches: Vec<HttpRouteMatch>,
    /// What is done to the request and its response.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub filters: Vec<HttpRouteFilter>,
    /// Where requests go, in proportion to weights. Without any, and without a redirect, the answer is 500.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<HttpBackendRef>,
    /// How long a request may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<HttpRouteTimeouts>,
    /// Experimental: when a request is sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<HttpRouteRetry>,
    /// Experimental: how requests of one session find the same backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<SessionPersistence>,
}

impl Default for HttpRouteRule {
    /// A rule that takes every request and has no backend.
    fn default() -> Self {
        Self {
            name: None,
            matches: every_request(),
            filters: Vec::new(),
            backend_refs: Vec::new(),
            timeouts: None,
            retry: None,
            session_persistence: None,
        }
    }
}

fn every_request() -> Vec<HttpRouteMatch> {
    vec![HttpRouteMatch::default()]
}

/// An empty list means the same as none (Gateway API, HTTPRouteRule: "if no matches are specified").
fn matches_or_every_request<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HttpRouteMatch>, D::Error> {
    let matches = Vec::deserialize(deserializer)?;
    Ok(if matches.is_empty() { every_request() } else { matches })
}

/// Which requests: those that have all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteMatch {
    /// Path; by default every path.
    #[serde(default)]
    pub path: HttpPathMatch,
    /// Headers; all have to match. Of two entries for one name, in any case, the first counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map"), extend("x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<HttpHeaderMatch>,
    /// Query parameters; all have to match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map"), extend("x-kubernetes-list-map-keys" = ["name"]))]
    pub query_params: Vec<HttpQueryParamMatch>,
    /// Method; every method when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<HttpMethod>,
}

/// Which paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct HttpPathMatch {
    /// How the value is compared; `PathPrefix` by default.
    #[serde(rename = "type", default)]
    pub type_: PathMatchType,
    /// What the path is compared with; `/` by default.
    #[serde(default = "root_path")]
    #[schemars(length(max = 1024))]
    pub value: String,
}

fn root_path() -> String {
    "/".into()
}

impl Default for HttpPathMatch {
    /// Every path.
    fn default() -> Self {
        Self { type_: PathMatchType::PathPrefix, value: root_path() }
    }
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// It has to be equal.
    Exact,
    /// Its first segments have to be equal: `/a` takes `/a` and `/a/b`, not `/ab`.
    #[default]
    PathPrefix,
    /// A regular expression has to match the whole of it.
    RegularExpression,
}

/// How a header or a query parameter is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MatchType {
    /// It has to be equal.
    #[default]
    Exact,
    /// A regular expression has to match the whole of it.
    RegularExpression,
}

/// Which values of a header.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct HttpHeaderMatch {
    /// How the value is compared; `Exact` by default.
    #[serde(rename = "type", default)]
    pub type_: MatchType,
    /// Name of the header, in any case.
    #[schemars(length(min = 1, max = 256), regex(pattern = patterns::HEADER_NAME))]
    pub name: String,
    /// What its value is compared with.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// Which values of a query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct HttpQueryParamMatch {
    /// How the value is compared; `Exact` by default.
    #[serde(rename = "type", default)]
    pub type_: MatchType,
    /// Name of the parameter, case included.
    #[schemars(length(min = 1, max = 256), regex(pattern = patterns::HEADER_NAME))]
    pub name: String,
    /// What its value is compared with.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// A method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the methods of RFC 9110 §9.3 and RFC 5789 under their own names")]
pub enum HttpMethod {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

impl HttpMethod {
    /// The name on the wire, such as `GET`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
        }
    }
}

/// Where a share of the requests goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpBackendRef {
    /// The backend; its fields stand beside `weight` in a manifest.
    #[serde(flatten)]
    pub object: BackendObjectReference,
    /// Share of the requests, in proportion to the sum of all weights of the rule; 1 by default, 0 for none.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: u32,
    /// What is done to requests that go to this backend, and to their responses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub filters: Vec<HttpRouteFilter>,
}

fn one() -> u32 {
    1
}

/// How long a request may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteTimeouts {
    /// From the whole request to the whole response; `0s` for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = patterns::GATEWAY_DURATION))]
    pub request: Option<Duration>,
    /// For one attempt at a backend; `0s` for no limit. Not longer than `request`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = patterns::GATEWAY_DURATION))]
    pub backend_request: Option<Duration>,
}

/// When a request is sent again (experimental channel).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpRouteRetry {
    /// Response codes that are reason enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 400, max = 599)))]
    pub codes: Vec<u16>,
    /// How often at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub attempts: Option<u32>,
    /// How long to wait before each.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = patterns::GATEWAY_DURATION))]
    pub backoff: Option<Duration>,
}

/// How requests of one session find the same backend (experimental channel).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionPersistence {
    /// Name of the session: of the cookie or of the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub session_name: Option<String>,
    /// How long a session lasts at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = patterns::GATEWAY_DURATION))]
    pub absolute_timeout: Option<Duration>,
    /// How long a session lasts without a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = patterns::GATEWAY_DURATION))]
    pub idle_timeout: Option<Duration>,
    /// Whether a cookie (the default) or a header carries the session.
    #[serde(rename = "type", default)]
    pub type_: SessionPersistenceType,
    /// Settings of the cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie_config: Option<CookieConfig>,
}

/// What carries a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SessionPersistenceType {
    /// A cookie.
    #[default]
    Cookie,
    /// A header.
    Header,
}

/// Settings of the cookie that carries a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CookieConfig {
    /// Whether the client forgets the cookie with its session (the default) or keeps it.
    #[serde(default)]
    pub lifetime_type: CookieLifetimeType,
}

/// How long a client keeps a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CookieLifetimeType {
    /// For a set time.
    Permanent,
    /// As long as its session.
    #[default]
    Session,
}

/// What controllers say about an HTTPRoute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpRouteStatus {
    /// One entry for each parent and controller.
    #[serde(default)]
    pub parents: Vec<RouteParentStatus>,
}

/// What one controller says about a route and one of its parents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentStatus {
    /// The parent, as the route refers to it.
    pub parent_ref: ParentReference,
    /// The controller that wrote the entry.
    pub controller_name: String,
    /// Conditions, one of each type.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}
