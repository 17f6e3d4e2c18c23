//! The command line: what is asked for, and what `bootstrap`, `crds` and `validate` say.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser as _};
use tailscale_gateway::{
    bootstrap::{Discovery, Protocol},
    cli::{prepare, validate, write_text},
    config::{Command, Config, LogLevel, OutputFormat, ReportFormat, SourceSpec},
    model::{Kind, ObjectKey, ObjectName, Problem, Reason},
    source::FileWorld,
    telemetry::LogFormat,
};
use tempfile::TempDir;

fn parse(arguments: &str) -> Result<Config, String> {
    let words = std::iter::once("tailscale-gateway").chain(arguments.split_whitespace());
    Config::try_parse_from(words).map_err(|error| error.to_string())
}

fn command(arguments: &str) -> Command {
    parse(arguments).unwrap_or_else(|error| panic!("{arguments}: {error}")).command
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    Config::command().debug_assert();
}

#[test]
fn serve_has_the_documented_defaults() {
    let Config { log, command } = parse("serve --source dir:some/path").expect("good");
    assert_eq!((log.log_format, log.log_level), (LogFormat::Text, LogLevel::Info));
    let Command::Serve(serve) = command else { panic!("{command:?}") };
    assert_eq!(serve.source, Some(SourceSpec::Dir(PathBuf::from("some/path"))));
    assert_eq!(serve.xds_listen.to_string(), "127.0.0.1:18000");
    assert_eq!(serve.admin_listen.to_string(), "127.0.0.1:8080");
    assert!(!serve.compile.privileged_ports);
}

