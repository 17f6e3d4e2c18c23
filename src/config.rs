//! Every flag, its environment variable and its default.
//!
//! Never acts on any of them, and nothing else in the program reads the environment.

mod extension;
mod preflight;

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};

pub use self::{
    extension::{ExtensionConfig, ExtensionListen, ExtensionXds},
    preflight::{PreflightConfig, ReportFormat},
};
use crate::{
    api,
    bootstrap::{Discovery, HostPort, Protocol},
    identity::{InvalidLifetimes, Lifetimes, SERVER_NAME, ServerNames, TrustDomain},
    model::ObjectName,
    operator::DEFAULT_ENVOY_IMAGE,
    telemetry::LogFormat,
};

/// What the command line and the environment say.
#[derive(Clone, Debug, Parser)]
#[command(name = "tailscale-gateway", version, about = "Configures Envoy from Gateway API objects and Tailscale's.")]
#[command(propagate_version = true, max_term_width = 110, after_help = AFTER_HELP)]
pub struct Config {
    /// What is said about the work, wherever it goes.
    #[command(flatten)]
    pub log: LogConfig,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "Every flag can be given by the environment variable that stands beside it; the flag wins.";

/// How the program talks about its work, on standard error.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogConfig {
    /// The form of the log lines.
    #[arg(long, global = true, env = "TAILSCALE_GATEWAY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// The least important lines that are written.
    #[arg(long, global = true, env = "TAILSCALE_GATEWAY_LOG_LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
}

/// How important a log line has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What someone has to act on.
    Error,
    /// And what may surprise.
    Warn,
    /// And what changed.
    Info,
    /// And how it came about.
    Debug,
    /// And every step.
    Trace,
}

impl LogLevel {
    /// The word that `tracing` has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Read manifests, keep reading them as they change, and serve what they say to Envoys.
    Serve(Box<ServeConfig>),
    /// Print the bootstrap of an Envoy that takes its configuration from here.
    Bootstrap(BootstrapConfig),
    /// Make the certificates for xDS over mTLS without a cluster: an authority, the server's, and one for each Gateway.
    Certificates(CertificatesConfig),
    /// Print what Envoys would be served, and the conditions every object would get.
    Translate(TranslateConfig),
    /// Print what is wrong with manifests, one line each; the exit code is 1 if any of it is an error.
    Validate(ValidateConfig),
    /// Print what keeps an Envoy Gateway from working with this program: its configuration, definitions, rights, the Service,
    /// certificates; the exit code is 1 if any of it is an error.
    Preflight(PreflightConfig),
    /// Print the CustomResourceDefinitions of gateway.tailscale.com.
    Crds,
    /// Put a copy of this program somewhere. Pods with Envoys run it.
    #[command(hide = true)]
    Install(InstallConfig),
    /// Tell an Envoy that it goes, and wait until nobody sends it requests. Pods with Envoys run it.
    #[command(hide = true)]
    Drain(DrainConfig),
}

/// What `install` is told.
#[derive(Clone, Debug, Args)]
pub struct InstallConfig {
    /// The file to make or replace.
    #[arg(long, env = "TAILSCALE_GATEWAY_TO", value_name = "FILE")]
    pub to: PathBuf,
}

/// What `drain` is told.
#[derive(Clone, Debug, Args)]
pub struct DrainConfig {
    /// The address of the Envoy's admin page.
    #[arg(long, env = "TAILSCALE_GATEWAY_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:19000")]
    pub admin: SocketAddr,
    /// How long to wait at most.
    #[arg(long, env = "TAILSCALE_GATEWAY_SECONDS", value_name = "SECONDS", default_value_t = 60)]
    pub seconds: u32,
}

