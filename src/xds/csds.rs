//! The client status discovery service: who is connected and how each of their resources stands, for tools that ask over
//! gRPC.
//!
//! Never shows a Secret's content, and shows a caller with a certificate its own Gateway's clients alone. Shows other content
//! only when one client is asked for by its id: a list of thousands with everything they hold would be too large for anybody.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Instant, SystemTime},
};

use futures::{Stream, StreamExt};
use tailscale_gateway_proto::{
    envoy::{
        admin::v3::{ClientResourceStatus, UpdateFailureState},
        config::core::v3::{Locality, Node, node::UserAgentVersionType},
        service::status::v3::{
            ClientConfig, ClientStatusRequest, ClientStatusResponse, ConfigStatus,
            client_config::GenericXdsConfig,
            client_status_discovery_service_server::{
                ClientStatusDiscoveryService, ClientStatusDiscoveryServiceServer,
            },
        },
        r#type::matcher::v3::{NodeMatcher, StringMatcher, string_matcher::MatchPattern},
    },
    google::protobuf::{Any, Timestamp},
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    ClientState, ResourceStatus, TypeStatus,
    conversation::{Connection, scope_label},
    registry::{Client, Registry},
};
use crate::{
    metrics::Metrics,
    model::ObjectName,
    snapshot::{Snapshot, SnapshotCache, TypeUrl, Version},
};

/// The service.
#[derive(Clone)]
pub(super) struct Csds {
    cache: Arc<SnapshotCache>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
}

impl Csds {
    /// The service over the streams of a registry.
    pub(super) fn service(
        cache: Arc<SnapshotCache>,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
    ) -> ClientStatusDiscoveryServiceServer<Self> {
        ClientStatusDiscoveryServiceServer::new(Self { cache, registry, metrics })
    }
}

#[tonic::async_trait]
impl ClientStatusDiscoveryService for Csds {
    type StreamClientStatusStream = Pin<Box<dyn Stream<Item = Result<ClientStatusResponse, Status>> + Send>>;

    async fn stream_client_status(
        &self,
        requests: Request<Streaming<ClientStatusRequest>>,
    ) -> Result<Response<Self::StreamClientStatusStream>, Status> {
        let (service, own) = (self.clone(), self.own_gateway(&requests)?);
        let answers = requests.into_inner().then(move |request| service.clone().answer(own.clone(), request));
        Ok(Response::new(answers.boxed()))
    }

    async fn fetch_client_status(
        &self,
        request: Request<ClientStatusRequest>,
    ) -> Result<Response<ClientStatusResponse>, Status> {
        let own = self.own_gateway(&request)?;
        self.clone().answer(own, Ok(request.into_inner())).await.map(Response::new)
    }
}

impl Csds {
    /// The one Gateway whose clients the caller may see; nothing if it may see all.
    fn own_gateway<T>(&self, request: &Request<T>) -> Result<Option<ObjectName>, Status> {
        let connection = request.extensions().get::<Arc<Connection>>();
        let connection = connection.expect("every request of this port is given its connection");
        connection
            .caller
            .own()
            .map(Option::<&ObjectName>::cloned)
            .map_err(|denied| connection.deny(&denied, &self.metrics))
    }

    /// Answers beside the threads that serve streams: a client may have ten thousand resources.
    async fn answer(
        self,
        own: Option<ObjectName>,
        request: Result<ClientStatusRequest, Status>,
    ) -> Result<ClientStatusResponse, Status> {
        let request = request?;
        tokio::task::spawn_blocking(move || answer(&self.cache, &self.registry, own.as_ref(), &request))
            .await
            .map_err(|_| Status::internal("the answer could not be made"))?
    }
}

fn answer(
    cache: &SnapshotCache,
    registry: &Registry,
    own: Option<&ObjectName>,
    request: &ClientStatusRequest,
) -> Result<ClientStatusResponse, Status> {
    check(&request.node_matchers)?;
    let asked_for = request.node.as_ref().map(|node| node.id.as_str()).filter(|id| !id.is_empty());
    let by_id = asked_for.is_some() || !request.node_matchers.is_empty();
    let with_contents = by_id && !request.exclude_resource_contents;
    let config = registry
        .clients()
        .iter()
        .filter(|client| own.is_none_or(|own| *own == client.node.gateway))
        .filter(|client| asked_for.is_none_or(|id| *id == *client.node.id))
        .filter(|client| request.node_matchers.is_empty() || matches_any(&request.node_matchers, &client.node.id))
        .map(|client| describe(client, &cache.current(&client.node.gateway), with_contents))
        .collect();
    Ok(ClientStatusResponse { config })
}