#[test]
fn every_flag_of_every_command_is_read() {
    let serve = "--log-format json serve --source dir:/a --xds-listen [::]:1 --admin-listen 0.0.0.0:2 \
                 --privileged-ports --log-level debug";
    let Config { log, command: Command::Serve(serve) } = parse(serve).expect("good") else { panic!("it is serve") };
    assert_eq!((log.log_format, log.log_level.as_str()), (LogFormat::Json, "debug"));
    assert_eq!((serve.xds_listen.port(), serve.admin_listen.port()), (1, 2));
    assert!(serve.compile.privileged_ports);

    let bootstrap = "bootstrap --gateway ns/gw --xds cp:1 --node-id me --admin 127.0.0.1:2 --protocol sotw \
                     --discovery per-type";
    let Command::Bootstrap(bootstrap) = command(bootstrap) else { panic!("it is bootstrap") };
    assert_eq!(bootstrap.gateway, ObjectName::new("ns", "gw"));
    assert_eq!((bootstrap.xds.to_string().as_str(), bootstrap.node_id.as_deref()), ("cp:1", Some("me")));
    assert_eq!((bootstrap.protocol, bootstrap.discovery), (Protocol::Sotw, Discovery::PerType));
    assert!(prepare(&bootstrap, "me").expect("it can be made").text.contains("ns/gw"));

    let security = "serve --source dir:/a --xds-tls-cert c --xds-tls-key k --xds-client-ca a --xds-trust-domain x.example \
                    --xds-keep-expired --xds-insecure";
    let Command::Serve(serve) = command(security) else { panic!("it is serve") };
    assert_eq!(
        serve.xds.files().expect("all three are given").map(|path| path.to_str()),
        [Some("c"), Some("k"), Some("a")]
    );
    assert_eq!(serve.xds.xds_trust_domain.as_str(), "x.example");
    assert!(serve.xds.xds_keep_expired && serve.xds.xds_insecure);

    let tls = "bootstrap --gateway ns/gw --tls-ca /t/ca --tls-cert /t/c --tls-key /t/k --tls-server-name CP.example \
               --tls-sds-dir /sds";
    let Command::Bootstrap(bootstrap) = command(tls) else { panic!("it is bootstrap") };
    let prepared = prepare(&bootstrap, "me").expect("it can be made");
    assert!(prepared.text.contains("/sds/xds-certificate.yaml") && prepared.text.contains("cp.example"));
    let paths: Vec<_> = prepared.files.iter().map(|(path, _)| path.to_str().expect("UTF-8")).collect();
    assert_eq!(paths, ["/sds/xds-certificate.yaml", "/sds/xds-authorities.yaml"]);
    let tls = "bootstrap --gateway ns/gw --xds cp:1 --tls-ca t/ca --tls-cert t/c --tls-key t/k";
    let Command::Bootstrap(bootstrap) = command(tls) else { panic!("it is bootstrap") };
    let prepared = prepare(&bootstrap, "me").expect("it can be made");
    let here = std::env::current_dir().expect("there is one").join("t");
    assert_eq!(prepared.files[0].0, here.join("xds-certificate.yaml"), "beside the certificate");
    assert!(prepared.files[0].1.contains(here.join("k").to_str().expect("UTF-8")), "{}", prepared.files[0].1);
    assert!(prepared.text.contains("sni: cp\n"), "{}", prepared.text);

    let certificates = "certificates --out o --gateway a/b --gateway c/d,e/f --server-name X.example --server-name ::1 \
                        --trust-domain t.example --lifetime 2d --authority-lifetime 1000h";
    let Command::Certificates(certificates) = command(certificates) else { panic!("it is certificates") };
    assert_eq!(certificates.gateway.len(), 3);
    assert_eq!(certificates.server_name, ["x.example", "::1"]);
    assert_eq!(certificates.trust_domain.as_str(), "t.example");
    assert_eq!((certificates.lifetime.as_secs(), certificates.authority_lifetime.as_secs()), (172_800, 3_600_000));

    let Command::Translate(translate) = command("translate a b --gateway ns/gw -o json --privileged-ports") else {
        panic!("it is translate")
    };
    assert_eq!(translate.paths, [PathBuf::from("a"), PathBuf::from("b")]);
    assert_eq!((translate.gateway, translate.output), (Some(ObjectName::new("ns", "gw")), OutputFormat::Json));
    let Command::Validate(validate) = command("validate a") else { panic!("it is validate") };
    assert_eq!(validate.paths, [PathBuf::from("a")]);
    assert!(matches!(command("crds"), Command::Crds));

    let preflight = "preflight --kubeconfig k --context c --envoy-gateway-namespace eg --envoy-gateway-config f \
                     --envoy-gateway-version v1.9.1 --service-account a -o json";
    let Command::Preflight(preflight) = command(preflight) else { panic!("it is preflight") };
    assert_eq!((preflight.kubeconfig, preflight.context.as_deref()), (Some(PathBuf::from("k")), Some("c")));
    assert_eq!(preflight.envoy_gateway_namespace, "eg");
    assert_eq!(preflight.envoy_gateway_config, Some(PathBuf::from("f")));
    assert_eq!(preflight.envoy_gateway_version.map(|version| version.to_string()).as_deref(), Some("v1.9.1"));
    assert_eq!((preflight.service_account.as_deref(), preflight.output), (Some("a"), ReportFormat::Json));
    let Command::Preflight(preflight) = command("preflight") else { panic!("it is preflight") };
    assert_eq!((&*preflight.envoy_gateway_namespace, preflight.service_account), ("envoy-gateway-system", None));
}

