//! The commands that print and end, as a shell or a CI pipeline runs them.

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    gateway::{command, run},
    tools::{build, repository},
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is UTF-8")
}

fn bootstrap(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_saphyr::from_str(&text(&output.stdout)).expect("it is YAML")
}

#[test]
fn flags_come_from_the_environment_and_the_command_line_wins() {
    let mut from_environment = command(&["bootstrap"]);
    from_environment.env("TAILSCALE_GATEWAY_GATEWAY", "ns/env").env("TAILSCALE_GATEWAY_PROTOCOL", "sotw");
    let read = bootstrap(&from_environment.output().expect("started"));
    assert_eq!(read["node"]["cluster"], "ns/env");
    assert_eq!(read["dynamic_resources"]["ads_config"]["api_type"], "GRPC");
    let mut both = command(&["bootstrap", "--gateway", "ns/flag"]);
    both.env("TAILSCALE_GATEWAY_GATEWAY", "ns/env");
    assert_eq!(bootstrap(&both.output().expect("started"))["node"]["cluster"], "ns/flag");
}

#[test]
fn a_switch_in_the_environment_can_be_off() {
    let folder = TempDir::with_prefix("cli-").expect("a temporary folder can be made");
    for (value, succeeds) in
        [("true", true), ("1", true), ("on", true), ("false", true), ("0", true), ("perhaps", false)]
    {
        let mut validate = command(&["validate"]);
        validate.arg(folder.path()).env("TAILSCALE_GATEWAY_PRIVILEGED_PORTS", value);
        let output = validate.output().expect("started");
        assert_eq!(output.status.success(), succeeds, "{value}: {}", text(&output.stderr));
    }
}

#[test]
fn each_bootstrap_has_a_node_id_of_its_own_with_the_hosts_name_in_it() {
    let id =
        || bootstrap(&run(&["bootstrap", "--gateway", "ns/gw"]))["node"]["id"].as_str().expect("a text").to_owned();
    let (first, second) = (id(), id());
    assert_ne!(first, second);
    let host = gethostname::gethostname().into_string().expect("it is UTF-8");
    assert!(first.starts_with(&format!("{host}-")) && first.len() == host.len() + 9, "{first} on {host}");
}

fn validate(folder: &Path) -> (Option<i32>, String, String) {
    let output = command(&["validate"]).arg(folder).output().expect("started");
    let root = format!("{}/", folder.display());
    (output.status.code(), text(&output.stdout).replace(&root, ""), text(&output.stderr))
}

#[test]
fn validate_exits_with_1_for_errors_and_0_for_warnings_and_prints_nothing_else() {
    let folder = TempDir::with_prefix("cli-").expect("a temporary folder can be made");
    let file = folder.path().join("a.yaml");
    fs::write(&file, "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n").expect("written");
    assert_eq!(validate(folder.path()), (Some(0), String::new(), String::new()));
    fs::write(&file, "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n").expect("written");
    let warning =
        "a.yaml: Widget w: kind: Widget of example.com/v1 is no kind that this program reads; it is left out\n";
    assert_eq!(validate(folder.path()), (Some(0), warning.to_owned(), String::new()));
    fs::write(&file, "apiVersion: v1\nkind: Namespace\nmetadata: {name: Not_A_Name}\n").expect("written");
    let (code, out, err) = validate(folder.path());
    assert_eq!((code, out.lines().count(), err.as_str()), (Some(1), 1, ""), "{out}");
    assert!(out.starts_with("a.yaml: Namespace Not_A_Name: metadata.name: "), "{out}");
    let (code, out, err) = validate(&folder.path().join("none"));
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
    assert!(err.ends_with("none: there is no such file or folder\n"), "{err}");
}

#[test]
fn translating_for_a_gateway_that_nothing_is_served_for_says_so() {
    let folder = TempDir::with_prefix("cli-").expect("a temporary folder can be made");
    let manifest = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {namespace: default, name: web}\n\
                    spec: {gatewayClassName: tailscale, listeners: [{name: http, protocol: HTTP, port: 8888}]}\n";
    fs::write(folder.path().join("a.yaml"), manifest).expect("written");
    let translate =
        |gateway| command(&["translate", "--gateway", gateway]).arg(folder.path()).output().expect("started");
    let output = translate("default/web");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let output = translate("default/wep");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "tailscale-gateway: --gateway: nothing is served for default/wep\n");
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let mut child = command(&["crds"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut first = [0; 3];
    child.stdout.take().expect("it is piped").read_exact(&mut first).expect("it prints");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!((text(&first), text(&output.stderr)), ("---".to_owned(), String::new()));
}

#[test]
fn what_is_printed_goes_to_standard_output_and_what_failed_to_standard_error() {
    let output = run(&["crds"]);
    assert!(output.status.success() && output.stderr.is_empty() && !output.stdout.is_empty());
    let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut to_full: Command = command(&["crds"]);
    let output = to_full.stdout(full).stderr(Stdio::piped()).output().expect("started");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
}

#[test]
fn the_check_that_the_image_makes_tells_a_static_program_from_another() {
    let check =
        |program: &Path| Command::new(repository().join("tools/static")).arg(program).output().expect("bash runs");
    // Programs in Go are static; ours is when `make static` builds it.
    let good = check(&build("etcd"));
    assert!(good.status.success(), "{}", text(&good.stderr));
    assert!(text(&good.stdout).contains("is static"), "{}", text(&good.stdout));
    let bad = check(Path::new(env!("CARGO_BIN_EXE_tailscale-gateway")));
    assert_eq!(bad.status.code(), Some(1), "{}", text(&bad.stdout));
    assert!(text(&bad.stderr).contains("names a dynamic linker"), "{}", text(&bad.stderr));
}

#[test]
fn a_command_whose_output_is_lost_fails() {
    let folder = TempDir::with_prefix("cli-").expect("a temporary folder can be made");
    // Only a warning: without it the exit code would be 0.
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: idle}\nspec: {}\n";
    fs::write(folder.path().join("route.yaml"), route).expect("the folder is ours");
    let path = folder.path().to_str().expect("a temporary path is UTF-8");
    let said = run(&["validate", path]);
    assert!(said.status.success() && text(&said.stdout).contains("names no Gateway"), "{}", text(&said.stdout));
    for arguments in
        [&["validate", path][..], &["translate", path], &["crds"], &["bootstrap", "--gateway", "default/web"]]
    {
        let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        let output = command(arguments).stdout(full).output().expect("started");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains("standard output"), "{arguments:?}: {}", text(&output.stderr));
    }
}
