//! Wiring of the extension server.

use std::{collections::BTreeSet, io, sync::Arc};

use tokio::{
    sync::{mpsc, watch},
    task::{self, JoinHandle},
};

use super::{AppError, Serving, cluster::xds_address};
use crate::{
    compile::{Hosting, HostingIdentity, XdsAddress},
    config::{ExtensionConfig, ExtensionListen, ExtensionXds, ServeConfig, SourceSpec},
    extension::{self, Bound, Calls, Found, RevisionFolder, RevisionNews, ServerOptions},
    metrics::Metrics,
    model::ObjectName,
    pipeline::Applied,
    security::{self, ExtensionFiles},
    snapshot::PublishedHosted,
};

/// The extension server before there is anything to say.
pub(super) struct Extension {
    listen: ExtensionListen,
    bound: Bound,
    options: ServerOptions,
    files: Option<ExtensionFiles>,
    /// What the compiler is told.
    pub(super) hosting: Hosting,
    /// The last calls.
    pub(super) calls: Arc<Calls>,
    /// Where an Envoy Gateway without a cluster notices that it has to ask again.
    pub(super) revisions: Option<FolderOfRevisions>,
}

/// A folder of revisions, and what was in it.
pub(super) struct FolderOfRevisions {
    folder: RevisionFolder,
    found: Vec<(ObjectName, Found)>,
}

/// Whoever writes revisions hears from this what they should be.
#[derive(Clone)]
pub(super) struct RevisionTeller {
    pub(super) news: mpsc::UnboundedSender<RevisionNews>,
    hosted: Arc<PublishedHosted>,
}

impl RevisionTeller {
    /// Tells what `hosted` says, and whatever else.
    pub(super) fn new(news: mpsc::UnboundedSender<RevisionNews>, hosted: Arc<PublishedHosted>) -> Self {
        Self { news, hosted }
    }

    /// Tells what is wanted for these Gateways now.
    pub(super) fn tell(&self, touched: &BTreeSet<ObjectName>) {
        if touched.is_empty() {
            return;
        }
        let hosted = self.hosted.load();
        let wanted = touched.iter().map(|gateway| (gateway.clone(), hosted.revision(gateway))).collect();
        let _nobody_writes_any_more = self.news.send(RevisionNews::Wanted(wanted));
    }
}

/// What the compiler is told about Envoys of Envoy Gateways.
fn hosting(serve: &ServeConfig, namespace: Option<&str>, proves: bool) -> Result<Hosting, AppError> {
    let xds = match (&serve.extension.extension_xds, namespace) {
        (Some(ExtensionXds::At(xds)), _) => xds.clone(),
        (None, Some(namespace)) => xds_address(&serve.cluster, namespace),
        (Some(ExtensionXds::Off), _) | (None, None) => return Ok(Hosting::default()),
    };
    let identity = match (proves, namespace) {
        (true, Some(namespace)) => {
            Some(HostingIdentity { namespace: namespace.into(), server_name: serve.identity.asked_for().into() })
        }
        (true, None) => return Err(AppError::NoCertificatesForPointers),
        (false, _) => None,
    };
    Ok(Hosting { xds: Some(XdsAddress { host: xds.host.as_str().into(), port: xds.port }), identity })
}

/// A flag that is given for nothing when Envoy Gateways are answered nowhere.
fn for_nobody(config: &ExtensionConfig, source: &SourceSpec) -> Option<&'static str> {
    let given = [
        (config.extension_tls_cert.is_some(), "--extension-tls-cert"),
        (config.extension_client_ca.is_some(), "--extension-client-ca"),
        (matches!(config.extension_xds, Some(ExtensionXds::At(_))), "--extension-xds"),
        // With a cluster it is for nothing anyhow.
        (config.extension_revisions.is_some() && *source != SourceSpec::Kubernetes, "--extension-revisions"),
    ];
    given.into_iter().find_map(|(given, flag)| given.then_some(flag))
}

impl FolderOfRevisions {
    fn open(config: &ExtensionConfig, source: &SourceSpec) -> Result<Option<Self>, AppError> {
        let Some(path) = &config.extension_revisions else { return Ok(None) };
        if *source == SourceSpec::Kubernetes {
            return Err(AppError::RevisionsInCluster);
        }
        let failed = |source| AppError::ExtensionRevisions { path: path.clone(), source };
        let (folder, found) = RevisionFolder::open(path).map_err(failed)?;
        Ok(Some(Self { folder, found }))
    }