#[test]
fn what_can_not_be_meant_is_refused_with_a_word_of_what_to_write() {
    for (arguments, says) in [
        ("serve --source /path", "dir:PATH"),
        ("serve --source dir:", "the path is missing"),
        ("bootstrap", "--gateway"),
        ("bootstrap --gateway web", "write NAMESPACE/NAME"),
        ("bootstrap --gateway a/b/c", "write NAMESPACE/NAME"),
        ("bootstrap --gateway Default/web", "write NAMESPACE/NAME"),
        ("bootstrap --gateway a/b --xds 127.0.0.1", "write HOST:PORT"),
        ("bootstrap --gateway a/b --admin localhost:1", "--admin"),
        ("validate", "PATH"),
        ("preflight --envoy-gateway-version latest", "write a version of Envoy Gateway, such as v1.9.1"),
        ("translate", "PATH"),
        ("serve --source dir:/a --xds-tls-cert c", "--xds-tls-key"),
        ("serve --source dir:/a --xds-tls-cert c --xds-tls-key k", "--xds-client-ca"),
        ("serve --source dir:/a --xds-trust-domain A", "a trust domain has"),
        ("bootstrap --gateway a/b --tls-cert c --tls-key k", "--tls-ca"),
        ("bootstrap --gateway a/b --tls-sds-dir d", "--tls-cert"),
        ("bootstrap --gateway a/b --tls-server-name a:1", "write a DNS name or an IP address"),
        ("certificates", "--out"),
        ("certificates --out o --lifetime 90", "such as 90d"),
        ("certificates --out o --gateway web", "write NAMESPACE/NAME"),
    ] {
        let error = parse(arguments).expect_err(arguments);
        assert!(error.contains(says), "{arguments}: {error}");
    }
    let empty = Config::try_parse_from(["tailscale-gateway", "bootstrap", "--gateway", "a/b", "--node-id", ""]);
    assert!(empty.is_err());
}

#[test]
fn p79_xds_without_tls_leaves_this_machine_only_when_that_is_said() {
    let tls = "--xds-tls-cert c --xds-tls-key k --xds-client-ca a";
    for (listen, flags, exposes) in [
        ("127.0.0.1:1", "", false),
        ("127.9.9.9:1", "", false),
        ("[::1]:1", "", false),
        ("[::ffff:127.0.0.1]:1", "", false),
        ("0.0.0.0:1", "", true),
        ("[::]:1", "", true),
        ("10.0.0.1:1", "", true),
        ("[::ffff:10.0.0.1]:1", "", true),
        ("0.0.0.0:1", "--xds-insecure", false),
        ("0.0.0.0:1", tls, false),
    ] {
        let arguments = format!("serve --source dir:/a --xds-listen {listen} {flags}");
        let Command::Serve(serve) = command(&arguments) else { panic!("it is serve") };
        assert_eq!(serve.xds.exposes(serve.xds_listen), exposes, "{arguments}");
    }
}

#[test]
fn every_flag_has_an_environment_variable_of_its_name_and_help_says_both() {
    let mut root = Config::command();
    root.build();
    for command in root.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let help = command.render_long_help().to_string();
        for argument in command.get_arguments().filter(|argument| !argument.is_positional()) {
            let flag = argument.get_long().expect("every flag has a long name");
            if ["help", "version"].contains(&flag) {
                continue;
            }
            let variable = format!("TAILSCALE_GATEWAY_{}", flag.to_uppercase().replace('-', "_"));
            let declared = argument.get_env().and_then(|name| name.to_str());
            assert_eq!(declared, Some(variable.as_str()), "{} --{flag}", command.get_name());
            assert!(help.contains(&format!("[env: {variable}=")) && help.contains(&format!("--{flag}")), "{help}");
        }
    }
}

/// A folder with a file of each sort, and the folder itself.
fn manifests(files: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let folder = TempDir::with_prefix("cli-").expect("a temporary folder can be made");
    for (name, content) in files {
        fs::write(folder.path().join(name), content).expect("it can be written");
    }
    let path = folder.path().to_owned();
    (folder, path)
}

const GOOD: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: good}\n";
const UNKNOWN: &str = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n";

