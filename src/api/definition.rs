//! CustomResourceDefinitions: of which version Gateway API's in a cluster are is in their metadata, and nothing else is read.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A definition without what it defines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomResourceDefinition {
    /// `apiextensions.k8s.io/v1`.
    pub api_version: String,
    /// `CustomResourceDefinition`.
    pub kind: String,
    /// Its metadata.
    pub metadata: ObjectMeta,
}
