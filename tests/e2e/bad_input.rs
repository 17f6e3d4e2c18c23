//! Whatever stands in the folder: the good part is served, each bad part is named, and an Envoy never refuses anything.

use std::{fs, fs::File, os::unix::fs::symlink, process::Command};

use crate::{
    site::{
        Attached, Site, documents, endpoints, gateway, https_listener, listener, route, route_for, route_to, secret,
        service, until_answered,
    },
    support::{
        backend::Backend,
        client,
        envoy::Version,
        gateway::{Gateway, run},
        manifests::Manifests,
        ports::Port,
        tls::{Authority, Certificate},
        wait::until,
    },
};

/// What `validate` says about a folder, and its exit code.
fn validate(manifests: &Manifests) -> (Option<i32>, String) {
    let output = run(&["validate", manifests.path().to_str().expect("a temporary path is UTF-8")]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.is_empty(), "{errors}");
    (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
}

/// Nobody panicked.
#[track_caller]
fn assert_calm(control: &Gateway) {
    control.process().assert_running();
    let lines = control.process().lines();
    assert!(!lines.iter().any(|line| line.contains("panicked")), "{lines:#?}");
}

#[tokio::test]
async fn a_folder_with_all_kinds_of_rubbish_serves_its_good_part_and_each_bad_part_is_named() {
    let (backend, other) = (Backend::start("web").await, Backend::start("other").await);
    let to_other = |name: &str| {
        route(
            name,
            &format!(
                "- matches: [{{path: {{type: PathPrefix, value: /{name}}}}}]\n  backendRefs: [{{name: other, port: 80}}]"
            ),
        )
    };
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {namespace: default, name: listed}, spec: {ports: [{port: 80}]}}\n- {apiVersion: v1, kind: Service, metadata: {namespace: default}, spec: {}}\n- just text\n";
    let bomb: String = (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, at| {
        let before = at - 1;
        text + &format!("a{at}: &a{at} [*a{before}, *a{before}, *a{before}, *a{before}, *a{before}, *a{before}]\n")
    });
    let mut noise = Vec::new();
    for at in 0..200_000_u32 {
        noise.extend(at.wrapping_mul(2_654_435_761).to_le_bytes());
    }
    let text: [(&str, &str, Vec<u8>); 18] = [
        // The file, what `validate` has to say besides its name, and the content.
        ("broken.yaml", "YAML", b"kind: [HTTPRoute\n metadata: }".to_vec()),
        ("half.yaml", "YAML", (to_other("half") + "\n---\n}{").into()),
        ("nonsense.yaml", "Nonsense", b"apiVersion: example.com/v1\nkind: Nonsense\nmetadata: {name: x}".to_vec()),
        (
            "misspelt.yaml",
            "HTTPRoutes",
            b"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoutes\nmetadata: {name: x}".to_vec(),
        ),
        ("kindless.yaml", "kind", b"metadata: {name: x}".to_vec()),
        (
            "invalid.yaml",
            "spec.rules[0].backendRefs[0].port",
            route("invalid", "- backendRefs: [{name: web, port: 70000}]").into(),
        ),
        ("mistyped.yaml", "spec.rules", route("mistyped", "none").replace("\n  none", " none").into()),
        (
            "nameless.yaml",
            "metadata.name",
            b"apiVersion: v1\nkind: Service\nmetadata: {namespace: default}\nspec: {ports: [{port: 80}]}".to_vec(),
        ),
        (
            "dangling.yaml",
            "spec.rules[0].backendRefs[0]",
            route("dangling", "- matches: [{path: {value: /dangling}}]\n  backendRefs: [{name: missing, port: 80}]")
                .into(),
        ),
        (
            "orphan.yaml",
            "spec.parentRefs[0]",
            to_other("orphan").replace("parentRefs: [{name: web}]", "parentRefs: [{name: nobody}]").into(),
        ),
        ("z-duplicate.yaml", "Service default/web", service("web", &[]).into()),
        ("long.yaml", "", "just words ".repeat(1_000_000).into()),
        ("binary.yaml", "UTF-8", noise),
        ("zero.json", "", b"{\"kind\": \"Service\0\"}".to_vec()),
        ("deep.yaml", "", vec![b'['; 200_000]),
        ("deep.json", "", "{\"a\":".repeat(100_000).into()),
        ("bomb.yaml", "", bomb.into()),
        ("list.yaml", "", list.into()),
    ];
    let manifests = [
        ("web.yaml", service("web", &[backend.address()])),
        ("other.yaml", documents(&[service("other", &[other.address()]), route_to("all", "web")])),
        (
            "big.yaml",
            format!(
                "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: big}}, data: {{a: '{}'}}}}",
                "x".repeat(10_000_000)
            ),
        ),
        ("empty.yaml", String::new()),
        ("comment.yaml", "# nothing\n---\n---\n".to_owned()),
        ("else.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {}".to_owned()),
        ("notes.txt", "not for us: [".to_owned()),
    ];
    let site = Site::start(&manifests.each_ref().map(|(name, content)| (*name, content.as_str()))).await;
    assert_eq!(validate(&site.manifests), (Some(0), String::new()), "everything is in order at first");

    for (name, _, content) in &text {
        site.manifests.write(name, content);
    }
    let inside = |name: &str| site.manifests.path().join(name);
    File::create(inside("huge.yaml")).and_then(|file| file.set_len(65 << 20)).expect("a sparse file can be made");
    symlink(inside("loop.yaml"), inside("loop.yaml")).expect("a link can be made");
    symlink("/nonexistent", inside("lost.yaml")).expect("a link can be made");
    fs::create_dir(inside("folder.yaml")).expect("a folder can be made");
    // What is no file is told, and nobody waits for what might come out of it.
    assert!(Command::new("mkfifo").arg(inside("pipe.yaml")).status().is_ok_and(|status| status.success()));

    // The good parts of bad files are served, what was good before is too, and what changes now arrives.
    site.until_from("other", "/half").await;
    site.manifests.write(
        "other.yaml",
        documents(&[service("other", &[other.address()]), route_to("all", "web"), to_other("new")]),
    );
    site.until_from("other", "/new").await;
    assert_eq!(site.get("/").send().await.echo().backend, "web");
    assert_eq!(site.get("/dangling").send().await.status, 500);

    let (code, said) = validate(&site.manifests);
    assert_eq!(code, Some(1), "{said}");
    let about = |name: &str| said.lines().filter(|line| line.contains(&format!("/{name}: "))).collect::<Vec<_>>();
    for (name, part, _) in &text {
        assert!(about(name).iter().any(|line| line.contains(part)), "{name}: {part}: {:#?}\n{said}", about(name));
    }
    for name in ["huge.yaml", "loop.yaml", "lost.yaml", "pipe.yaml"] {
        assert!(!about(name).is_empty(), "{name}: {said}");
    }
    for name in
        ["web.yaml", "other.yaml", "big.yaml", "empty.yaml", "comment.yaml", "else.yaml", "notes.txt", "gateway.yaml"]
    {
        assert!(about(name).is_empty(), "{:#?}", about(name));
    }
    assert!(said.lines().all(|line| line.len() < 2_000), "{said}");

    // The log of the running control plane says the same.
    let log = site.control.process().lines().join("\n");
    for line in said.lines() {
        // The place in a file is the command's; a problem of an object is known by the object.
        let (_, about) = line.split_once(".yaml: ").or_else(|| line.split_once(".json: ")).expect("a file is named");
        let quoted = serde_json::to_string(about).expect("text has a JSON form");
        assert!(log.contains(quoted.trim_matches('"')), "{line}\n{log}");
    }
    assert_calm(&site.control);

    // A control plane that starts on all this serves the same.
    let mut site = site;
    site.control.restart().await;
    site.manifests.write("last.yaml", to_other("last"));
    site.until_from("other", "/last").await;
    assert_eq!(site.get("/half").send().await.echo().backend, "other");
    assert_calm(&site.control);
}