#[test]
fn validate_says_one_line_for_each_problem_by_file_and_place() {
    let refused = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: ns}\nspec: {ports: [{port: x}]}\n";
    let (_keep, path) =
        manifests(&[("a.yaml", &format!("{GOOD}---\n{refused}---\nkind: [\n")), ("b.yaml", GOOD), ("c.yaml", UNKNOWN)]);
    let found = validate::problems(std::slice::from_ref(&path), |_| Vec::new()).expect("read");
    let report = validate::report(&found).replace(&format!("{}/", path.display()), "");
    let lines: Vec<&str> = report.lines().collect();
    assert_eq!(lines.len(), 4, "{report}");
    assert!(lines[0].starts_with("a.yaml: Service ns/s: spec.ports[0].port: "), "{report}");
    assert!(lines[1].starts_with("a.yaml: line 10, column 7: this is not YAML: "), "{report}");
    assert!(lines[2].starts_with("b.yaml: Namespace good: ") && lines[2].contains("a.yaml, line 1"), "{report}");
    assert!(lines[3].starts_with("c.yaml: Widget w: kind: "), "{report}");
}

#[test]
fn validate_fails_for_errors_and_not_for_warnings() {
    for (content, expected) in [(GOOD, ExitCode::SUCCESS), (UNKNOWN, ExitCode::SUCCESS), ("a: [", ExitCode::FAILURE)] {
        let (_keep, path) = manifests(&[("a.yaml", content)]);
        let found = validate::problems(&[path], |_| Vec::new()).expect("read");
        assert_eq!(format!("{:?}", validate::verdict(&found)), format!("{expected:?}"), "{content}");
    }
}

#[test]
fn validate_takes_in_what_others_find_at_the_place_of_the_object() {
    let (_keep, path) = manifests(&[("a.yaml", GOOD), ("b.yaml", "a: [")]);
    let found = validate::problems(std::slice::from_ref(&path), |world| {
        let object = ObjectKey::new(Kind::Namespace, ObjectName::new("", "good"));
        let problem = Problem::new(object, "spec", Reason::TargetNotFound, "no such thing");
        vec![world.locate(&problem), world.locate(&problem)]
    });
    let report = validate::report(&found.expect("read")).replace(&format!("{}/", path.display()), "");
    let (first, rest) = report.split_once('\n').expect("two lines");
    assert_eq!(first, "a.yaml: Namespace good: spec: no such thing");
    assert_eq!(rest.lines().count(), 1, "{report}");
}

#[test]
fn of_a_gateway_in_a_cluster_whose_class_is_not_there_it_is_said_that_it_was_not_checked() {
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: web}\nspec: {gatewayClassName: \
                   tailscale, listeners: [{name: a, port: 80, protocol: HTTP}]}\n";
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: tailscale}\nspec: \
                 {controllerName: example.com/other}\n";
    let unchecked = |files: &[(&str, &str)]| {
        let (_keep, path) = manifests(files);
        let located = |world: &FileWorld| validate::unchecked(world).iter().map(|one| world.locate(one)).collect();
        let found = validate::problems(std::slice::from_ref(&path), located).expect("read");
        assert_eq!(format!("{:?}", validate::verdict(&found)), format!("{:?}", ExitCode::SUCCESS));
        validate::report(&found).replace(&format!("{}/", path.display()), "")
    };
    let said = unchecked(&[("a.yaml", gateway)]);
    let start = "a.yaml: Gateway default/web: spec.gatewayClassName: GatewayClass tailscale is not among the manifests, so \
                 nothing of the Gateway and its routes was checked";
    assert!(said.starts_with(start), "{said}");
    assert_eq!(unchecked(&[("a.yaml", gateway), ("b.yaml", class)]), "");
}

/// A reader that fails after some bytes.
struct Gone(io::ErrorKind);

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_gone_is_no_failure_and_a_full_disk_is() {
    assert!(write_text(&mut Gone(io::ErrorKind::BrokenPipe), "text").is_ok());
    assert!(write_text(&mut Gone(io::ErrorKind::StorageFull), "text").is_err());
    let mut written = Vec::new();
    write_text(&mut written, "text").expect("a Vec takes everything");
    assert_eq!(written, b"text");
}
