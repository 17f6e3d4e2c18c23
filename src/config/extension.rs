//! The flags of the extension server.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use clap::Args;

use crate::bootstrap::HostPort;

/// How Envoy Gateways that have us as their extension server reach us, and how their Envoys do.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Extension server of an Envoy Gateway")]
pub struct ExtensionConfig {
    /// Where Envoy Gateways ask: an address, `unix:PATH` for a socket file, or `off` [default: 0.0.0.0:5005 with --source
    /// kubernetes, else off].
    #[arg(long, env = "TAILSCALE_GATEWAY_EXTENSION_LISTEN", value_name = "ADDR|unix:PATH|off")]
    pub extension_listen: Option<ExtensionListen>,
    /// The certificate that Envoy Gateways are shown, with its chain, in PEM. The files are read again when they are replaced.
    #[arg(long, env = "TAILSCALE_GATEWAY_EXTENSION_TLS_CERT", value_name = "FILE", requires = "extension_tls_key")]
    pub extension_tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    #[arg(long, env = "TAILSCALE_GATEWAY_EXTENSION_TLS_KEY", value_name = "FILE", requires = "extension_tls_cert")]
    pub extension_tls_key: Option<PathBuf>,
    /// The certificates of the authorities that sign Envoy Gateways' certificates, in PEM; without it, whoever reaches the
    /// port is answered.
    #[arg(long, env = "TAILSCALE_GATEWAY_EXTENSION_CLIENT_CA", value_name = "FILE", requires = "extension_tls_cert")]
    pub extension_client_ca: Option<PathBuf>,
    /// Where the Envoys of Envoy Gateways reach the xDS port, or `off`: with it they fetch endpoints and authorities from there,
    /// and a changed endpoint costs no translation; without it these go through the Envoy Gateway [default with --source
    /// kubernetes: the address that the Envoys get that are created for Gateways; else off].
    #[arg(long, env = "TAILSCALE_GATEWAY_EXTENSION_XDS", value_name = "HOST:PORT")]
    pub extension_xds: Option<ExtensionXds>,
    /// A folder that an Envoy Gateway without a cluster watches, for --source dir:PATH: a file for each of its Gateways with a
    /// TailscaleGatewayRevision, by which it notices that what it is told has changed. With a cluster such objects are there.
    #[arg(long, env = "TAILSCALE_GATEWAY_EXTENSION_REVISIONS", value_name = "DIR", requires = "extension_listen")]
    pub extension_revisions: Option<PathBuf>,
}

impl ExtensionConfig {
    /// The files of the certificate, its key and, if there are any, the clients' authorities.
    pub fn files(&self) -> Option<Vec<PathBuf>> {
        let mut files = vec![self.extension_tls_cert.clone()?, self.extension_tls_key.clone()?];
        files.extend(self.extension_client_ca.clone());
        Some(files)
    }
}

/// Where the Envoys of Envoy Gateways reach the xDS port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtensionXds {
    /// They do not.
    Off,
    /// There.
    At(HostPort),
}

impl FromStr for ExtensionXds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            address => address.parse().map(Self::At).map_err(|error| format!("{error}; or write off")),
        }
    }
}

/// Where Envoy Gateways ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtensionListen {
    /// Nowhere.
    Off,
    /// On a TCP port.
    Tcp(SocketAddr),
    /// On a socket file.
    Unix(PathBuf),
}

impl ExtensionListen {
    /// What holds in a cluster when nothing is said.
    pub const IN_CLUSTER: Self = Self::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5005));
}

impl FromStr for ExtensionListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("the path is missing; write unix:PATH".into()),
            Some(path) => Ok(Self::Unix(path.into())),
            None if text == "off" => Ok(Self::Off),
            None => match text.parse() {
                Ok(address) => Ok(Self::Tcp(address)),
                Err(_) => Err("write an address such as 0.0.0.0:5005, unix:PATH, or off".into()),
            },
        }
    }
}

impl fmt::Display for ExtensionListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