/// What `serve` is told.
#[derive(Clone, Debug, Args)]
pub struct ServeConfig {
    /// Where the objects come from: `kubernetes`, the API server of the cluster that this runs in or of a kubeconfig; or
    /// `dir:PATH`, a folder (or a file) of YAML and JSON manifests [default inside a cluster: kubernetes].
    #[arg(long, env = "TAILSCALE_GATEWAY_SOURCE")]
    pub source: Option<SourceSpec>,
    /// What is needed with a cluster.
    #[command(flatten)]
    pub cluster: ClusterConfig,
    /// The address on which Envoys are served over xDS.
    #[arg(long, env = "TAILSCALE_GATEWAY_XDS_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:18000")]
    pub xds_listen: SocketAddr,
    /// How clients and server prove who they are on the xDS port.
    #[command(flatten)]
    pub xds: XdsSecurity,
    /// How certificates for xDS come about in a cluster.
    #[command(flatten)]
    pub identity: ClusterIdentity,
    /// What Envoy Gateways are told that ask here.
    #[command(flatten)]
    pub extension: ExtensionConfig,
    /// The address of /healthz, /readyz, /metrics and /debug.
    #[arg(long, env = "TAILSCALE_GATEWAY_ADMIN_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub admin_listen: SocketAddr,
    /// Show the pages under /debug, and with them what is configured, to whoever reaches the admin port. Else they answer only
    /// who asks from the same machine or pod (127.0.0.1, ::1), which is where `kubectl port-forward` arrives.
    #[arg(long, env = "TAILSCALE_GATEWAY_ADMIN_OPEN_DEBUG", value_parser = BoolishValueParser::new())]
    pub admin_open_debug: bool,
    /// What resources depend on besides the objects.
    #[command(flatten)]
    pub compile: CompileConfig,
}

/// What `serve --source kubernetes` is told. Without any of it, it runs as the chart installs it.
#[derive(Clone, Debug, Args)]
pub struct ClusterConfig {
    /// The kubeconfig with the API server [default: the cluster that this runs in, else KUBECONFIG or ~/.kube/config].
    #[arg(long, env = "TAILSCALE_GATEWAY_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context [default: its current one].
    #[arg(long, env = "TAILSCALE_GATEWAY_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// The operator's own namespace, where its Lease and its certificates are [default: that of the service account or of the
    /// kubeconfig's context].
    #[arg(long, env = "TAILSCALE_GATEWAY_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// This replica's name in the Lease [default: the host's name and a random part].
    #[arg(long, env = "TAILSCALE_GATEWAY_REPLICA", value_name = "NAME")]
    pub replica: Option<String>,
    /// Where the Envoys that are created for Gateways find this control plane [default: tailscale-gateway.NAMESPACE.svc:18000,
    /// the chart's Service].
    #[arg(long, env = "TAILSCALE_GATEWAY_XDS_ADDRESS", value_name = "HOST:PORT")]
    pub xds_address: Option<HostPort>,
    /// The image of the Envoys whose parameters name none.
    #[arg(long, env = "TAILSCALE_GATEWAY_ENVOY_IMAGE", value_name = "IMAGE", default_value = DEFAULT_ENVOY_IMAGE)]
    pub envoy_image: String,
    /// The image of this program, whose command `drain` ends Envoys gracefully. Without it a pod that is to end waits as long as
    /// it may, whether or not there are requests.
    #[arg(long, env = "TAILSCALE_GATEWAY_OWN_IMAGE", value_name = "IMAGE")]
    pub own_image: Option<String>,
    /// The Lease whose holder writes statuses and objects. The service account needs the verbs get and update for it; the chart's
    /// has them for this one alone.
    #[arg(long, env = "TAILSCALE_GATEWAY_LEASE", value_name = "NAME", default_value = "tailscale-gateway")]
    pub lease: String,
    /// For how many seconds a holder of the Lease that is not heard of keeps it.
    #[arg(
        long,
        env = "TAILSCALE_GATEWAY_LEASE_SECONDS",
        value_name = "SECONDS",
        default_value_t = 12,
        value_parser = clap::value_parser!(u16).range(3..=3600)
    )]
    pub lease_seconds: u16,
}

