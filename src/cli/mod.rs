//! The commands that do something and end: `bootstrap`, `certificates`, `crds`, `preflight`, `translate`, `validate`, and
//! those that pods run, `install` and `drain`.
//!
//! Beside `app`, which wires what serves and never ends by itself. Never listens, never watches, never logs.

pub mod bootstrap;
pub mod certificates;
mod output;
pub mod pod;
pub mod preflight;
mod private;
pub mod translate;
pub mod validate;

use std::process::ExitCode;

use serde_json::json;

pub use bootstrap::{BootstrapError, Prepared, bootstrap, prepare, prepare_fetched};
pub use certificates::certificates;
pub use output::{complain, print, print_verdict, write_text};
pub use preflight::preflight;

use crate::{
    api,
    compile::Settings,
    config::{OutputFormat, TranslateConfig, ValidateConfig},
    source::{FileWorld, read_all},
};

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
            // The conditions may say why; so they are printed all the same.
            let missing =
                config.gateway.as_ref().filter(|gateway| translation.resources.get(gateway.to_string()).is_none());
            let whole = json!({"resources": translation.resources, "objects": translation.objects});
            let printed = match config.output {
                OutputFormat::Json => print(&format!("{whole:#}\n")),
                OutputFormat::Yaml => match serde_saphyr::to_string(&whole) {
                    Ok(text) => print(&text),
                    Err(error) => complain(&error),
                },
            };
            match missing {
                Some(gateway) => complain(&format!("--gateway: nothing is served for {gateway}")),
                None => printed,
            }
        }
        Err(error) => complain(&error),
    }
}

/// Prints what is wrong with manifests, one line each, by file and place; the exit code is 1 if any of it is an error.
pub fn validate(config: &ValidateConfig, settings: Settings) -> ExitCode {
    let compiled = |world: &FileWorld| {
        let unchecked = if settings.in_cluster { validate::unchecked(world) } else { Vec::new() };
        let reports = translate::reports(world.objects(), settings);
        let problems = reports.values().flat_map(|report| report.problems()).chain(&unchecked);
        problems.map(|problem| world.locate(problem)).collect()
    };
    match validate::problems(&config.paths, compiled) {
        Ok(problems) => print_verdict(&validate::report(&problems), validate::verdict(&problems)),
        Err(error) => complain(&error),
    }
}
