//! The commands that print something and end: `bootstrap`, `crds`, `translate`, `validate`.
//!
//! Beside `app`, which wires what serves and never ends by itself. Never listens, never watches, never logs.

mod output;
pub mod translate;
pub mod validate;

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    process::ExitCode,
};

use serde_json::json;

pub use output::{complain, print, write_text};

use crate::{
    api,
    bootstrap::Bootstrap,
    compile::Settings,
    config::{BootstrapConfig, OutputFormat, TranslateConfig, ValidateConfig},
    source::{FileWorld, read_all},
};

/// Prints the bootstrap of an Envoy.
pub fn bootstrap(config: &BootstrapConfig) -> ExitCode {
    let node_id = config.node_id.clone().unwrap_or_else(new_node_id);
    print(&bootstrap_text(config, &node_id))
}

/// The bootstrap of an Envoy of this name, with a line that says how to use it.
pub fn bootstrap_text(config: &BootstrapConfig, node_id: &str) -> String {
    let BootstrapConfig { gateway, xds, node_id: _, admin, protocol, discovery } = config;
    let bootstrap = Bootstrap {
        gateway,
        xds,
        node_id: Some(node_id),
        admin: *admin,
        probes: None,
        protocol: *protocol,
        discovery: *discovery,
    };
    format!("# The Envoy of Gateway {gateway}: envoy -c THIS_FILE\n{}", bootstrap.to_yaml())
}

/// Prints our CustomResourceDefinitions.
pub fn crds() -> ExitCode {
    print(&api::crds_yaml())
}

/// Prints what would be served, and the conditions every object would get; problems with the files themselves go to standard
/// error.
pub fn translate(config: &TranslateConfig, settings: Settings) -> ExitCode {
    let world = match read_all(&config.paths) {
        Ok(world) => world,
        Err(error) => return complain(&error),
    };
    for problem in world.problems() {
        complain(&problem);
    }
    match translate::translate(world.objects(), settings, config.gateway.as_ref()) {
        Ok(translation) => {
            let whole = json!({"resources": translation.resources, "objects": translation.objects});
            match config.output {
                OutputFormat::Json => print(&format!("{whole:#}\n")),
                OutputFormat::Yaml => match serde_saphyr::to_string(&whole) {
                    Ok(text) => print(&text),
                    Err(error) => complain(&error),
                },
            }
        }
        Err(error) => complain(&error),
    }
}

/// Prints what is wrong with manifests, one line each, by file and place; the exit code is 1 if any of it is an error.
pub fn validate(config: &ValidateConfig, settings: Settings) -> ExitCode {
    let compiled = |world: &FileWorld| {
        let reports = translate::reports(world.objects(), settings);
        reports.values().flat_map(|report| report.problems()).map(|problem| world.locate(problem)).collect()
    };
    match validate::problems(&config.paths, compiled) {
        Ok(problems) => {
            print(&validate::report(&problems));
            validate::verdict(&problems)
        }
        Err(error) => complain(&error),
    }
}

/// The host's name, which is the pod's in a cluster, and eight hexadecimal digits that no other Envoy there has.
pub fn new_node_id() -> String {
    let host = gethostname::gethostname();
    // The standard library has no random numbers, but its hashers have random keys.
    let random = RandomState::new().build_hasher().finish() as u32;
    format!("{}-{random:08x}", host.to_string_lossy())
}