/// How clients and server prove who they are on the xDS port.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "xDS over mTLS")]
pub struct XdsSecurity {
    /// The certificate that Envoys are shown, with its chain, in PEM. The files are read again when they are replaced.
    #[arg(long, env = "TAILSCALE_GATEWAY_XDS_TLS_CERT", value_name = "FILE", requires_all = ["xds_tls_key", "xds_client_ca"])]
    pub xds_tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    #[arg(long, env = "TAILSCALE_GATEWAY_XDS_TLS_KEY", value_name = "FILE", requires_all = ["xds_tls_cert", "xds_client_ca"])]
    pub xds_tls_key: Option<PathBuf>,
    /// The certificates of the authorities that sign Envoys' certificates, in PEM. An Envoy needs a certificate for the Gateway
    /// that it names: spiffe://TRUST-DOMAIN/ns/NAMESPACE/gateway/NAME is its only URI subject alternative name.
    #[arg(long, env = "TAILSCALE_GATEWAY_XDS_CLIENT_CA", value_name = "FILE", requires_all = ["xds_tls_cert", "xds_tls_key"])]
    pub xds_client_ca: Option<PathBuf>,
    /// The trust domain in Envoys' certificates.
    #[arg(long, env = "TAILSCALE_GATEWAY_XDS_TRUST_DOMAIN", value_name = "DOMAIN", default_value = TrustDomain::DEFAULT)]
    pub xds_trust_domain: TrustDomain,
    /// Let streams go on when the certificate expires with which they were opened; else they are ended then, and Envoys come
    /// back with the certificate that they have by that time. A new connection needs a valid one either way.
    #[arg(long, env = "TAILSCALE_GATEWAY_XDS_KEEP_EXPIRED", value_parser = BoolishValueParser::new())]
    pub xds_keep_expired: bool,
    /// Serve xDS without TLS where that is not done by itself: on an address that is not loopback, or with a cluster. Whoever
    /// reaches the port gets every Gateway's configuration, private keys of certificates among it.
    #[arg(long, env = "TAILSCALE_GATEWAY_XDS_INSECURE", value_parser = BoolishValueParser::new())]
    pub xds_insecure: bool,
}

impl XdsSecurity {
    /// The files of the server's certificate, its key and the clients' authorities, when it uses TLS.
    pub fn files(&self) -> Option<[&PathBuf; 3]> {
        Some([self.xds_tls_cert.as_ref()?, self.xds_tls_key.as_ref()?, self.xds_client_ca.as_ref()?])
    }

    /// Whether xDS on this address would be served to whoever reaches it, and nobody has said that this is meant.
    pub fn exposes(&self, listen: SocketAddr) -> bool {
        self.files().is_none() && !listen.ip().to_canonical().is_loopback() && !self.xds_insecure
    }
}