    /// Keeps its files as they should be. To be told of the first compilation before anything else: what nobody wants then is
    /// removed.
    pub(super) fn start(self, hosted: Arc<PublishedHosted>, first: &Applied, metrics: Arc<Metrics>) -> RevisionTeller {
        let (news, heard) = mpsc::unbounded_channel();
        let teller = RevisionTeller::new(news, hosted);
        for (gateway, found) in self.found {
            let _it_is_heard = teller.news.send(RevisionNews::Found(gateway, found, 0));
        }
        teller.tell(&first.hosted);
        task::spawn(async move {
            let (_always, may_write) = watch::channel(true);
            extension::revisions::run::run(self.folder, heard, may_write, metrics).await;
        });
        teller
    }
}

impl Extension {
    /// Takes the address and reads the certificate; nothing when it is off. `namespace` is the operator's in a cluster; `proves`
    /// says that clients of our xDS have to prove who they are.
    ///
    /// # Errors
    ///
    /// When the address is taken, the certificate can not be used, or something is asked for that is not to be had.
    pub(super) fn take(
        serve: &ServeConfig,
        source: &SourceSpec,
        namespace: Option<&str>,
        proves: bool,
    ) -> Result<Option<Self>, AppError> {
        let config = &serve.extension;
        let listen = match (&config.extension_listen, source) {
            (Some(listen), _) => listen.clone(),
            (None, SourceSpec::Kubernetes) => ExtensionListen::IN_CLUSTER,
            (None, SourceSpec::Dir(_)) => ExtensionListen::Off,
        };
        if listen == ExtensionListen::Off
            && let Some(flag) = for_nobody(config, source)
        {
            return Err(AppError::NoExtensionListener(flag));
        }
        let hosting = hosting(serve, namespace, proves)?;
        if let (Some(identity), Some(_)) = (&hosting.identity, serve.xds.files()) {
            tracing::warn!(
                namespace = %identity.namespace,
                server_name = %identity.server_name,
                "with --xds-tls-cert nobody makes certificates for the Envoys of Envoy Gateways: until there is a Secret \
                 xds.GATEWAY-NAMESPACE.GATEWAY with tls.crt, tls.key and ca.crt for a Gateway, its endpoints go through the Envoy \
                 Gateway, and each change of one costs a translation"
            );
        }
        let revisions = FolderOfRevisions::open(config, source)?;
        let bound = match &listen {
            ExtensionListen::Off => return Ok(None),
            ExtensionListen::Tcp(address) => Bound::tcp(*address),
            ExtensionListen::Unix(path) => Bound::unix(path),
        };
        let bound = bound.map_err(|source| AppError::ExtensionListen { listen: listen.clone(), source })?;
        let files = security::for_extension(config)?;
        let tls = files.as_ref().map(ExtensionFiles::config);
        Ok(Some(Self {
            listen,
            bound,
            options: ServerOptions { tls, ..ServerOptions::default() },
            files,
            hosting,
            calls: Arc::default(),
            revisions,
        }))
    }

    /// Opens the port as soon as it is known what is to be said.
    pub(super) fn start(self, serving: &Serving, hosted: Arc<PublishedHosted>) -> JoinHandle<io::Result<()>> {
        if let Some(files) = self.files {
            task::spawn(files.follow());
        }
        let (metrics, shutdown) = (Arc::clone(&serving.metrics), serving.shutdown.clone());
        let mut known = serving.hosted_is_known.subscribe();
        task::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                known = known.wait_for(|is_known| *is_known) => if known.is_err() { return Ok(()) },
            }
            tracing::info!(listen = %self.listen, "Envoy Gateways are answered");
            let shutdown = shutdown.cancelled_owned();
            let ended = extension::serve(self.bound, hosted, metrics, self.calls, self.options, shutdown).await;
            if let Err(error) = &ended {
                tracing::error!(listen = %self.listen, %error, "Envoy Gateways are not answered");
            }
            ended
        })
    }
}
