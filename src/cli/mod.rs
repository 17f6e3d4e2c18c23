//! The commands that print something and end: `bootstrap`, `crds`, `validate`.
//!
//! Beside `app`, which wires what serves and never ends by itself. Never listens, never watches, never logs.

mod output;
pub mod validate;

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    process::ExitCode,
};

pub use output::{complain, print, write_text};

use crate::{
    api,
    bootstrap::Bootstrap,
    config::{BootstrapConfig, ValidateConfig},
    source::{FileWorld, Located},
};

/// Prints the bootstrap of an Envoy.
pub fn bootstrap(config: &BootstrapConfig) -> ExitCode {
    let node_id = config.node_id.clone().unwrap_or_else(new_node_id);
    print(&bootstrap_text(config, &node_id))
}

/// The bootstrap of an Envoy of this name, with a line that says how to use it.
pub fn bootstrap_text(config: &BootstrapConfig, node_id: &str) -> String {
    let BootstrapConfig { gateway, xds, node_id: _, admin, protocol, discovery } = config;
    let bootstrap = Bootstrap { gateway, xds, node_id, admin: *admin, protocol: *protocol, discovery: *discovery };
    format!("# The Envoy of Gateway {gateway}: envoy -c THIS_FILE\n{}", bootstrap.to_yaml())
}

/// Prints our CustomResourceDefinitions.
pub fn crds() -> ExitCode {
    print(&api::crds_yaml())
}

/// Prints what is wrong with manifests, one line each, by file and place; the exit code is 1 if any of it is an error.
///
/// `extra` finds what is wrong with the objects together; [`FileWorld::locate`] tells where they stand.
pub fn validate(config: &ValidateConfig, extra: impl FnOnce(&FileWorld) -> Vec<Located>) -> ExitCode {
    match validate::problems(&config.paths, extra) {
        Ok(problems) => {
            print(&validate::report(&problems));
            validate::verdict(&problems)
        }
        Err(error) => complain(&error),
    }
}

/// The host's name, which is the pod's in a cluster, and eight hexadecimal digits that no other Envoy there has.
fn new_node_id() -> String {
    let host = gethostname::gethostname();
    // The standard library has no random numbers, but its hashers have random keys.
    let random = RandomState::new().build_hasher().finish() as u32;
    format!("{}-{random:08x}", host.to_string_lossy())
}