/// How certificates for xDS come about in a cluster, where the operator makes them unless somebody else does.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "xDS over mTLS in a cluster")]
pub struct ClusterIdentity {
    /// A name or an IP address by which Envoys reach the xDS port; can be repeated. The operator's own certificates have the name
    /// xds.gateway.tailscale.com besides, which the Envoys that it creates ask for.
    #[arg(
        long,
        env = "TAILSCALE_GATEWAY_XDS_SERVER_NAME",
        value_name = "NAME",
        value_delimiter = ',',
        value_parser = parse_server_name
    )]
    pub xds_server_name: Vec<String>,
    /// A Secret in the operator's namespace with the certificate of the xDS port (tls.crt, tls.key, and in ca.crt the authority
    /// by which Envoys know it), such as cert-manager makes. Envoys ask for the first --xds-server-name.
    #[arg(long, env = "TAILSCALE_GATEWAY_XDS_SERVER_SECRET", value_name = "SECRET", requires = "xds_server_name")]
    pub xds_server_secret: Option<String>,
    /// A Secret in the operator's namespace with the authority of Envoys' certificates: tls.crt and tls.key with which the
    /// operator signs them, or only ca.crt when somebody else does and puts them into the Gateways' Secrets.
    #[arg(long, env = "TAILSCALE_GATEWAY_XDS_CLIENT_CA_SECRET", value_name = "SECRET")]
    pub xds_client_ca_secret: Option<String>,
    /// How long the certificates live that the operator makes; they are made anew when two thirds of that are over.
    #[arg(long, env = "TAILSCALE_GATEWAY_XDS_CERTIFICATE_LIFETIME", default_value = "7d", value_parser = parse_lifetime)]
    pub xds_certificate_lifetime: Duration,
    /// How long the operator's own authority lives.
    #[arg(long, env = "TAILSCALE_GATEWAY_XDS_AUTHORITY_LIFETIME", default_value = "365d", value_parser = parse_lifetime)]
    pub xds_authority_lifetime: Duration,
}

impl ClusterIdentity {
    /// How long authorities and certificates live.
    ///
    /// # Errors
    ///
    /// When no rotation fits into that.
    pub fn lifetimes(&self) -> Result<Lifetimes, InvalidLifetimes> {
        Lifetimes::new(self.xds_authority_lifetime, self.xds_certificate_lifetime)
    }

    /// The names that the certificate of the xDS port has when the operator makes it.
    pub fn names(&self) -> ServerNames {
        let given = self.xds_server_name.iter().map(String::as_str);
        ServerNames::new(given.chain([SERVER_NAME])).expect("they were names when they were parsed")
    }

    /// The name that Envoys ask for.
    pub fn asked_for(&self) -> &str {
        match (&self.xds_server_secret, self.xds_server_name.first()) {
            (Some(_), Some(name)) => name,
            _ => SERVER_NAME,
        }
    }
}

/// What resources depend on besides the objects.
#[derive(Clone, Debug, Args)]
pub struct CompileConfig {
    /// A PEM file with the certificates of the authorities that HTTPS targets are checked against; those of the system when
    /// it is left out.
    #[arg(long, env = "TAILSCALE_GATEWAY_TRUSTED_CA", value_name = "FILE")]
    pub trusted_ca: Option<PathBuf>,
    /// Bind listener ports below 1024 as they are; else Envoy binds the port plus 10000.
    #[arg(long, env = "TAILSCALE_GATEWAY_PRIVILEGED_PORTS", value_parser = BoolishValueParser::new())]
    pub privileged_ports: bool,
}

/// What `bootstrap` is told.
#[derive(Clone, Debug, Args)]
pub struct BootstrapConfig {
    /// The Gateway whose configuration the Envoy gets.
    #[arg(long, env = "TAILSCALE_GATEWAY_GATEWAY", value_name = "NAMESPACE/NAME", value_parser = parse_gateway)]
    pub gateway: ObjectName,
    /// Where the Envoy finds this control plane.
    #[arg(long, env = "TAILSCALE_GATEWAY_XDS", value_name = "HOST:PORT", default_value = "127.0.0.1:18000")]
    pub xds: HostPort,
    /// The Envoy's own name, different for each [default: the host's name and a random part].
    #[arg(long, env = "TAILSCALE_GATEWAY_NODE_ID", value_name = "ID", value_parser = parse_node_id)]
    pub node_id: Option<String>,
    /// The address of the Envoy's own admin page.
    #[arg(long, env = "TAILSCALE_GATEWAY_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:19000")]
    pub admin: SocketAddr,
    /// Whether the Envoy is sent differences or the state of the world.
    #[arg(long, env = "TAILSCALE_GATEWAY_PROTOCOL", value_enum, default_value_t = Protocol::Delta)]
    pub protocol: Protocol,
    /// Whether everything comes over the one aggregated stream or over a stream for each type.
    #[arg(long, env = "TAILSCALE_GATEWAY_DISCOVERY", value_enum, default_value_t = Discovery::Ads)]
    pub discovery: Discovery,
    /// Where the Envoy's certificate is, for xDS over mTLS.
    #[command(flatten)]
    pub tls: BootstrapTls,
}

