//! Wiring: what is started in which order, and how it ends. The only file that knows all.
//!
//! Holds no rule about the domain.

mod cluster;
mod extension;
mod files;

use std::{env, fs, io, net::SocketAddr, path::PathBuf, pin::pin, process::ExitCode, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    net::TcpListener,
    runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task,
};
use tokio_util::sync::CancellationToken;

use self::{cluster::Cluster, extension::Extension};
use crate::{
    admin::{self, Admin, Readiness},
    cli,
    compile::{Compiler, Settings, readable_authorities},
    config::{Command, CompileConfig, Config, ExtensionListen, ServeConfig, SourceSpec},
    kubernetes::ConnectError,
    metrics::Metrics,
    pipeline::Pipeline,
    security::{self, CertificateSource, Security, SecurityError},
    snapshot::SnapshotCache,
    source::StartError,
    telemetry::{self, TelemetryError},
    xds::Registry,
};

/// How long an Envoy that comes back keeps what this replica does not know (`xds.md` P80).
const REMOVAL_HOLD: Duration = Duration::from_secs(1);

/// Why the program could not do its work, in one line.
#[derive(Debug, Error)]
pub enum AppError {
    /// A port is taken, or the address is not this machine's.
    #[error("can not listen on {address} ({what}): {source}; is another one running? Choose with --{flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What for.
        what: &'static str,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The address for Envoy Gateways can not be had.
    #[error("can not listen on {listen} (extension server): {source}{}; choose with --extension-listen", why(source))]
    ExtensionListen {
        /// The address.
        listen: ExtensionListen,
        /// What the system says.
        source: io::Error,
    },
    /// A flag says something about Envoy Gateways, and none is answered.
    #[error(
        "{0} has no effect, since Envoy Gateways are answered nowhere: say where with --extension-listen, or leave {0} out"
    )]
    NoExtensionListener(&'static str),
    /// The folder for what an Envoy Gateway watches can not be used.
    #[error("--extension-revisions {}: {source}", path.display())]
    ExtensionRevisions {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is a cluster for what an Envoy Gateway watches.
    #[error(
        "--extension-revisions is for --source dir:PATH: with a cluster, TailscaleGatewayRevisions are written there; leave it out"
    )]
    RevisionsInCluster,
    /// Nobody makes certificates for the Envoys of Envoy Gateways.
    #[error(
        "--extension-xds: xDS wants certificates (--xds-client-ca), and without a cluster nobody gives an Envoy Gateway's Envoys \
         any: leave --extension-xds out, and endpoints go through the Envoy Gateway; or serve xDS on loopback without \
         --xds-tls-cert, --xds-tls-key and --xds-client-ca"
    )]
    NoCertificatesForPointers,
    /// Nobody said where the objects come from.
    #[error("--source is missing: kubernetes, or dir:PATH with the folder that holds the manifests")]
    NoSource,
    /// There is no API server to talk to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The manifests can not be read.
    #[error(transparent)]
    Source(#[from] StartError),
    /// The trusted authorities can not be read.
    #[error("--trusted-ca {}: {reason}", path.display())]
    TrustedCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The xDS port can not be secured as it should be.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// Logging can not be started.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The system refuses something it always grants.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// What an address that can not be had most likely means.
fn why(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; is another one running?",
        _ => "",
    }
}

/// Does what the command line says.
pub fn run(config: &Config) -> ExitCode {
    let done = match &config.command {
        Command::Serve(serve_config) => telemetry::init(config.log.log_format, config.log.log_level.as_str())
            .map_err(AppError::from)
            .and_then(|()| serve(serve_config))
            .map(|()| ExitCode::SUCCESS),
        Command::Bootstrap(config) => Ok(cli::bootstrap(config)),
        Command::Certificates(config) => Ok(cli::certificates(config)),
        Command::Crds => Ok(cli::crds()),
        Command::Preflight(config) => Ok(cli::preflight(config)),
        Command::Install(config) => Ok(cli::pod::install(config)),
        Command::Drain(config) => Ok(cli::pod::drain(config)),
        Command::Translate(config) => {
            settings(&config.compile, config.in_cluster).map(|settings| cli::translate(config, settings))
        }
        Command::Validate(config) => {
            settings(&config.compile, config.in_cluster).map(|settings| cli::validate(config, settings))
        }
    };
    done.unwrap_or_else(|error| cli::complain(&error))
}

/// What the compiler is told, files read.
fn settings(config: &CompileConfig, in_cluster: bool) -> Result<Settings, AppError> {
    let (path, asked_for) = match &config.trusted_ca {
        Some(path) => (Some(path.clone()), true),
        None => (openssl_probe::probe().cert_file, false),
    };
    let trusted_authorities = match path.map(|path| (read_authorities(&path), path)) {
        Some((Ok(text), _)) => Some(text.into()),
        Some((Err(reason), path)) if asked_for => return Err(AppError::TrustedCa { path, reason }),
        _ => None,
    };
    Ok(Settings { privileged_ports: config.privileged_ports, in_cluster, trusted_authorities, hosting: None })
}

/// Reads a PEM file of certificates, and nothing in it that Envoy would stumble over.
fn read_authorities(path: &PathBuf) -> Result<String, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    readable_authorities(&text).map_err(|problem| format!("the file {problem}"))
}

fn serve(config: &ServeConfig) -> Result<(), AppError> {
    let settings = settings(&config.compile, false)?;
    runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve_until_told(config, settings))
}

