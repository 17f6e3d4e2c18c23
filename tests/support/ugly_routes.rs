//! HTTPRoutes that nobody should write, and good ones among them, for properties that have to hold for every one.

use proptest::{collection::vec, option::weighted, prelude::*, sample::select};
use tailscale_gateway::api::{
    BackendObjectReference, Fraction, HttpBackendRef, HttpCorsFilter, HttpHeader, HttpHeaderFilter, HttpHeaderMatch,
    HttpMethod, HttpPathMatch, HttpPathModifier, HttpPathModifierType, HttpQueryParamMatch, HttpRequestMirrorFilter,
    HttpRequestRedirectFilter, HttpRoute, HttpRouteFilter, HttpRouteFilterType, HttpRouteMatch, HttpRouteRule,
    HttpRouteSpec, HttpRouteTimeouts, HttpUrlRewriteFilter, LocalObjectReference, MatchType, PathMatchType,
    RedirectScheme,
};

use super::regex_cases::{REFUSED, TAKEN};

/// A route of some rules. About one value in twenty is something that no field expects.
pub fn http_route() -> impl Strategy<Value = HttpRoute> {
    vec(rule(), 0..4).prop_map(|rules| {
        HttpRoute::new(
            "web",
            HttpRouteSpec { parent_refs: Vec::new(), use_default_gateways: None, hostnames: Vec::new(), rules },
        )
    })
}

/// A regular expression: a known one, one put together from the pieces of the syntax, or any text.
pub fn pattern() -> impl Strategy<Value = String> {
    let known: Vec<&str> = TAKEN.iter().copied().chain(REFUSED.iter().map(|(pattern, ..)| *pattern)).collect();
    prop_oneof![
        2 => select(known).prop_map(str::to_owned),
        6 => vec(piece(), 1..8).prop_map(|pieces| pieces.concat()),
        1 => (select(TAKEN), select(TAKEN)).prop_map(|(a, b)| format!("(?:{a})(?:{b})")),
        1 => any::<String>(),
    ]
}

/// A piece of the syntax, not always a whole one.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "a", "b", "K", "0", "é", "😀", "_", " ", "/", "-", "&", "~", ",", ":", "=", "<", ">", "!", "P", "(", "(?:", "(?P<n>",
    "(?<m>", "(?i)", "(?i:", "(?s-m:", "(?U)", "(?", ")", ")", ")", "[", "[^", "[]", "]", "]", "[:alpha:]", "[:^word:]", "--",
    "&&", "a-z", "é-ü", r"\d", r"\W", r"\s", r"\pL", r"\P{Greek}", r"\p{Nd}", r"\b", r"\B", r"\A", r"\z", r"\.", r"\-", r"\_",
    r"\]", r"\\", "\\", r"\x41", r"\x{e9}", r"\n", r"\1", ".", "^", "$", "|", "*", "+", "?", "{2}", "{0}", "{1,3}", "{3,}",
    "{12}", "{200}", "{1000}", "{", "}",
];

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        9 => select(PIECES).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ]
}

/// Text that some field does not expect.
fn ugly() -> impl Strategy<Value = String> {
    #[rustfmt::skip]
    const KNOWN: &[&str] = &[
        "", " ", "\t", "\n", "\0", "\r\nx: y", "%", "%%", "%REQ(:path)%", "%DOWNSTREAM_REMOTE_ADDRESS%", "%nonsense(", ":path",
        ":authority", ":", "host", "Host", "HOST", "*", "**", "ä", "/", "//", "/a//b", "/?", "/#", "/..", "/./a", "/%2f",
        "/%", "/%zz", r"\", r"\1", r"\0", "a\u{7f}", "\u{2028}", "https://", "http://*", "https://a:0", "*.", "a.", ".a", "A",
        "a b", "[::1]", "transfer-encoding", "content-length", "connection", "x-envoy-original-path",
    ];
    prop_oneof![
        3 => select(KNOWN).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => (select(KNOWN), 300..6000usize).prop_map(|(text, length)| text.repeat(length / text.len().max(1) + 1)),
    ]
}

/// One of these texts, mostly.
fn mostly(good: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![20 => select(good).prop_map(str::to_owned), 1 => ugly()]
}

fn header_name() -> impl Strategy<Value = String> {
    mostly(&["x-a", "X-A", "x-b", "accept", "cookie", "Set-Cookie", "a!#$%&'*+-.^_`|~1", "user-agent", "via", "te"])
}