/// Where the certificate of an Envoy is, and how it knows the control plane.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "xDS over mTLS")]
pub struct BootstrapTls {
    /// The certificates of the authorities by which the Envoy knows the control plane, in PEM.
    #[arg(
        long,
        env = "TAILSCALE_GATEWAY_TLS_CA",
        value_name = "FILE",
        requires_all = ["tls_cert", "tls_key"],
        conflicts_with = "cluster"
    )]
    pub tls_ca: Option<PathBuf>,
    /// The Envoy's certificate with its chain, in PEM. The Envoy reads it again when a new one is moved there.
    #[arg(long, env = "TAILSCALE_GATEWAY_TLS_CERT", value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM, in the same folder.
    #[arg(long, env = "TAILSCALE_GATEWAY_TLS_KEY", value_name = "FILE", requires_all = ["tls_ca", "tls_cert"])]
    pub tls_key: Option<PathBuf>,
    /// The name or the IP address that the control plane's certificate must have [default: the host in --xds].
    #[arg(long, env = "TAILSCALE_GATEWAY_TLS_SERVER_NAME", value_name = "NAME", value_parser = parse_server_name)]
    pub tls_server_name: Option<String>,
    /// The folder for the two small files by which Envoy finds its certificate; they are written there [default: the folder of
    /// --tls-cert].
    #[arg(long, env = "TAILSCALE_GATEWAY_TLS_SDS_DIR", value_name = "DIR", requires = "tls_cert")]
    pub tls_sds_dir: Option<PathBuf>,
    /// Take the certificate that the operator has made for the Gateway from the cluster of this kubeconfig. The control plane's
    /// certificate must then be for xds.gateway.tailscale.com, unless --tls-server-name says otherwise.
    #[arg(long, env = "TAILSCALE_GATEWAY_KUBECONFIG", value_name = "FILE", group = "cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// The same, from the cluster of this context of the kubeconfig.
    #[arg(long, env = "TAILSCALE_GATEWAY_CONTEXT", value_name = "NAME", group = "cluster")]
    pub context: Option<String>,
    /// The folder in which that certificate is written, so that the Envoy reads it again when this command is run again; else it
    /// stands in the bootstrap.
    #[arg(long, env = "TAILSCALE_GATEWAY_CERTIFICATES", value_name = "DIR", requires = "cluster")]
    pub certificates: Option<PathBuf>,
}

impl BootstrapTls {
    /// Whether the certificate is taken from a cluster.
    pub fn is_from_cluster(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }
}

/// What `certificates` is told.
#[derive(Clone, Debug, Args)]
pub struct CertificatesConfig {
    /// The folder for the authority, the server's and the Envoys' certificates. What is there and still good is kept.
    #[arg(long, env = "TAILSCALE_GATEWAY_OUT", value_name = "DIR")]
    pub out: PathBuf,
    /// A Gateway whose Envoys get a certificate; can be repeated. Those that have one in the folder keep it fresh anyway.
    #[arg(
        long,
        env = "TAILSCALE_GATEWAY_GATEWAY",
        value_name = "NAMESPACE/NAME",
        value_delimiter = ',',
        value_parser = parse_gateway
    )]
    pub gateway: Vec<ObjectName>,
    /// A name or an IP address by which Envoys reach the control plane; can be repeated [default: those that the server's
    /// certificate in the folder has, else localhost, 127.0.0.1 and ::1].
    #[arg(
        long,
        env = "TAILSCALE_GATEWAY_SERVER_NAME",
        value_name = "NAME",
        value_delimiter = ',',
        value_parser = parse_server_name
    )]
    pub server_name: Vec<String>,
    /// The trust domain in Envoys' certificates.
    #[arg(long, env = "TAILSCALE_GATEWAY_TRUST_DOMAIN", value_name = "DOMAIN", default_value = TrustDomain::DEFAULT)]
    pub trust_domain: TrustDomain,
    /// How long certificates are valid. They are made anew when two thirds of that are over and this command is run.
    #[arg(long, env = "TAILSCALE_GATEWAY_LIFETIME", default_value = "90d", value_parser = parse_lifetime)]
    pub lifetime: Duration,
    /// How long the authority is valid.
    #[arg(long, env = "TAILSCALE_GATEWAY_AUTHORITY_LIFETIME", default_value = "3650d", value_parser = parse_lifetime)]
    pub authority_lifetime: Duration,
}

