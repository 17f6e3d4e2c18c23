//! The addresses of a Gateway whose Envoys are created: those of the Service in front of them, beside those that it asks for.

use std::{net::IpAddr, sync::Arc};

use super::{Settings, World};
use crate::{
    api::{Gateway, Service},
    gateways::{Infrastructure, asked_addresses, infrastructure},
    model::{GATEWAY_NAME_LABEL, Kind, ObjectKey, ObjectName, Problem, Reason, infrastructure_name},
};

/// How many an API server takes in `status.addresses` (Gateway API, `GatewayStatus`).
const MOST: usize = 16;

/// Where the Gateway is reached, and why it is not where it should be; nothing when no Envoys are created for it.
pub(super) fn of_service(
    settings: &Settings,
    name: &ObjectName,
    world: &mut World<'_>,
) -> Option<(Vec<Arc<str>>, Option<Problem>)> {
    let gateway = world.object::<Gateway>(name).filter(|_| settings.in_cluster)?;
    if infrastructure(&gateway) != Ok(Infrastructure::Provisioned) {
        return None;
    }
    let service = infrastructure_name(&name.name, &gateway.spec.gateway_class_name);
    let service = ObjectName::new(Arc::clone(&name.namespace), service);
    let found = world.object::<Service>(&service);
    let is_ours = |service: &&Arc<Service>| {
        service.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(GATEWAY_NAME_LABEL))
    };
    let (asked, has) = (asked_addresses(&gateway), found.as_ref().filter(is_ours).map(|service| addresses(service)));
    let has = has.unwrap_or_default();
    let problem = unassigned(&ObjectKey::new(Kind::Gateway, name.clone()), &gateway, &service, &asked, &has);
    Some((at_most(MOST, &asked, has), problem))
}

/// Where a Service is reached: from outside, when it is for that, else from inside the cluster. Outside addresses that nodes
/// take for it (`externalIPs`) are there with either.
fn addresses(service: &Service) -> Vec<String> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let mut addresses: Vec<String> = if spec.type_.as_deref() == Some("LoadBalancer") {
        let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
        ingress.filter_map(|one| one.ip.as_ref().or(one.hostname.as_ref())).cloned().collect()
    } else {
        spec.cluster_ips.iter().flatten().filter(|address| *address != "None").cloned().collect()
    };
    addresses.extend(spec.external_ips.iter().flatten().cloned());
    let mut seen = std::collections::BTreeSet::new();
    addresses.retain(|address| seen.insert(address.clone()));
    addresses
}

/// Of many addresses the same ones whatever their order: first those that are asked for. A Service may have any number, one
/// for each node.
fn at_most(most: usize, asked: &[IpAddr], mut addresses: Vec<String>) -> Vec<Arc<str>> {
    if addresses.len() > most {
        addresses.sort_by_cached_key(|text| {
            let ip = text.parse::<IpAddr>().ok();
            let place = ip.and_then(|ip| asked.iter().position(|asked| *asked == ip));
            (place.unwrap_or(usize::MAX), ip.is_none(), ip, text.clone())
        });
        addresses.truncate(most);
    }
    addresses.into_iter().map(Into::into).collect()
}

/// "If a value is set in the spec and the requested address is invalid or unavailable, the implementation MUST indicate this
/// in an associated entry in GatewayStatus.Conditions" (Gateway API, `GatewaySpec.addresses`).
fn unassigned(
    key: &ObjectKey,
    gateway: &Gateway,
    service: &ObjectName,
    asked: &[IpAddr],
    has: &[String],
) -> Option<Problem> {
    let has_ip = |ip: &IpAddr| has.iter().any(|address| address.parse() == Ok(*ip));
    let missing: Vec<String> = asked.iter().filter(|ip| !has_ip(ip)).map(ToString::to_string).collect();
    if !missing.is_empty() {
        let field = match missing.as_slice() {
            [one] => gateway.spec.addresses.iter().position(|address| {
                address.value.as_deref().and_then(|value| value.parse::<IpAddr>().ok()) == one.parse().ok()
            }),
            _ => None,
        };
        let field = field.map_or("spec.addresses".to_owned(), |place| format!("spec.addresses[{place}].value"));
        let has = if has.is_empty() { "no address".to_owned() } else { has.join(", ") };
        let message = format!(
            "{} can not be used: Service {service} has {has}; ask for an address that the cluster gives to Services, and see \
             the events of the Service",
            missing.join(", ")
        );
        return Some(Problem::new(key.clone(), field, Reason::AddressNotUsable, message));
    }
    let message = || {
        format!(
            "Service {service} has no address yet; see its events, and where the cluster has no load balancers, set \
             service.type to NodePort or ClusterIP in the parameters"
        )
    };
    has.is_empty().then(|| Problem::new(key.clone(), "", Reason::AddressNotAssigned, message()))
}
