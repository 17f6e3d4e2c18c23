//! Small readings of Kubernetes objects' common parts.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

/// `metadata.generation`; 0 when there is none, as in files.
pub(super) fn generation(metadata: &ObjectMeta) -> i64 {
    metadata.generation.unwrap_or(0)
}

/// When an object was created, for the order of precedence: seconds since 1970; what has no date is the youngest.
pub(super) fn created(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second())
}

/// Whether a selector takes these labels (Kubernetes, "Labels and Selectors"). An operator that is not known takes nothing.
pub(super) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let value = labels.get(&requirement.key);
            let listed = || value.is_some_and(|value| requirement.values.iter().flatten().any(|one| one == value));
            match requirement.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Whether a selector is one that Kubernetes knows how to read (API reference, LabelSelectorRequirement): otherwise the field
/// behind the selector's own, and what is wrong with it.
pub(super) fn check_selector(selector: &LabelSelector) -> Result<(), (String, String)> {
    for (place, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        let is_listed = requirement.values.as_ref().is_some_and(|values| !values.is_empty());
        let (field, message) = match requirement.operator.as_str() {
            "In" | "NotIn" if is_listed => continue,
            "Exists" | "DoesNotExist" if !is_listed => continue,
            operator @ ("In" | "NotIn") => ("values", format!("{operator} needs at least one value to compare with")),
            operator @ ("Exists" | "DoesNotExist") => {
                ("values", format!("{operator} compares with no value; remove them, or use In or NotIn"))
            }
            operator => ("operator", format!("{operator:?} is not In, NotIn, Exists or DoesNotExist")),
        };
        return Err((format!(".matchExpressions[{place}].{field}"), message));
    }
    Ok(())
}
