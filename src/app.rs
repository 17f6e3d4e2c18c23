//! Wiring: what is started in which order, and how it ends. The only file that knows all.
//!
//! Holds no rule about the domain.

use std::{collections::BTreeSet, fs, io, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Instant};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    runtime,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task,
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Admin, Readiness},
    cli,
    compile::{Compiler, Settings},
    config::{Command, CompileConfig, Config, ServeConfig, SourceSpec},
    metrics::Metrics,
    model::Severity,
    pipeline::{self, Batch, Pipeline},
    security::{self, SecurityError},
    snapshot::SnapshotCache,
    source::{FileSource, Located, SourceUpdate, StartError},
    telemetry::{self, TelemetryError},
    xds::Registry,
};

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
        Command::Translate(config) => settings(&config.compile).map(|settings| cli::translate(config, settings)),
        Command::Validate(config) => settings(&config.compile).map(|settings| cli::validate(config, settings)),
    };
    done.unwrap_or_else(|error| cli::complain(&error))
}

/// What the compiler is told, files read.
fn settings(config: &CompileConfig) -> Result<Settings, AppError> {
    let (path, asked_for) = match &config.trusted_ca {
        Some(path) => (Some(path.clone()), true),
        None => (openssl_probe::probe().cert_file, false),
    };
    let trusted_authorities = match path.map(|path| (read_authorities(&path), path)) {
        Some((Ok(text), _)) => Some(text.into()),
        Some((Err(reason), path)) if asked_for => return Err(AppError::TrustedCa { path, reason }),
        _ => None,
    };
    Ok(Settings { privileged_ports: config.privileged_ports, trusted_authorities })
}

/// Reads a PEM file and sees that it holds certificates and nothing that Envoy would stumble over.
fn read_authorities(path: &PathBuf) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let certificates: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("not PEM: {error}"))?;
    if certificates.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(text)
}

fn serve(config: &ServeConfig) -> Result<(), AppError> {
    let settings = settings(&config.compile)?;
    runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve_until_told(config, settings))
}

/// Ports first, so that probes are answered and clients are held while the sources are read; then the first compilation; then
/// everything is served. The other way round at the end.
async fn serve_until_told(config: &ServeConfig, settings: Settings) -> Result<(), AppError> {
    let shutdown = CancellationToken::new();
    let cache = Arc::new(SnapshotCache::new());
    let metrics = Arc::new(Metrics::new(Arc::clone(&cache)));
    let (options, certificates) = security::from_files(&config.xds, config.xds_listen, &metrics)?;
    let xds = listen(config.xds_listen, "xDS", "xds-listen").await?;
    let web = listen(config.admin_listen, "admin", "admin-listen").await?;
    let SourceSpec::Dir(path) = config.source.clone();

    let registry = Arc::new(Registry::default());
    let readiness = Arc::new(Readiness::waiting(format!("reading {}", config.source)));
    if settings.trusted_authorities.is_none() {
        tracing::warn!("no trusted authorities found; HTTPS targets can not be served: give --trusted-ca");
    }
    let mut pipeline = Pipeline::new(Compiler::new(settings), Arc::clone(&cache));
    let admin = Admin {
        cache: Arc::clone(&cache),
        registry: Arc::clone(&registry),
        metrics: Arc::clone(&metrics),
        readiness: Arc::clone(&readiness),
        reports: pipeline.published_reports(),
    };
    let admin = task::spawn(admin::serve(web, admin, shutdown.clone().cancelled_owned()));
    let server = task::spawn(crate::xds::server::serve(
        xds,
        Arc::clone(&cache),
        registry,
        Arc::clone(&metrics),
        options,
        shutdown.clone().cancelled_owned(),
    ));
    if let Some(certificates) = certificates {
        task::spawn(certificates.follow(Arc::clone(&metrics)));
    }

    let began = Instant::now();
    let (first, source) = task::spawn_blocking(move || FileSource::start(&path)).await.map_err(io::Error::other)??;
    let known = tell(&BTreeSet::new(), first.problems);
    let compiling = Instant::now();
    let applied = pipeline.apply(first.changes);
    pipeline.tell(&applied, &metrics, began, compiling.elapsed());
    cache.set_ready();
    readiness.set_ready();
    tracing::info!(
        source = %config.source,
        objects = pipeline.engine().store().len(),
        xds = %config.xds_listen,
        admin = %config.admin_listen,
        "serving"
    );

    let (sender, batches) = mpsc::channel(1);
    task::spawn(feed(source, sender, known));
    let panicked = {
        let readiness = Arc::clone(&readiness);
        move || readiness.set_waiting("compiling a change failed; restart, and report the panic in the log")
    };
    task::spawn(pipeline::run(pipeline, batches, metrics, panicked));

    told_to_end().await?;
    readiness.set_waiting("shutting down");
    shutdown.cancel();
    server.await.map_err(io::Error::other)?;
    admin.await.map_err(io::Error::other)??;
    tracing::info!("ended");
    Ok(())
}

async fn listen(address: SocketAddr, what: &'static str, flag: &'static str) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|source| AppError::Listen { address, what, flag, source })
}

/// Hands what the files say to the pipeline.
async fn feed(mut source: FileSource, sender: mpsc::Sender<Batch>, mut known: BTreeSet<Located>) {
    while let Some(SourceUpdate { changes, problems }) = source.next().await {
        let seen = Instant::now();
        known = tell(&known, problems);
        if sender.send(Batch { changes, seen }).await.is_err() {
            return;
        }
    }
}

/// Logs what is newly wrong with the files, and what is no more.
fn tell(known: &BTreeSet<Located>, now: Vec<Located>) -> BTreeSet<Located> {
    let now: BTreeSet<Located> = now.into_iter().collect();
    for problem in now.difference(known) {
        match problem.severity() {
            Severity::Error => tracing::warn!(reason = problem.reason.as_str(), "{problem}"),
            Severity::Warning => tracing::info!(reason = problem.reason.as_str(), "{problem}"),
        }
    }
    for problem in known.difference(&now) {
        tracing::info!(reason = problem.reason.as_str(), "no longer: {problem}");
    }
    now
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
