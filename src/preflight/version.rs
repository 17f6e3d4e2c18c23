//! Versions of Envoy Gateway, and what each has learned (`envoy-gateway.md` §1.3, its release notes).

use std::{fmt, str::FromStr};

use super::{Finding, configuration::Manager};
use crate::extension::Hook;

/// A version of Envoy Gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

/// The first one that hands over routes and knows backends of other groups.
pub(super) const OLDEST: Version = Version::new(1, 5, 0);
/// The first one with several extension managers.
const SEVERAL_MANAGERS: Version = Version::new(1, 8, 0);

impl Version {
    const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// The version that an image is of, by its tag.
    pub fn of_image(image: &str) -> Option<Self> {
        let name = image.split_once('@').map_or(image, |(name, _)| name);
        let (repository, tag) = name.rsplit_once(':')?;
        // A colon may also stand before a registry's port.
        if tag.contains('/') || repository.is_empty() { None } else { tag.parse().ok() }
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write a version of Envoy Gateway, such as v1.9.1".to_owned();
        let text = text.strip_prefix('v').unwrap_or(text);
        let number = |part: Option<&str>| part?.parse::<u32>().ok();
        let mut parts = text.split(['-', '+']).next().unwrap_or_default().split('.');
        let (Some(major), Some(minor)) = (number(parts.next()), number(parts.next())) else { return Err(wrong()) };
        let patch = match parts.next() {
            Some(patch) => number(Some(patch)).ok_or_else(wrong)?,
            None => 0,
        };
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self { major, minor, patch }) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What of an extension manager this version ignores, as it does with all that it does not know.
pub(super) fn unknown(version: Version, manager: &Manager<'_>, several: bool) -> Vec<Finding> {
    if version < OLDEST {
        let what =
            format!("the Envoy Gateway is {version}, which knows neither backendResources nor hands over routes");
        return vec![
            Finding::error(manager.place(""), what)
                .effect("nothing of this program reaches its Envoys")
                .remedy(format!("upgrade it to {OLDEST} or later")),
        ];
    }
    let mut findings = Vec::new();
    if several && version < SEVERAL_MANAGERS {
        findings.push(
            Finding::error(
                "extensionManagers",
                format!("the Envoy Gateway is {version}, which does not know this list"),
            )
            .effect("it ignores it without a word and calls nobody")
            .remedy(format!("write extensionManager, or upgrade it to {SEVERAL_MANAGERS}")),
        );
    }
    let hooks = [(Hook::Endpoints, Version::new(1, 8, 0))];
    for (hook, since) in hooks.into_iter().filter(|(hook, since)| version < *since && manager.has_hook(*hook)) {
        let what = format!("the Envoy Gateway is {version}, which does not know {}", hook.label());
        let place = manager.place("hooks.xdsTranslator.post");
        findings
            .push(Finding::warning(place, what).effect(format!("it never calls it; {since} does")).remedy("remove it"));
    }
    let client_certificate = "service.tls.clientCertificateRef";
    let since = Version::new(1, 6, 0);
    if version < since && !manager.get(client_certificate).is_null() {
        findings.push(
            Finding::error(
                manager.place(client_certificate),
                format!("the Envoy Gateway is {version}, which does not know it"),
            )
            .effect("it shows no certificate and is refused where one is asked for")
            .remedy(format!("upgrade it to {since}, or ask for none")),
        );
    }
    findings
}
