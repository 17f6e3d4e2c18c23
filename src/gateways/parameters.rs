//! The parameters of a Gateway: which objects its class and it refer to, and what these come to together.

use std::sync::Arc;

use super::{FormatProblem, check_format, infrastructure};
use crate::{
    api::{Gateway, GatewayClass, TailscaleGatewayParameters, TailscaleGatewayParametersSpec},
    gateways::INFRASTRUCTURE_ANNOTATION,
    model::{Kind, ObjectKey, ObjectName, Problem, Reason},
    store::{Program, View},
};

/// What a Gateway's parameters come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayParameters {
    /// The Gateway's own over those of its class; what can not be used is left out.
    pub spec: TailscaleGatewayParametersSpec,
    /// What is wrong with the references or with what they name, all of reason `InvalidParameters` and about the
    /// Gateway. Nothing is created or changed for it as long as there is any.
    pub problems: Vec<Problem>,
}

/// The parameters of a Gateway, and what is wrong with how it asks for its Envoys.
pub fn gateway_parameters<P: Program>(
    name: &ObjectName,
    gateway: &Gateway,
    view: &mut View<'_, P>,
) -> GatewayParameters {
    let key = ObjectKey::new(Kind::Gateway, name.clone());
    let mut problems = Vec::new();
    let mut problem = |field: &str, message: String| {
        problems.push(Problem::new(key.clone(), field, Reason::InvalidParameters, message));
    };
    if let Err(message) = infrastructure(gateway) {
        problem(&format!("metadata.annotations[{INFRASTRUCTURE_ANNOTATION}]"), message);
    }
    let class_name = gateway.spec.gateway_class_name.as_str();
    let base = match view.object::<GatewayClass>(&ObjectName::new("", class_name)).map(|class| of_class(&class, view)) {
        None => None,
        Some(Ok(found)) => found,
        Some(Err(message)) => {
            problem("spec.gatewayClassName", format!("the parameters of GatewayClass {class_name}: {message}"));
            None
        }
    };
    let reference =
        gateway.spec.infrastructure.as_ref().and_then(|infrastructure| infrastructure.parameters_ref.as_ref());
    let own = reference.and_then(|reference| {
        let object = ObjectName::new(Arc::clone(&name.namespace), reference.name.as_str());
        match referred(&reference.group, &reference.kind, &object, view) {
            Ok(found) => Some(found),
            Err(message) => {
                problem("spec.infrastructure.parametersRef", message);
                None
            }
        }
    });
    let spec = |object: Option<Arc<TailscaleGatewayParameters>>| object.map(|object| object.spec.clone());
    let base = spec(base).unwrap_or_default();
    GatewayParameters { spec: spec(own).unwrap_or_default().over(base), problems }
}

/// What is wrong with the parameters of a class, if anything.
pub fn class_problem<P: Program>(key: &ObjectKey, class: &GatewayClass, view: &mut View<'_, P>) -> Option<Problem> {
    let message = of_class(class, view).err()?;
    Some(Problem::new(key.clone(), "spec.parametersRef", Reason::InvalidParameters, message))
}

/// What is wrong with the values of a parameters object, by field.
pub fn object_problems(spec: &TailscaleGatewayParametersSpec) -> Vec<(String, FormatProblem)> {
    let Some(log) = &spec.access_log else { return Vec::new() };
    let text = log.text.iter().map(|format| ("spec.accessLog.text".to_owned(), format));
    let json = log.json.iter().flatten().map(|(key, format)| (format!("spec.accessLog.json[{key}]"), format));
    text.chain(json).filter_map(|(field, format)| Some((field, check_format(format).err()?))).collect()
}

type Found = Arc<TailscaleGatewayParameters>;

fn of_class<P: Program>(class: &GatewayClass, view: &mut View<'_, P>) -> Result<Option<Found>, String> {
    let Some(reference) = &class.spec.parameters_ref else { return Ok(None) };
    // "This field is required when referring to a Namespace-scoped resource" (Gateway API, `ParametersReference`).
    let object = ObjectName::new(reference.namespace.as_deref().unwrap_or_default(), reference.name.as_str());
    referred(&reference.group, &reference.kind, &object, view).map(Some)
}

fn referred<P: Program>(group: &str, kind: &str, object: &ObjectName, view: &mut View<'_, P>) -> Result<Found, String> {
    let ours = Kind::TailscaleGatewayParameters;
    if Kind::find(group, kind) != Some(ours) {
        return Err(format!(
            "parameters of kind {kind} are not supported; refer to a {ours} of group {}, or remove the reference",
            ours.group()
        ));
    }
    if object.namespace.is_empty() {
        return Err(format!("a {ours} lives in a namespace; say which in the reference"));
    }
    let found = view.object::<TailscaleGatewayParameters>(object);
    let found = found.ok_or_else(|| format!("there is no {ours} {object}; create it, or remove the reference"))?;
    match object_problems(&found.spec).first() {
        Some((field, message)) => Err(format!("{ours} {object} can not be used: {field}: {message}")),
        None => Ok(found),
    }
}
