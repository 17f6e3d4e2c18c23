//! README's guides, done as they stand: files are written where it says, commands run in its order, in one shell. The one for
//! Envoy Gateway has a shell of its own.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use crate::support::{
    alone::alone,
    envoy::Version,
    ports::Port,
    process::Process,
    real_envoy_gateway::{homes, install_envoy},
    tools::{build, repository},
};

/// The ports that README names; in the test each is another one, so that tests do not meet.
const PORTS: [&str; 5] = ["8888", "9000", "18000", "8080", "19000"];

/// The section that is not done with the others.
const ENVOY_GATEWAY: &str = "With Envoy Gateway";

/// The shell script that README's blocks are, in the sections that are wanted: `yaml PATH` writes a file, `sh` is run.
fn script(wanted: impl Fn(&str) -> bool) -> String {
    let readme = fs::read_to_string(repository().join("README.md")).expect("README.md is there");
    let sections = readme.split("\n## ").filter(|section| wanted(section.lines().next().unwrap_or_default()));
    let text = sections.collect::<Vec<_>>().join("\n");
    let mut script = "set -euxo pipefail\ntrap 'kill $(jobs -p); wait' EXIT\n".to_owned();
    let mut blocks = text.split("\n```");
    blocks.next();
    // Blocks and the text between them take turns.
    while let (Some(block), between) = (blocks.next(), blocks.next()) {
        let (info, content) = block.split_once('\n').unwrap_or((block, ""));
        match info.split_once(' ').unwrap_or((info, "")) {
            ("sh", "") => script.push_str(&format!("{content}\n")),
            ("yaml", path) if !path.is_empty() => {
                script.push_str(&format!("mkdir -p \"$(dirname {path})\"\ncat > {path} <<'END'\n{content}\nEND\n"));
            }
            ("text" | "console", "") => {}
            _ => panic!("README has a block of a kind that no test runs: ```{info}"),
        }
        assert!(between.is_some(), "the last block of README is not closed");
    }
    script
}

#[tokio::test]
async fn the_guides_in_the_readme_work_as_they_stand() {
    let folder = tempfile::tempdir().expect("a folder");
    let ports: Vec<Port> = PORTS.iter().map(|_| Port::lease()).collect();
    let mut script = script(|section| section != ENVOY_GATEWAY);
    for (written, leased) in PORTS.iter().zip(&ports) {
        script = script.replace(written, &leased.number().to_string());
    }
    // Several Envoys run beside each other in tests, which takes a flag.
    let envoy = format!("{} --use-dynamic-base-id --log-level warning", Version::Latest.program().display());
    let mut command = shell(folder.path(), &script, &[("envoy", envoy)]);
    let address = |at: usize| format!("127.0.0.1:{}", ports[at].number());
    command
        .env("TAILSCALE_GATEWAY_XDS_LISTEN", address(2))
        .env("TAILSCALE_GATEWAY_XDS", address(2))
        .env("TAILSCALE_GATEWAY_ADMIN_LISTEN", address(3))
        .env("TAILSCALE_GATEWAY_ADMIN", address(4));
    let shell = Process::spawn("README", command);
    let status = shell.wait().await;
    assert!(status.success(), "README's commands end with {status}");
    let lines = shell.lines();
    for told in [
        // What `validate` says of the broken route, and its exit code.
        "broken/route.yaml: HTTPRoute default/broken: spec.rules[0].matches[0].path.value: ",
        "exit code 1",
        "default/web",
    ] {
        assert!(lines.iter().any(|line| line.contains(told)), "nothing says {told:?}");
    }
}

#[test]
fn the_guide_for_envoy_gateway_works_as_it_stands() {
    alone(the_guide_for_envoy_gateway_works_as_it_stands, async {
        let folder = tempfile::tempdir().expect("a folder");
        let mut script = script(|section| section == ENVOY_GATEWAY);
        // It keeps what it has under the user's home, and fetches an Envoy there.
        let home = folder.path().join("home");
        install_envoy(&home);
        for (written, here) in [
            ("host: {}", format!("host: {}", homes(&home))),
            ("certgen --local", format!("certgen --local --config-home {}", home.display())),
        ] {
            assert!(script.contains(written), "README's guide has no {written:?}");
            script = script.replace(written, &here);
        }
        let envoy_gateway = build("envoy-gateway").display().to_string();
        let shell = Process::spawn("README", shell(folder.path(), &script, &[("envoy-gateway", envoy_gateway)]));
        let status = shell.wait().await;
        assert!(status.success(), "README's commands end with {status}");
        let lines = shell.lines();
        let shown = |wanted: &str| lines.iter().filter(|line| line.trim() == wanted).count();
        // The script that writes the file is shown as it runs; what it writes is not.
        assert_eq!(shown("gatewayClassName: envoy"), 2, "the file came back twice");
        // The page has no line's end, so it is there when the last program that prints has ended.
        let page = shell.wait_for_line("\"hook\":\"Translation\"").await;
        assert!(page.contains("default/web"), "the page does not say which Gateway was asked about: {page}");
    });
}

/// A shell that runs a script in a folder, with our program and others: each is a name and a command line.
fn shell(folder: &Path, script: &str, programs: &[(&str, String)]) -> Command {
    let bin = folder.join("bin");
    fs::create_dir(&bin).expect("a folder for programs");
    let program = |name: &str, line: &str| {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\nexec {line} \"$@\"\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    };
    program("tailscale-gateway", env!("CARGO_BIN_EXE_tailscale-gateway"));
    programs.iter().for_each(|(name, line)| program(name, line));
    let work = folder.join("work");
    fs::create_dir(&work).expect("a folder to work in");
    let mut command = Command::new("bash");
    command.current_dir(&work).arg("-c").arg(script);
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").expect("PATH is set")));
    command
}