#[tokio::test]
async fn a_good_file_that_breaks_stays_in_force_until_it_is_mended() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let site = Site::start(&[
        ("services.yaml", &documents(&[service("blue", &[blue.address()]), service("green", &[green.address()])])),
        ("route.yaml", &route_to("all", "blue")),
    ])
    .await;
    let broken = route_to("all", "green").replace("rules:", "rules: ]");
    site.manifests.write_in_place("route.yaml", broken);
    site.control.process().wait_for_line("route.yaml").await;
    // What is written later arrives, so what there was to do about the broken file is done.
    let later = "- matches: [{path: {type: PathPrefix, value: /later}}]\n  backendRefs: [{name: green, port: 80}]";
    site.manifests.write("later.yaml", route("later", later));
    site.until_from("green", "/later").await;
    assert_eq!(site.get("/").send().await.echo().backend, "blue");
    site.manifests.write_in_place("route.yaml", route_to("all", "green"));
    site.until_from("green", "/").await;
    site.control.process().wait_for_line("no longer: ").await;
}

#[tokio::test]
async fn nothing_that_can_be_written_makes_an_envoy_refuse_what_it_is_sent() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let http = |name: &str, rule: &str| {
        (format!("{name}.yaml"), route(name, &format!("{rule}\n  backendRefs: [{{name: blue, port: 80}}]")))
    };
    let path = |name: &str, kind: &str, value: &str| {
        http(name, &format!("- matches: [{{path: {{type: {kind}, value: {value:?}}}}}]"))
    };
    let header = |name: &str, kind: &str, value: &str| {
        http(
            name,
            &format!(
                "- matches: [{{path: {{value: /{name}}}, headers: [{{name: x-a, type: {kind}, value: {value:?}}}]}}]"
            ),
        )
    };
    let set = |name: &str, header: &str, value: &str| {
        http(
            name,
            &format!(
                "- matches: [{{path: {{value: /{name}}}}}]\n  filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: {header:?}, value: {value:?}}}]}}}}]"
            ),
        )
    };
    let filter = |name: &str, filter: &str| {
        http(name, &format!("- matches: [{{path: {{value: /{name}}}}}]\n  filters: [{{{filter}}}]"))
    };
    let timeout = |name: &str, timeout: &str| {
        http(name, &format!("- matches: [{{path: {{value: /{name}}}}}]\n  timeouts: {{request: {timeout:?}}}"))
    };
    let host = |name: &str, host: &str| {
        (format!("{name}.yaml"), route_for(name, &[host], "- backendRefs: [{name: blue, port: 80}]"))
    };
    let target = |name: &str, fields: &str| {
        (format!("{name}.yaml"), endpoints(name, &format!("- {{name: {name}, port: 80, {fields}}}")))
    };
    let authority = Authority::new();
    let certificate = authority.issue(&["web.example"]);
    let mut wrong_key = certificate.clone();
    wrong_key.key = Authority::new().issue(&["web.example"]).key;

    // Each has to be reported.
    let refused = [
        path("regex-syntax", "RegularExpression", "/("),
        path("regex-look", "RegularExpression", "/(?!x)"),
        path("regex-back", "RegularExpression", r"/(a)\1"),
        path("regex-times", "RegularExpression", "/a{1001,}"),
        path("regex-large", "RegularExpression", "/((((a{100}){100}){100}){100}){100}"),
        path("regex-class", "RegularExpression", r"/\p{Greek}+"),
        path("relative", "PathPrefix", "no-slash"),
        path("query", "Exact", "/a?b"),
        path("dots", "PathPrefix", "/a/../b"),
        path("double", "PathPrefix", "/a//b"),
        header("header-regex", "RegularExpression", "["),
        http("header-name", "- matches: [{headers: [{name: 'bad name', value: x}]}]"),
        http("query-name", "- matches: [{queryParams: [{name: '', value: x}]}]"),
        set("set-pseudo", ":path", "/"),
        set("set-host", "Host", "x"),
        set("set-name", "bad\nname", "x"),
        set("set-value", "x-a", "one\r\nx-b: two"),
        set("set-zero", "x-a", "\0"),
        filter("rewrite-host", "type: URLRewrite, urlRewrite: {hostname: 'bad host'}"),
        filter(
            "rewrite-path",
            "type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: \"/a\\r\\nb\"}}",
        ),
        filter(
            "mirror-percent",
            "type: RequestMirror, requestMirror: {backendRef: {name: blue, port: 80}, percent: 101}",
        ),
        filter(
            "mirror-fraction",
            "type: RequestMirror, requestMirror: {backendRef: {name: blue, port: 80}, fraction: {numerator: 5, denominator: 0}}",
        ),
        filter("cors-origin", "type: CORS, cors: {allowOrigins: ['https://(']}"),
        filter("redirect-code", "type: RequestRedirect, requestRedirect: {statusCode: 999}"),
        filter("extension", "type: ExtensionRef, extensionRef: {group: example.com, kind: Filter, name: x}"),
        timeout("timeout-long", "99999999999h"),
        timeout("timeout-text", "soon"),
        timeout("timeout-negative", "-1s"),
        host("host-port", "web.example:80"),
        host("host-star", "*.*.example"),
        host("host-bare-star", "*"),
        target("target-host", "externalTarget: 'bad host:80'"),
        target("target-port", "externalTarget: 'localhost:99999'"),
        target("target-scheme", "externalTarget: 'ftp://localhost:80'"),
        target("health-path", "externalTarget: 'localhost:80', healthCheck: {path: \"/a b\\r\\n\"}"),
        target("health-interval", "externalTarget: 'localhost:80', healthCheck: {interval: often}"),
        target("weight", "externalTarget: 'localhost:80', weight: 1000"),
        target("target-sign", "externalTarget: 'localhost:+80'"),
        (
            "address.yaml".to_owned(),
            service("strange", &[])
                + "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: default, name: strange, labels: {kubernetes.io/service-name: strange}}\naddressType: IPv4\nports: [{name: http, port: 80}]\nendpoints: [{addresses: [256.1.1.1]}, {addresses: ['fe80::1%eth0']}, {addresses: ['']}, {addresses: []}, {addresses: [0.0.0.0]}]\n",
        ),
    ];
    // Each is fine, or as good as can be; the schema of Gateway API lets all of these hostnames pass.
    let accepted = [
        set("set-percent", "x-a", "100% %REQ(x)% %NOPE%"),
        set("set-unicode", "x-a", "ünïcode"),
        path("regex-wide", "RegularExpression", r"/(?:α|β)+/[\d\w]{1,100}"),
        path("escaped", "PathPrefix", "/a%20b"),
        timeout("timeout-longest", "99999h"),
        timeout("timeout-shortest", "1ms"),
        host("host-long", &format!("{}.example", "a".repeat(64))),
        host("host-address", "127.0.0.1"),
        host("host-deep", "*.a.b.c.d.e.example"),
        host("same-host-1", "same.example"),
        host("same-host-2", "same.example"),
        target("health-fast", "externalTarget: 'localhost:1', healthCheck: {path: /, interval: 1ms, timeout: 1ms}"),
        target("target-v6", "externalTarget: '[::1]:80'"),
        (
            "heavy.yaml".to_owned(),
            route(
                "heavy",
                &format!(
                    "- matches: [{{path: {{value: /heavy}}}}]\n  backendRefs:{}",
                    "\n  - {name: blue, port: 80, weight: 1000000}".repeat(16)
                ),
            ),
        ),
        (
            "strange.yaml".to_owned(),
            route("strange", "- matches: [{path: {value: /strange}}]\n  backendRefs: [{name: strange, port: 80}]"),
        ),
    ];
    let services = documents(&[service("blue", &[blue.address()]), service("green", &[green.address()])]);
    let site = Site::start(&[
        ("services.yaml", &services),
        ("route.yaml", &route_to("all", "blue")),
        ("tailnet.yaml", crate::site::TAILNET),
    ])
    .await;
    for (name, content) in refused.iter().chain(&accepted) {
        site.manifests.write(name, content);
    }
    let mut mangled = certificate.clone();
    mangled.key = mangled.key.trim().replace('\n', " ");
    let mut more = certificate.clone();
    more.certificate += "-----BEGIN FOO-----\n!!!!\n-----END FOO-----\n";
    more.key += "-----BEGIN FOO-----\n!!!!\n-----END FOO-----\n";
    let secrets = [("wrong-key", &wrong_key), ("mangled", &mangled), ("more", &more)];
    site.manifests.write("secret.yaml", documents(&secrets.map(|(name, certificate)| secret(name, certificate))));
    let port = site.http.number();
    let more_port = Port::lease();
    let twins = [
        listener("http", &site.http),
        format!(
            "{{name: keyless, protocol: HTTPS, port: {}, tls: {{certificateRefs: [{{name: wrong-key}}]}}}}",
            40_443
        ),
        format!("{{name: mangled, protocol: HTTPS, port: {}, tls: {{certificateRefs: [{{name: mangled}}]}}}}", 40_444),
        https_listener("more", &more_port, "web.example", "more"),
        format!("{{name: twin, protocol: HTTP, port: {port}, hostname: twin.example}}"),
    ];
    site.manifests.write("gateway.yaml", gateway(&twins));

    // Everything else goes on, before and after a restart.
    site.manifests.write("route.yaml", route_to("all", "green"));
    site.until_from("green", "/").await;
    let mut site = site;
    site.control.restart().await;
    site.manifests.write("route.yaml", route_to("all", "blue"));
    site.until_from("blue", "/").await;

    let (code, said) = validate(&site.manifests);
    assert_eq!(code, Some(1), "{said}");
    let named = |name: &str| said.lines().any(|line| line.contains(&format!("/{name}: ")));
    let silent: Vec<_> = refused.iter().map(|(name, _)| name).filter(|name| !named(name)).collect();
    assert!(silent.is_empty(), "not reported: {silent:?}\n{said}");
    assert!(named("gateway.yaml"), "{said}");
    let loud: Vec<_> = accepted
        .iter()
        .map(|(name, _)| name)
        .filter(|name| said.lines().any(|line| line.contains(&format!("/{name}: ")) && !line.contains("not acted on")))
        .collect();
    assert!(loud.is_empty(), "reported: {loud:?}\n{said}");

    // Not even a part of a mangled key is shown to anybody.
    let keeps = |what: &str, text: &str| {
        assert!(text.contains("tls.key has"), "{what} says what is wrong:\n{text}");
        let lines = certificate.key.lines().filter(|line| !line.starts_with('-'));
        let bytes = lines.clone().map(|line| format!("{:?}", &line.as_bytes()[..8]).replace(['[', ']'], ""));
        for part in lines.map(|line| line[..12].to_owned()).chain(bytes) {
            assert!(!text.contains(&part), "{what} shows a key:\n{text}");
        }
    };
    keeps("validate", &said);
    keeps("the log", &site.control.process().lines().join("\n"));
    keeps("the admin page", &site.control.admin("/debug/objects").await.text());
    let translated = run(&["translate", site.manifests.path().to_str().expect("a temporary path is UTF-8")]);
    keeps("translate", &String::from_utf8_lossy(&translated.stdout));

    let over_tls = client::get(more_port.address(), "/").host("web.example").tls(&authority, "web.example");
    until_answered("an answer with the certificate that has more in it", &over_tls, |answer| answer.status == 200)
        .await;

    let echo = site.get("/set-percent").send().await.echo();
    assert_eq!(echo.headers["x-a"], "100% %REQ(x)% %NOPE%");
    let stats = site.envoy.stats().await;
    let rejected: Vec<_> =
        stats.iter().filter(|(name, count)| name.ends_with("update_rejected") && **count > 0).collect();
    assert!(rejected.is_empty(), "{rejected:?}");
    let nacks =
        site.control.metrics().await.into_iter().filter(|(series, _)| series.contains("_nacks_")).collect::<Vec<_>>();
    assert!(nacks.is_empty(), "{nacks:?}");
    assert_calm(&site.control);
}