fn header_value() -> impl Strategy<Value = String> {
    mostly(&["a", "a, b", " a ", "a\tb", "100%", "%REQ(x)%", "%%", "\"q\"", "é", "max-age=1; a"])
}

fn path() -> impl Strategy<Value = String> {
    mostly(&["/", "/a", "/a/", "/a/b", "/a.b/c*", "/~x/(y)/$z", "/%C3%A9", "/a;b=c,d:e@f", "/+[", "/very/long/path/"])
}

fn hostname() -> impl Strategy<Value = String> {
    mostly(&["a", "example.com", "a-b.c", "1.2.3.4", "xn--a"])
}

fn rule() -> impl Strategy<Value = HttpRouteRule> {
    let name = weighted(0.2, mostly(&["a", "b.c"]));
    let filters = prop_oneof![2 => Just(Vec::new()), 3 => vec(filter(), 1..4)];
    let backends = prop_oneof![3 => vec(backend_ref(), 1..4), 1 => Just(Vec::new())];
    (name, vec(route_match(), 0..4), filters, backends, weighted(0.2, timeouts())).prop_map(
        |(name, matches, filters, backend_refs, timeouts)| HttpRouteRule {
            name,
            matches,
            filters,
            backend_refs,
            timeouts,
            ..HttpRouteRule::default()
        },
    )
}

fn timeouts() -> impl Strategy<Value = HttpRouteTimeouts> {
    const DURATIONS: &[&str] = &["0s", "0", "1ms", "1s", "10s", "1h", "99999h99999h", "1ns", "2562047h"];
    let duration = || weighted(0.6, select(DURATIONS).prop_map(|text| text.parse().expect("a duration")));
    (duration(), duration()).prop_map(|(request, backend_request)| HttpRouteTimeouts { request, backend_request })
}

fn match_type() -> impl Strategy<Value = MatchType> {
    prop_oneof![2 => Just(MatchType::Exact), 1 => Just(MatchType::RegularExpression)]
}

fn value(type_: MatchType, exact: BoxedStrategy<String>) -> BoxedStrategy<(MatchType, String)> {
    match type_ {
        MatchType::Exact => exact.prop_map(|value| (MatchType::Exact, value)).boxed(),
        MatchType::RegularExpression => pattern().prop_map(|value| (MatchType::RegularExpression, value)).boxed(),
    }
}

fn route_match() -> impl Strategy<Value = HttpRouteMatch> {
    let path = prop_oneof![
        4 => path().prop_map(|value| HttpPathMatch { type_: PathMatchType::PathPrefix, value }),
        2 => path().prop_map(|value| HttpPathMatch { type_: PathMatchType::Exact, value }),
        2 => pattern().prop_map(|value| HttpPathMatch { type_: PathMatchType::RegularExpression, value }),
    ];
    let header = (header_name(), match_type().prop_flat_map(|type_| value(type_, header_value().boxed())))
        .prop_map(|(name, (type_, value))| HttpHeaderMatch { type_, name, value });
    let query = (header_name(), match_type().prop_flat_map(|type_| value(type_, ugly().boxed())))
        .prop_map(|(name, (type_, value))| HttpQueryParamMatch { type_, name, value });
    let methods = [HttpMethod::Get, HttpMethod::Put, HttpMethod::Options, HttpMethod::Connect, HttpMethod::Trace];
    (path, vec(header, 0..3), vec(query, 0..3), weighted(0.3, select(methods.to_vec())))
        .prop_map(|(path, headers, query_params, method)| HttpRouteMatch { path, headers, query_params, method })
}

fn backend() -> impl Strategy<Value = BackendObjectReference> {
    let name = mostly(&["a", "b", "missing", "forbidden", "none", "socket", "hosted", "three"]);
    name.prop_map(|name| BackendObjectReference {
        group: String::new(),
        kind: "Service".into(),
        name,
        namespace: None,
        port: Some(80),
    })
}

fn backend_ref() -> impl Strategy<Value = HttpBackendRef> {
    let weight = prop_oneof![6 => 0..5u32, 1 => Just(1_000_000u32), 1 => any::<u32>()];
    let filters = prop_oneof![4 => Just(Vec::new()), 1 => vec(filter(), 1..3)];
    (backend(), weight, filters).prop_map(|(object, weight, filters)| HttpBackendRef { object, weight, filters })
}