fn describe(client: &Client, snapshot: &Snapshot, with_contents: bool) -> ClientConfig {
    let mut generic_xds_configs = Vec::new();
    for of in client.status() {
        for resource in client.resources(of.type_url) {
            generic_xds_configs.push(describe_resource(&of, resource, snapshot, with_contents));
        }
    }
    ClientConfig {
        node: Some(node(client)),
        generic_xds_configs,
        client_scope: scope_label(client.scope).to_owned(),
        ..Default::default()
    }
}

fn describe_resource(
    of: &TypeStatus,
    resource: ResourceStatus,
    snapshot: &Snapshot,
    with_contents: bool,
) -> GenericXdsConfig {
    let (config_status, client_status) = match (resource.state, resource.version) {
        (ClientState::Acked, _) => (ConfigStatus::Synced, ClientResourceStatus::Acked),
        (ClientState::Sent, _) => (ConfigStatus::Stale, ClientResourceStatus::Requested),
        (ClientState::Behind, Some(_)) => (ConfigStatus::Stale, ClientResourceStatus::Requested),
        (ClientState::Behind, None) => (ConfigStatus::NotSent, ClientResourceStatus::Requested),
        (ClientState::Refused, _) => (ConfigStatus::Error, ClientResourceStatus::Nacked),
        (ClientState::Missing, _) => (ConfigStatus::NotSent, ClientResourceStatus::DoesNotExist),
    };
    let url = of.type_url.as_str();
    let current = snapshot.view(of.type_url).get(&resource.name);
    let content = |version: Option<Version>| {
        let is_shown = with_contents && of.type_url != TypeUrl::Secret;
        let content = current.filter(|current| is_shown && version == Some(current.version()))?;
        Some(Any { type_url: url.to_owned(), value: content.message_bytes() })
    };
    let error_state = match (&of.last_nack, resource.state) {
        (Some(nack), ClientState::Refused) => {
            let refused = of.parked.get(&resource.name).copied();
            Some(UpdateFailureState {
                failed_configuration: content(refused),
                last_update_attempt: Some(timestamp(nack.at)),
                details: nack.message.clone(),
                version_info: refused.map(|version| version.to_string()).unwrap_or_default(),
            })
        }
        _ => None,
    };
    GenericXdsConfig {
        type_url: url.to_owned(),
        name: resource.name.as_ref().to_owned(),
        version_info: resource.version.map(|version| version.to_string()).unwrap_or_default(),
        xds_config: content(resource.version),
        config_status: config_status.into(),
        client_status: client_status.into(),
        error_state,
        ..Default::default()
    }
}

fn node(client: &Client) -> Node {
    let info = &client.node;
    let mut locality = info.locality.splitn(3, '/').map(str::to_owned);
    let mut next = || locality.next().unwrap_or_default();
    let (name, version) = info.user_agent.rsplit_once(' ').unwrap_or((&info.user_agent, ""));
    Node {
        id: info.id.as_ref().to_owned(),
        cluster: info.gateway.to_string(),
        locality: (!info.locality.is_empty()).then(|| Locality { region: next(), zone: next(), sub_zone: next() }),
        user_agent_name: name.to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(version.to_owned())),
        ..Default::default()
    }
}

/// The wall-clock time of a moment in the past.
fn timestamp(at: Instant) -> Timestamp {
    let time = SystemTime::now() - at.elapsed();
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos().cast_signed() }
}

/// Refuses matchers that can not be answered: what is not kept, or not known here.
fn check(matchers: &[NodeMatcher]) -> Result<(), Status> {
    for matcher in matchers {
        if !matcher.node_metadatas.is_empty() {
            return Err(Status::invalid_argument("node_metadatas: metadata is not kept; match node_id"));
        }
        match matcher.node_id.as_ref().and_then(|id| id.match_pattern.as_ref()) {
            Some(MatchPattern::SafeRegex(_) | MatchPattern::Custom(_)) => {
                return Err(Status::invalid_argument("node_id: use exact, prefix, suffix or contains"));
            }
            None => return Err(Status::invalid_argument("node_id: a pattern is needed")),
            Some(_) => {}
        }
    }
    Ok(())
}

fn matches_any(matchers: &[NodeMatcher], id: &str) -> bool {
    matchers.iter().filter_map(|matcher| matcher.node_id.as_ref()).any(|matcher| matches(matcher, id))
}

fn matches(matcher: &StringMatcher, text: &str) -> bool {
    let fold = |text: &str| if matcher.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
    let text = fold(text);
    match &matcher.match_pattern {
        Some(MatchPattern::Exact(pattern)) => text == fold(pattern),
        Some(MatchPattern::Prefix(pattern)) => text.starts_with(&fold(pattern)),
        Some(MatchPattern::Suffix(pattern)) => text.ends_with(&fold(pattern)),
        Some(MatchPattern::Contains(pattern)) => text.contains(&fold(pattern)),
        Some(MatchPattern::SafeRegex(_) | MatchPattern::Custom(_)) | None => false,
    }
}