/// A certificate with a key on P-521 that does not belong to it. Nothing here can compute with this curve, so an Envoy is the
/// first to see it.
const ODD_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBzjCCAS+gAwIBAgIEcDUyMTAKBggqhkjOPQQDAjAaMRgwFgYDVQQDDA93ZWIu
ZXhhbXBsZS5jb20wIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBox
GDAWBgNVBAMMD3dlYi5leGFtcGxlLmNvbTCBmzAQBgcqhkjOPQIBBgUrgQQAIwOB
hgAEANjGH9Yht59Env85d4HBm5ydcXZSX4KOSer7vy5hYBMlcKZAOJ0Xdt2dVHoP
lvIWO+D9lYXSUo22/N+aOQfb7li2AUfoVu1nhn3icZ2mc4/16Q8k0cqFov/lVUYR
9OtWakEiL4Qcr5gChXKpTNnA/yg/QouA3rSHF/oqN23lNu/hc2K0ox4wHDAaBgNV
HREEEzARgg93ZWIuZXhhbXBsZS5jb20wCgYIKoZIzj0EAwIDgYwAMIGIAkIBdgkh
KBdPuGA6Xjqv9WxjofFAmFP8h9Y1eKyXkfbim3hL6TMjWy83wR0rdaR7AtqKLomi
KAoJkvYbwEZx7W/uPj8CQgF9311Fotew+2jiVf1h/b6KaM5883T54M68SsRAPDUR
K0s6hWHWTrefNZyti6lpJX+Ytx5SRufxl+bPTTEHSpn3pg==
-----END CERTIFICATE-----
";
const ODD_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIAU/a/BmrXcUpL4seD
+T1EpB+UjL/MjVHtxFPJ3dwbpldEr+7oLuSZQaf37M9NVrkya9ZA1uWxD9cb6DH9
CmnT7WyhgYkDgYYABADYxh/WIbefRJ7/OXeBwZucnXF2Ul+Cjknq+78uYWATJXCm
QDidF3bdnVR6D5byFjvg/ZWF0lKNtvzfmjkH2+5YtgFH6FbtZ4Z94nGdpnOP9ekP
JNHKhaL/5VVGEfTrVmpBIi+EHK+YAoVyqUzZwP8oP0KLgN60hxf6Kjdt5Tbv4XNi
tA==
-----END PRIVATE KEY-----
";