/// What `translate` is told.
#[derive(Clone, Debug, Args)]
pub struct TranslateConfig {
    /// Files and folders of manifests.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Show this Gateway alone.
    #[arg(long, env = "TAILSCALE_GATEWAY_GATEWAY", value_name = "NAMESPACE/NAME", value_parser = parse_gateway)]
    pub gateway: Option<ObjectName>,
    /// The language of the output.
    #[arg(short, long, env = "TAILSCALE_GATEWAY_OUTPUT", value_enum, default_value_t = OutputFormat::Yaml)]
    pub output: OutputFormat,
    /// Show what they come to in a cluster, where Envoys are created for each Gateway.
    #[arg(long, env = "TAILSCALE_GATEWAY_IN_CLUSTER", value_parser = BoolishValueParser::new())]
    pub in_cluster: bool,
    /// What resources depend on besides the objects.
    #[command(flatten)]
    pub compile: CompileConfig,
}

/// What `validate` is told.
#[derive(Clone, Debug, Args)]
pub struct ValidateConfig {
    /// Files and folders of manifests.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Show what they come to in a cluster, where Envoys are created for each Gateway.
    #[arg(long, env = "TAILSCALE_GATEWAY_IN_CLUSTER", value_parser = BoolishValueParser::new())]
    pub in_cluster: bool,
    /// What resources depend on besides the objects.
    #[command(flatten)]
    pub compile: CompileConfig,
}

/// The language of what `translate` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// `kubernetes`: an API server.
    Kubernetes,
    /// `dir:PATH`: manifests in files.
    Dir(PathBuf),
}

impl FromStr for SourceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "kubernetes" {
            return Ok(Self::Kubernetes);
        }
        match text.split_once(':') {
            Some(("dir", "")) => Err("the path is missing; write dir:PATH".into()),
            Some(("dir", path)) => Ok(Self::Dir(path.into())),
            _ => Err("write kubernetes, or dir:PATH with the folder that holds the manifests".into()),
        }
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubernetes => f.write_str("kubernetes"),
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
        }
    }
}

fn parse_gateway(text: &str) -> Result<ObjectName, String> {
    ObjectName::parse_namespaced(text).ok_or_else(|| "write NAMESPACE/NAME, such as default/web".to_owned())
}

fn parse_server_name(text: &str) -> Result<String, String> {
    let wrong = |_| "write a DNS name or an IP address without a port".to_owned();
    ServerNames::new([text]).map(|names| names.iter().next().unwrap_or_default()).map_err(wrong)
}

/// A duration as manifests have it, or whole days (`90d`).
fn parse_lifetime(text: &str) -> Result<Duration, String> {
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        return Ok(Duration::from_secs(u64::from(days) * 24 * 3600));
    }
    let wrong = |error| format!("{error}; days can be written too, such as 90d");
    text.parse().map(|duration: api::Duration| duration.as_std()).map_err(wrong)
}

fn parse_node_id(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("a node ID is not empty and has no control characters".into());
    }
    Ok(text.to_owned())
}
