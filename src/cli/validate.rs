//! What `validate` finds and how it says it. Never prints.

use std::{collections::BTreeSet, fmt::Write as _, path::PathBuf, process::ExitCode};

use crate::{
    api::Object,
    model::{Problem, Reason, Severity},
    source::{FileWorld, Located, StartError, read_all},
};

/// Everything that is wrong with the manifests under some paths, by file and place, each thing once.
///
/// # Errors
///
/// When one of the paths is not there or can not be read at all.
pub fn problems(paths: &[PathBuf], extra: impl FnOnce(&FileWorld) -> Vec<Located>) -> Result<Vec<Located>, StartError> {
    let world = read_all(paths)?;
    let mut problems = world.problems();
    problems.extend(extra(&world));
    problems.sort();
    problems.dedup();
    Ok(problems)
}

/// The Gateways of which nothing can be said: whose a Gateway in a cluster is, its class alone says, and that is not there.
pub fn unchecked(world: &FileWorld) -> Vec<Problem> {
    let classes: BTreeSet<_> = world
        .objects()
        .filter(|object| matches!(object, Object::GatewayClass(_)))
        .map(|object| object.key().name.name)
        .collect();
    let gateways = world.objects().filter_map(|object| match object {
        Object::Gateway(gateway) => Some((object, gateway.spec.gateway_class_name.as_str())),
        _ => None,
    });
    gateways
        .filter(|(_, class)| !classes.contains(*class))
        .map(|(gateway, class)| {
            let message = format!(
                "GatewayClass {class} is not among the manifests, so nothing of the Gateway and its routes was checked; add \
                 the one that the cluster has (kubectl get gatewayclass {class} --output yaml)"
            );
            Problem::new(gateway.key(), "spec.gatewayClassName", Reason::NotActedOn, message)
        })
        .collect()
}

/// The problems as text, one line each.
pub fn report(problems: &[Located]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        writeln!(text, "{problem}").expect("writing to a String does not fail");
        text
    })
}

/// 1 if any of it is an error, 0 if all are warnings.
pub fn verdict(problems: &[Located]) -> ExitCode {
    if problems.iter().any(|problem| problem.severity() == Severity::Error) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