#[tokio::test]
async fn a_certificate_that_an_envoy_refuses_costs_no_other_one() {
    for protocol in ["delta", "sotw"] {
        let backend = Backend::start("web").await;
        let (authority, port) = (Authority::new(), Port::lease());
        let odd = Certificate { certificate: ODD_CERTIFICATE.to_owned(), key: ODD_KEY.to_owned() };
        let good = ["a", "b", "c", "d", "e"];
        let mut secrets = good.map(|name| secret(name, &authority.issue(&[&format!("{name}.example")]))).to_vec();
        secrets.push(secret("bad", &odd));
        let names = good.into_iter().chain(["bad"]);
        let listeners = names.map(|name| https_listener(name, &port, &format!("{name}.example"), name));
        let manifests = Manifests::with(&[
            ("gateway.yaml", &gateway(&listeners.collect::<Vec<_>>())),
            ("secrets.yaml", &documents(&secrets)),
            ("web.yaml", &documents(&[service("web", &[backend.address()]), route_to("all", "web")])),
        ]);
        let control = Gateway::start_with(manifests.path(), &[]).await;
        let envoy = Attached::start(&control, Version::Latest, &["--protocol", protocol]).await;
        let answers = async |name: &str| {
            let host = format!("{name}.example");
            let request = client::get(port.address(), "/").host(&host).tls(&authority, &host);
            until_answered(&format!("{protocol}: an answer for {host}"), &request, |answer| answer.status == 200).await;
        };
        for name in good {
            answers(name).await;
        }
        until(&format!("{protocol}: the one that is bad to be found"), async || {
            let page = control.admin("/debug/xds/clients?format=json").await.json();
            let types = page["clients"][0]["types"].as_array().cloned().unwrap_or_default();
            let secrets = types.into_iter().find(|of| of["type"] == "Secret").unwrap_or_default();
            let is_found =
                secrets["parked"] == serde_json::json!(["secret/default/bad"]) && secrets["suspects"].is_null();
            if is_found { Ok(()) } else { Err(secrets.to_string()) }
        })
        .await;
        // Those that come and change later are not held up by it.
        manifests.write("secrets.yaml", documents(&secrets[1..]));
        manifests.write("again.yaml", secret("a", &authority.issue(&["a.example"])));
        answers("a").await;
        drop(envoy);
        assert_calm(&control);
    }
}
