//! Of which version Gateway API's definitions in a cluster are, and whether that is one that this program supports.

use std::collections::BTreeMap;

use super::World;
use crate::{
    api::CustomResourceDefinition,
    model::{BUNDLE_VERSION_ANNOTATION, Kind, ObjectKey, Problem, Reason},
    store::IndexKey,
};

/// The supported versions, by their second number; the first one is 1. The oldest is the first whose GatewayClass has
/// `status.supportedFeatures` as we write it, the latest the one that `api::gateway_api` is made after.
const SUPPORTED: std::ops::RangeInclusive<u32> = 2..=6;

/// Whether any definition has been seen, and what is wrong with those that have. "If implementations detect any Gateway API
/// CRDs that either do not have this annotation set, or have it set to a version that is not recognized or supported by the
/// implementation, this condition MUST be set to false" (Gateway API, `GatewayClassConditionStatusSupportedVersion`).
pub(super) fn check(class: &ObjectKey, world: &mut World<'_>) -> (bool, Option<Problem>) {
    let names = world.index(IndexKey::All(Kind::CustomResourceDefinition));
    let mut unsupported: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    for name in &names {
        let Some(definition) = world.object::<CustomResourceDefinition>(name) else { continue };
        let annotations = definition.metadata.annotations.as_ref();
        let version = annotations.and_then(|annotations| annotations.get(BUNDLE_VERSION_ANNOTATION));
        if !version.is_some_and(|version| is_supported(version)) {
            let resource = name.name.split('.').next().unwrap_or_default();
            unsupported.entry(version.cloned()).or_default().push(resource.to_owned());
        }
    }
    let problem = (!unsupported.is_empty()).then(|| {
        let found = unsupported.iter().map(|(version, resources)| {
            let version = version.as_deref().map_or("without a version".to_owned(), |version| format!("of {version}"));
            format!("{version}: {}", resources.join(", "))
        });
        let message = format!(
            "definitions of Gateway API {}; those of v1.{} to v1.{} are supported, others are served as far as they agree with \
             these: install a supported release",
            found.collect::<Vec<_>>().join("; "),
            SUPPORTED.start(),
            SUPPORTED.end()
        );
        Problem::new(class.clone(), "", Reason::UnsupportedVersion, message)
    });
    (!names.is_empty(), problem)
}

/// Whether a version such as `v1.6.3` or `v1.6.0-rc.1` is one of those that are supported.
fn is_supported(version: &str) -> bool {
    let mut numbers = version.strip_prefix('v').unwrap_or_default().splitn(3, '.');
    let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok());
    next() == Some(1) && next().is_some_and(|minor| SUPPORTED.contains(&minor))
}

#[cfg(test)]
mod tests {
    use super::is_supported;

    #[test]
    fn supported_are_the_releases_of_gateway_api_whose_objects_are_read_and_written() {
        for version in ["v1.2.0", "v1.5.1", "v1.6.0-rc.1", "v1.6.3", "v1.6.0-dev"] {
            assert!(is_supported(version), "{version}");
        }
        for version in ["v0.4.0", "v0.0.0", "v1.1.9", "v1.7.0", "v2.3.0", "1.6.0", "v1", "v1.x.0", "", "main"] {
            assert!(!is_supported(version), "{version}");
        }
    }
}