/// Ports first, so that probes are answered and clients are held while the sources are read; then the first compilation; then
/// everything is served. The other way round at the end.
async fn serve_until_told(config: &ServeConfig, settings: Settings) -> Result<(), AppError> {
    let source = match &config.source {
        Some(source) => source.clone(),
        None if env::var_os("KUBERNETES_SERVICE_HOST").is_some() => SourceSpec::Kubernetes,
        None => return Err(AppError::NoSource),
    };
    let settings = Settings { in_cluster: source == SourceSpec::Kubernetes, ..settings };
    let shutdown = CancellationToken::new();
    let cache = Arc::new(SnapshotCache::new());
    let metrics = Arc::new(Metrics::new(Arc::clone(&cache)));
    let cluster = match source {
        SourceSpec::Kubernetes => Some(Cluster::connect(&config.cluster).await?),
        SourceSpec::Dir(_) => None,
    };
    let namespace = cluster.as_ref().map(|cluster| cluster.namespace.as_str());
    let Security { mut options, certificates } = security::secure(config, namespace, &metrics)?;
    if cluster.is_some() {
        // An API server tells one replica sooner than another.
        options.machine.removal_hold = REMOVAL_HOLD;
    }
    let mut extension = Extension::take(config, &source, namespace, options.tls.is_some())?;
    let settings = Settings { hosting: extension.as_ref().map(|extension| extension.hosting.clone()), ..settings };
    let xds = listen(config.xds_listen, "xDS", "xds-listen").await?;
    let web = listen(config.admin_listen, "admin", "admin-listen").await?;
    if settings.trusted_authorities.is_none() {
        tracing::warn!("no trusted authorities found; HTTPS targets can not be served: give --trusted-ca");
    }

    let registry = Arc::new(Registry::default());
    let readiness = Arc::new(Readiness::waiting(format!("reading {source}")));
    let pipeline = Pipeline::new(Compiler::new(settings), Arc::clone(&cache));
    let admin = Admin {
        cache: Arc::clone(&cache),
        registry: Arc::clone(&registry),
        metrics: Arc::clone(&metrics),
        readiness: Arc::clone(&readiness),
        reports: pipeline.published_reports(),
        hosted: pipeline.published_hosted(),
        calls: extension.as_ref().map(|extension| Arc::clone(&extension.calls)).unwrap_or_default(),
        open_debug: config.admin_open_debug,
    };
    let hosted = pipeline.published_hosted();
    let admin = task::spawn(admin::serve(web, admin, shutdown.clone().cancelled_owned()));
    let server = task::spawn(crate::xds::server::serve(
        xds,
        Arc::clone(&cache),
        Arc::clone(&registry),
        Arc::clone(&metrics),
        options,
        shutdown.clone().cancelled_owned(),
    ));
    let certificates = match certificates {
        CertificateSource::None => None,
        CertificateSource::Files(files) => {
            task::spawn(files.follow(Arc::clone(&metrics)));
            None
        }
        CertificateSource::Cluster(certificates) => Some(certificates),
    };

    let serving = Serving {
        cache,
        registry,
        metrics,
        readiness: Arc::clone(&readiness),
        hosted_is_known: watch::Sender::new(false),
        shutdown: shutdown.clone(),
    };
    let identity = extension.as_ref().and_then(|extension| extension.hosting.identity.clone());
    let revisions = extension.as_mut().and_then(|extension| extension.revisions.take());
    let start = async {
        match (&source, cluster) {
            (SourceSpec::Dir(path), _) => files::start(&serving, pipeline, path, revisions).await.map(|()| None),
            (SourceSpec::Kubernetes, cluster) => {
                let cluster = cluster.expect("it is connected to whenever it is the source");
                Ok(Some(cluster::start(&serving, pipeline, config, cluster, certificates, identity).await))
            }
        }
    };
    // An API server may keep us waiting; SIGTERM ends that too.
    let mut told = pin!(told_to_end());
    let mut answering = None;
    let writers = tokio::select! {
        started = start => {
            let writers = started?;
            answering = extension.map(|extension| extension.start(&serving, hosted));
            tracing::info!(%source, xds = %config.xds_listen, admin = %config.admin_listen, "serving");
            told.await?;
            writers
        }
        told = &mut told => {
            told?;
            None
        }
    };
    readiness.set_waiting("shutting down");
    shutdown.cancel();
    if let Some(writers) = writers {
        writers.await.map_err(io::Error::other)?;
    }
    if let Some(answering) = answering {
        answering.await.map_err(io::Error::other)??;
    }
    server.await.map_err(io::Error::other)?;
    admin.await.map_err(io::Error::other)??;
    tracing::info!("ended");
    Ok(())
}

/// What runs whatever the source.
struct Serving {
    cache: Arc<SnapshotCache>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    /// Whether it is known what should be put into configurations of other controllers. Until then nobody is told anything of
    /// it, and what is there stays.
    hosted_is_known: watch::Sender<bool>,
    shutdown: CancellationToken,
}

impl Serving {
    /// The first compilation is done: from now on clients are answered.
    fn set_ready(&self) {
        self.cache.set_ready();
        self.readiness.set_ready();
    }

    /// What happens when compiling panics.
    fn on_panic(&self) -> impl Fn() + Send + use<> {
        let readiness = Arc::clone(&self.readiness);
        move || readiness.set_waiting("compiling a change failed; restart, and report the panic in the log")
    }
}

async fn listen(address: SocketAddr, what: &'static str, flag: &'static str) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|source| AppError::Listen { address, what, flag, source })
}

/// Waits for SIGTERM or SIGINT.
async fn told_to_end() -> io::Result<()> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
    }
    Ok(())
}
