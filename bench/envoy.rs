//! The server's side of one Envoy's delta stream, without its sockets: what it asks for, and what is made ready for it.

use std::{hint::black_box, sync::Arc, time::Instant};

use tailscale_gateway::{
    snapshot::{Snapshot, TypeUrl},
    xds::{
        DeltaRequest, DeltaStream, Machine, Options, Scope,
        wire::{ControlPlane, Protocol, response_fields},
    },
};

/// How an Envoy asks for endpoints. (By name, unless an experiment says otherwise.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// Each cluster's by its name.
    Explicit,
    /// All by `*`.
    Wildcard,
}

/// A stream.
pub(crate) struct Envoy {
    machine: DeltaStream,
    control_plane: ControlPlane,
}

impl Envoy {
    /// A stream that has subscribed to everything, has been sent it and has accepted it: clusters and listeners by wildcard,
    /// the rest by name.
    pub(crate) fn connect(options: &Options, names: Names, snapshot: &Arc<Snapshot>) -> Self {
        let machine = DeltaStream::new(Scope::Aggregated, options.clone());
        let mut envoy = Self { machine, control_plane: ControlPlane::new("bench") };
        for type_url in [TypeUrl::Cluster, TypeUrl::Endpoints, TypeUrl::Listener, TypeUrl::Route] {
            let subscribe = match type_url {
                TypeUrl::Endpoints if names == Names::Wildcard => vec!["*".to_owned()],
                TypeUrl::Endpoints | TypeUrl::Route => {
                    snapshot.view(type_url).iter().map(|resource| resource.name().to_string()).collect()
                }
                _ => Vec::new(),
            };
            envoy.ask(DeltaRequest { type_url: type_url.as_str().to_owned(), subscribe, ..DeltaRequest::default() });
        }
        let (responses, _) = envoy.answer(snapshot);
        assert!(responses >= 4, "each of four types is answered");
        envoy
    }

    /// Takes a snapshot, makes everything ready to be written that it has to be sent, and accepts it. Answers how many
    /// responses there were, and their bytes.
    pub(crate) fn answer(&mut self, snapshot: &Arc<Snapshot>) -> (usize, usize) {
        self.machine.on_snapshot(snapshot, Instant::now());
        let (mut responses, mut bytes) = (0, 0);
        while let Some(response) = self.machine.next_response(Instant::now()) {
            let fields = black_box(response_fields(Protocol::Delta, &response, &self.control_plane));
            responses += 1;
            bytes += fields.len() + black_box(&response.body).len();
            self.ask(DeltaRequest {
                type_url: response.type_url.as_str().to_owned(),
                response_nonce: response.nonce.to_string(),
                ..DeltaRequest::default()
            });
        }
        black_box(self.machine.take_events());
        (responses, bytes)
    }

    fn ask(&mut self, request: DeltaRequest) {
        self.machine.on_request(request, Instant::now()).expect("these requests keep to the protocol");
    }
}