fn headers() -> impl Strategy<Value = HttpHeaderFilter> {
    let header = || (header_name(), header_value()).prop_map(|(name, value)| HttpHeader { name, value });
    (vec(header(), 0..3), vec(header(), 0..2), vec(header_name(), 0..2))
        .prop_map(|(set, add, remove)| HttpHeaderFilter { set, add, remove })
}

fn path_modifier() -> impl Strategy<Value = HttpPathModifier> {
    prop_oneof![
        path().prop_map(|path| HttpPathModifier {
            type_: HttpPathModifierType::ReplaceFullPath,
            replace_full_path: Some(path),
            replace_prefix_match: None,
        }),
        path().prop_map(|path| HttpPathModifier {
            type_: HttpPathModifierType::ReplacePrefixMatch,
            replace_full_path: None,
            replace_prefix_match: Some(path),
        }),
    ]
}

fn cors() -> impl Strategy<Value = HttpCorsFilter> {
    let origin =
        mostly(&["*", "https://*", "http://*:8080", "https://*.example.com", "https://a.example:444", "http://A"]);
    let method = mostly(&["GET", "PUT", "OPTIONS", "*"]);
    let name = || prop_oneof![8 => header_name(), 1 => Just("*".to_owned())];
    let max_age = prop_oneof![5 => 1..1000u32, 1 => any::<u32>()];
    (vec(origin, 0..3), any::<Option<bool>>(), vec(method, 0..2), vec(name(), 0..2), vec(name(), 0..2), max_age)
        .prop_map(|(allow_origins, allow_credentials, allow_methods, allow_headers, expose_headers, max_age)| {
            HttpCorsFilter { allow_origins, allow_credentials, allow_methods, allow_headers, expose_headers, max_age }
        })
}

fn redirect() -> impl Strategy<Value = HttpRequestRedirectFilter> {
    let scheme = weighted(0.5, select(vec![RedirectScheme::Http, RedirectScheme::Https]));
    let status = prop_oneof![10 => select(vec![301, 302, 303, 307, 308]), 1 => any::<u16>()];
    (scheme, weighted(0.5, hostname()), weighted(0.5, path_modifier()), weighted(0.5, any::<u16>()), status).prop_map(
        |(scheme, hostname, path, port, status_code)| HttpRequestRedirectFilter {
            scheme,
            hostname,
            path,
            port,
            status_code,
        },
    )
}

fn mirror() -> impl Strategy<Value = HttpRequestMirrorFilter> {
    let fraction =
        (any::<u32>(), any::<u32>()).prop_map(|(numerator, denominator)| Fraction { numerator, denominator });
    (backend(), weighted(0.3, 0..110u32), weighted(0.2, fraction))
        .prop_map(|(backend_ref, percent, fraction)| HttpRequestMirrorFilter { backend_ref, percent, fraction })
}

fn filter() -> impl Strategy<Value = HttpRouteFilter> {
    use HttpRouteFilterType as Type;
    let new = HttpRouteFilter::new;
    prop_oneof![
        4 => headers().prop_map(move |headers| HttpRouteFilter {
            request_header_modifier: Some(headers), ..new(Type::RequestHeaderModifier)
        }),
        4 => headers().prop_map(move |headers| HttpRouteFilter {
            response_header_modifier: Some(headers), ..new(Type::ResponseHeaderModifier)
        }),
        3 => redirect().prop_map(move |redirect| HttpRouteFilter {
            request_redirect: Some(redirect), ..new(Type::RequestRedirect)
        }),
        4 => (weighted(0.5, hostname()), weighted(0.7, path_modifier())).prop_map(move |(hostname, path)| HttpRouteFilter {
            url_rewrite: Some(HttpUrlRewriteFilter { hostname, path }), ..new(Type::UrlRewrite)
        }),
        3 => mirror().prop_map(move |mirror| HttpRouteFilter { request_mirror: Some(mirror), ..new(Type::RequestMirror) }),
        3 => cors().prop_map(move |cors| HttpRouteFilter { cors: Some(cors), ..new(Type::Cors) }),
        1 => Just(HttpRouteFilter {
            extension_ref: Some(LocalObjectReference { group: "a".into(), kind: "B".into(), name: "c".into() }),
            ..new(Type::ExtensionRef)
        }),
        1 => select(vec![Type::Cors, Type::UrlRewrite, Type::ExternalAuth]).prop_map(new),
    ]
}
