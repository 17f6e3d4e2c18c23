//! One route of a rule with backends of our kinds: which clusters take its requests. What Envoy Gateway says of the rest of it
//! (matches, filters, timeouts, retries) stays.
//!
//! Envoy Gateway gives a rule one cluster for all backends, or weighted clusters with those that are not ours; it has no
//! endpoints for ours, and no weights (`envoy-gateway.md` §1.8).

use bytes::{Bytes, BytesMut};
use prost::encoding::encode_varint;

use super::{
    hooks::{AUTO_HOST_REWRITE, Editor, Stopped},
    metadata::origin,
    splice::{Field, Wire, delimited, fields, text},
};
use crate::{
    model::rule_cluster_of,
    snapshot::{HostedRule, HostedShare},
};

/// `Route.route`, `.metadata` and `.name`.
const ACTION: u32 = 2;
const METADATA: u32 = 4;
pub(super) const NAME: u32 = 14;
/// `RouteAction.cluster` and `.weighted_clusters`.
const CLUSTER: u32 = 1;
const WEIGHTED_CLUSTERS: u32 = 3;
/// `WeightedCluster.ClusterWeight.weight`; its name is field 1.
const WEIGHT: u32 = 2;
/// What an Envoy Gateway calls a cluster that there is none of, for the shares of all backends that it does not take.
const INVALID: &str = "invalid-backend-cluster";
/// All that says how the Host header is rewritten: `host_rewrite_literal`, `auto_host_rewrite`, `host_rewrite_header`,
/// `host_rewrite_path_regex`.
const HOST_REWRITES: [u32; 4] = [6, 7, 29, 35];

/// `RouteAction.cluster_not_found_response_code`, and it saying 500: what Gateway API asks for when a backend can not be
/// resolved.
const NOT_FOUND_CODE: u32 = 20;
const INTERNAL_SERVER_ERROR: Bytes = Bytes::from_static(&[0xa0, 1, 2]);

/// Edits a route (`envoy.config.route.v3.Route`), if one of our rules has made it.
pub(super) fn edit_route(editor: &mut Editor<'_>, route: &Field) -> Result<(), Stopped> {
    let (bytes, hosted) = (editor.bytes, editor.hosted);
    let (mut action, mut actions, mut metadata, mut cluster) = (None, 0, None, None);
    for field in fields(bytes, route.range()) {
        let field = field?;
        match field.number {
            ACTION if field.is(ACTION) => {
                actions += 1;
                action = Some(field);
            }
            METADATA => metadata = Some(field),
            NAME if editor.rules.may_begin(&bytes[field.range()]) => {
                cluster = text(bytes, &field).and_then(rule_cluster_of);
            }
            _ => {}
        }
    }
    let (Some(cluster), Some(action), 1) = (cluster, action, actions) else { return Ok(()) };
    let Some(rule) = hosted.rule(cluster) else { return Ok(()) };
    if !made_from(bytes, metadata.as_ref(), rule) {
        return Ok(());
    }
    editor.within(route, |editor| editor.within(&action, |editor| edit_action(editor, &action, cluster, rule)))
}

/// Whether a resource's metadata says that it was made from the rule's route. Without metadata its name has said so.
pub(super) fn made_from(bytes: &[u8], metadata: Option<&Field>, rule: &HostedRule) -> bool {
    let Some(origin) = metadata.and_then(|field| origin(bytes, field.range())) else { return true };
    origin.is(rule.route.kind.as_str())
        && *origin.namespace == *rule.route.name.namespace
        && *origin.name == *rule.route.name.name
}

