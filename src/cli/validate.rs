//! What `validate` finds and how it says it. Never prints.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use crate::{
    model::Severity,
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
