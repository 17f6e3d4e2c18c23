//! The schema of each kind in two forms: as JSON, to find fields it does not have, and compiled, to check values.
//!
//! Never reads an object. A schema is made on first use and kept.

use std::sync::OnceLock;

use jsonschema::Validator;
use kube::{
    CustomResourceExt,
    core::schema::{OptionalEnum, OptionalIntOrString, StructuralSchemaRewriter},
};
use schemars::{JsonSchema, generate::SchemaSettings, transform::AddNullable};
use serde_json::{Value, json};

use super::{
    ConfigMap, CustomResourceDefinition, EndpointSlice, Gateway, GatewayClass, GrpcRoute, HttpRoute, ListenerSet,
    Namespace, ObjectMeta, ReferenceGrant, Secret, Service, TailscaleEndpoints, TailscaleGateway,
    TailscaleGatewayParameters, TailscaleGatewayRevision, TailscaleProxyGroup, TailscaleRoutePolicy, TailscaleService,
    TailscaleServices, TailscaleTailnet, TcpRoute, TlsRoute, UdpRoute,
    crds::{schema_of, tidy_schema},
};
use crate::model::Kind;

/// What is known about the form of a kind.
pub(super) struct KindSchema {
    /// The structural schema, with that of `metadata` and without that of `status`, which an API server does not take
    /// from manifests.
    pub(super) structure: Value,
    /// The same, compiled.
    pub(super) validator: Validator,
}

/// The schema of a kind.
pub(super) fn schema(kind: Kind) -> &'static KindSchema {
    static SCHEMAS: [OnceLock<KindSchema>; Kind::ALL.len()] = [const { OnceLock::new() }; Kind::ALL.len()];
    let place = Kind::ALL.iter().position(|other| *other == kind).expect("ALL has every kind");
    SCHEMAS[place].get_or_init(|| {
        let mut structure = match kind {
            Kind::GatewayClass => custom::<GatewayClass>(),
            Kind::Gateway => custom::<Gateway>(),
            Kind::HttpRoute => custom::<HttpRoute>(),
            Kind::GrpcRoute => custom::<GrpcRoute>(),
            Kind::TlsRoute => custom::<TlsRoute>(),
            Kind::TcpRoute => custom::<TcpRoute>(),
            Kind::UdpRoute => custom::<UdpRoute>(),
            Kind::ListenerSet => custom::<ListenerSet>(),
            Kind::ReferenceGrant => custom::<ReferenceGrant>(),
            Kind::Namespace => builtin::<Namespace>(),
            Kind::Service => builtin::<Service>(),
            Kind::EndpointSlice => builtin::<EndpointSlice>(),
            Kind::Secret => builtin::<Secret>(),
            Kind::ConfigMap => builtin::<ConfigMap>(),
            Kind::CustomResourceDefinition => builtin::<CustomResourceDefinition>(),
            Kind::TailscaleTailnet => custom::<TailscaleTailnet>(),
            Kind::TailscaleGateway => custom::<TailscaleGateway>(),
            Kind::TailscaleGatewayParameters => custom::<TailscaleGatewayParameters>(),
            Kind::TailscaleEndpoints => custom::<TailscaleEndpoints>(),
            Kind::TailscaleRoutePolicy => custom::<TailscaleRoutePolicy>(),
            Kind::TailscaleProxyGroup => custom::<TailscaleProxyGroup>(),
            Kind::TailscaleService => custom::<TailscaleService>(),
            Kind::TailscaleServices => custom::<TailscaleServices>(),
            Kind::TailscaleGatewayRevision => custom::<TailscaleGatewayRevision>(),
        };
        structure["properties"]["metadata"] = builtin::<ObjectMeta>();
        structure["properties"]["status"] = json!({ "x-kubernetes-preserve-unknown-fields": true });
        structure["properties"]["apiVersion"] = json!({ "type": "string" });
        structure["properties"]["kind"] = json!({ "type": "string" });
        let mut json_schema = structure.clone();
        to_json_schema(&mut json_schema);
        let validator = jsonschema::options()
            .should_validate_formats(false)
            .build(&json_schema)
            .expect("generated schemas are valid; a test builds each");
        KindSchema { structure, validator }
    })
}

fn custom<T: CustomResourceExt>() -> Value {
    schema_of(&T::crd())
}

/// The schema of one of Kubernetes' own types, made as the definitions of custom kinds are.
fn builtin<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(OptionalIntOrString)
        .into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    tidy_schema(&mut schema);
    schema
}

/// Turns a structural schema into JSON Schema: what Kubernetes adds to it is said in JSON Schema's words, and what only
/// people read is left out.
fn to_json_schema(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    for key in ["description", "format", "default"] {
        schema.remove(key);
    }
    if schema.remove("x-kubernetes-int-or-string").is_some() {
        schema.insert("type".into(), json!(["integer", "string"]));
    }
    if schema.get("x-kubernetes-list-type").is_some_and(|list_type| list_type == "set") {
        schema.insert("uniqueItems".into(), json!(true));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            to_json_schema(inner);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(to_json_schema);
    }
}