fn edit_action(editor: &mut Editor<'_>, action: &Field, cluster: &str, rule: &HostedRule) -> Result<(), Stopped> {
    let bytes = editor.bytes;
    let (mut specifier, mut specifiers, mut rewrites_host, mut has_code) = (None, 0, false, false);
    for field in fields(bytes, action.range()) {
        let field = field?;
        match field.number {
            CLUSTER | WEIGHTED_CLUSTERS => {
                specifiers += 1;
                specifier = Some(field);
            }
            NOT_FOUND_CODE => has_code = true,
            number => rewrites_host |= HOST_REWRITES.contains(&number),
        }
    }
    let (Some(specifier), 1) = (specifier, specifiers) else { return Ok(()) };
    let changes = editor.changed;
    if specifier.is(CLUSTER) {
        if text(bytes, &specifier) != Some(cluster) {
            return Ok(());
        }
        editor.changed += 1;
        if rule.alone.is_none() {
            let mut weighted = BytesMut::new();
            if rule.others > 0 {
                weighted.extend_from_slice(&weight(cluster, rule.others.saturating_mul(rule.factor), &[]));
            }
            rule.shares.iter().for_each(|share| weighted.extend_from_slice(&share_weight(share)));
            editor.edits.remove(&specifier);
            editor.edits.insert(specifier.start, delimited(WEIGHTED_CLUSTERS, &weighted));
        }
    } else if specifier.is(WEIGHTED_CLUSTERS) {
        editor.within(&specifier, |editor| add_shares(editor, &specifier, rule))?;
    }
    let unresolved = rule.shares.iter().any(|share| share.cluster.is_none());
    if editor.changed > changes && unresolved && !has_code {
        editor.edits.insert(action.end, INTERNAL_SERVER_ERROR);
    }
    // Else shares say for themselves what Host they want: endpoints of a backend that is not ours may have names, too.
    if editor.changed > changes && rule.auto_host && !rewrites_host {
        editor.edits.insert(action.end, AUTO_HOST_REWRITE);
    }
    Ok(())
}

/// Adds the shares of our backends to those of others, unless they are there.
fn add_shares(editor: &mut Editor<'_>, weighted: &Field, rule: &HostedRule) -> Result<(), Stopped> {
    let bytes = editor.bytes;
    let mut theirs = Vec::new();
    let mut has_invalid = false;
    for field in fields(bytes, weighted.range()) {
        let field = field?;
        // WeightedCluster.clusters.
        if !field.is(1) {
            continue;
        }
        let mut weight = None;
        for inner in fields(bytes, field.range()) {
            let inner = inner?;
            if inner.is(1) && rule.shares.iter().any(|share| text(bytes, &inner) == Some(&share.name)) {
                return Ok(());
            }
            has_invalid |= inner.is(1) && text(bytes, &inner) == Some(INVALID);
            if inner.is(WEIGHT) {
                weight = Some(inner);
            }
        }
        theirs.push((field, weight));
    }
    // What it does not take stands in its own share already.
    let ours: Vec<&HostedShare> = rule.shares.iter().filter(|share| !(share.refused && has_invalid)).collect();
    if ours.is_empty() {
        return Ok(());
    }
    if rule.factor > 1 {
        for (entry, weight) in theirs {
            let Some(weight) = weight else { continue };
            let value = fields(bytes, weight.range()).filter_map(Result::ok).filter(|field| field.number == 1).last();
            let value = value.filter(|field| field.wire == Wire::Varint).map_or(0, |field| field.varint(bytes));
            let value = u32::try_from(value).unwrap_or(u32::MAX).saturating_mul(rule.factor);
            editor.within(&entry, |editor| {
                editor.edits.remove(&weight);
                editor.edits.insert(weight.start, delimited(WEIGHT, &number(value)));
                Ok(())
            })?;
        }
    }
    for share in ours {
        editor.edits.insert(weighted.end, share_weight(share));
    }
    editor.changed += 1;
    Ok(())
}

fn share_weight(share: &HostedShare) -> Bytes {
    weight(&share.name, share.weight, &share.filters)
}

/// Field `clusters` of `WeightedCluster`, a `ClusterWeight`.
fn weight(name: &str, weight: u32, rest: &[u8]) -> Bytes {
    let mut entry = BytesMut::new();
    entry.extend_from_slice(&delimited(1, name.as_bytes()));
    entry.extend_from_slice(&delimited(WEIGHT, &number(weight)));
    entry.extend_from_slice(rest);
    delimited(1, &entry)
}

/// `google.protobuf.UInt32Value`.
fn number(value: u32) -> Bytes {
    let mut bytes = BytesMut::new();
    encode_varint(1 << 3, &mut bytes);
    encode_varint(u64::from(value), &mut bytes);
    bytes.freeze()
}
