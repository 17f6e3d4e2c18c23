//! The command `certificates`: certificates for xDS over mTLS in a folder, without a cluster.
//!
//! ```text
//! DIR/authority/            the authority: tls.crt, tls.key, ca.crt, and its successor next.crt, next.key when its time has come
//! DIR/server/               the control plane: tls.crt, tls.key, ca.crt
//! DIR/gateway/NS/NAME/      the Envoys of a Gateway: tls.crt, tls.key, ca.crt
//! ```
//!
//! Run again, it makes anew what is due, and nothing else; each file is replaced in one step. Never shows a key.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use jiff::Timestamp;
use thiserror::Error;

use super::{
    complain, print,
    private::{remove_if_there, write_private},
};
use crate::{
    config::CertificatesConfig,
    identity::{
        Authorities, AuthorityError, Bundle, ClientId, Credentials, Due, InvalidLifetimes, Lifetimes,
        MalformedAuthorities, ServerNames, client_certificate_due, server_certificate_due,
    },
    model::ObjectName,
};

/// Why certificates can not be made.
#[derive(Debug, Error)]
pub enum CertificatesError {
    /// The lifetimes do not fit together.
    #[error("--lifetime and --authority-lifetime: {0}")]
    Lifetimes(#[from] InvalidLifetimes),
    /// A file or folder can not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The authority that is there can not be read. It is not replaced unasked: what it has signed would be refused.
    #[error("{}: {reason}; move the folder away to have a new authority, or put back what is missing", path.display())]
    Authority {
        /// The authority's folder.
        path: PathBuf,
        /// What is wrong.
        reason: MalformedAuthorities,
    },
    /// A certificate can not be made.
    #[error(transparent)]
    Issue(#[from] AuthorityError),
}

/// Makes what is due, and prints a line for each certificate.
pub fn certificates(config: &CertificatesConfig) -> ExitCode {
    match renew(config, Timestamp::now()) {
        Ok(lines) => print(&lines.into_iter().map(|line| line + "\n").collect::<String>()),
        Err(error) => complain(&error),
    }
}

/// Makes what is due at a time, and says what became of each certificate.
///
/// # Errors
///
/// When something can not be read, made or written. What was made before that is there.
pub fn renew(config: &CertificatesConfig, now: Timestamp) -> Result<Vec<String>, CertificatesError> {
    let lifetimes = Lifetimes::new(config.authority_lifetime, config.lifetime)?;
    let folder = |name: &str| config.out.join(name);
    let mut lines = Vec::new();
    let authorities = renew_authorities(&folder("authority"), now, lifetimes, &mut lines)?;
    let trusted = authorities.trusted();

    let server = folder("server");
    let found = read_credentials(&server)?;
    let names = server_names(&config.server_name, found.as_ref());
    let due = server_certificate_due(found.as_ref(), &names, trusted, now);
    let issue = || authorities.current().issue_server(&names, now, lifetimes);
    let what = format!(" for {}", names.iter().collect::<Vec<_>>().join(" "));
    lines.push(renew_one(&server, found, due, issue, trusted, &what)?);

    let mut gateways = gateways_in(&folder("gateway"))?;
    gateways.extend(config.gateway.iter().cloned());
    gateways.sort();
    gateways.dedup();
    for gateway in gateways {
        let path = folder("gateway").join(&*gateway.namespace).join(&*gateway.name);
        let id = ClientId { trust_domain: config.trust_domain.clone(), gateway };
        let found = read_credentials(&path)?;
        let due = client_certificate_due(found.as_ref(), &id, trusted, now);
        let issue = || authorities.current().issue_client(&id, now, lifetimes);
        lines.push(renew_one(&path, found, due, issue, trusted, "")?);
    }
    Ok(lines)
}

fn renew_authorities(
    path: &Path,
    now: Timestamp,
    lifetimes: Lifetimes,
    lines: &mut Vec<String>,
) -> Result<Authorities, CertificatesError> {
    let mut stored = Vec::new();
    for part in Authorities::PARTS {
        stored.push((part, read(&path.join(part))?));
    }
    let part = |name| stored.iter().find(|(part, _)| *part == name).and_then(|(_, content)| content.as_deref());
    let (authorities, said) = if stored.iter().all(|(_, content)| content.is_none()) {
        (Authorities::create(now, lifetimes)?, Some("made".to_owned()))
    } else {
        let malformed = |reason| CertificatesError::Authority { path: path.to_owned(), reason };
        let mut authorities = Authorities::read(part).map_err(malformed)?;
        let steps = authorities.advance(now, lifetimes)?;
        let said: Vec<String> = steps.iter().map(|step| format!("{step:?}").to_lowercase()).collect();
        (authorities, (!said.is_empty()).then(|| said.join(", ")))
    };
    let expires = authorities.current().facts().not_after;
    lines.push(format!("{}: {}, expires {expires}", path.display(), said.as_deref().unwrap_or("kept")));
    if said.is_some() {
        let data = authorities.to_data();
        for (name, content) in &data {
            write(path, name, content)?;
        }
        for left in Authorities::PARTS.iter().filter(|part| !data.contains_key(*part)) {
            remove(&path.join(left))?;
        }
    }
    Ok(authorities)
}

/// Writes a certificate anew if it is due, and the trusted authorities if they are others.
fn renew_one(
    path: &Path,
    found: Option<Credentials>,
    due: Option<Due>,
    issue: impl FnOnce() -> Result<Credentials, AuthorityError>,
    trusted: &Bundle,
    what: &str,
) -> Result<String, CertificatesError> {
    // Whoever reads them now trusts a new authority before it is shown what that has signed.
    let bundle = trusted.to_pem();
    if read(&path.join("ca.crt"))?.is_none_or(|known| known != bundle.as_bytes()) {
        write(path, "ca.crt", &bundle)?;
    }
    let (credentials, said) = match (found, due) {
        (Some(found), None) => (found, "kept".to_owned()),
        (_, due) => {
            let made = issue()?;
            write(path, "tls.key", made.key.expose())?;
            write(path, "tls.crt", &made.chain)?;
            (made, due.filter(|due| *due != Due::Missing).map_or("made".into(), |due| format!("made anew ({due})")))
        }
    };
    let expires = credentials.facts().map_err(AuthorityError::Pem)?.not_after;
    Ok(format!("{}: {said}{what}, expires {expires}", path.display()))
}

/// The names that were asked for; else those of the certificate that is there; else those of this machine.
fn server_names(asked: &[String], found: Option<&Credentials>) -> ServerNames {
    let of_found = found.and_then(|found| found.facts().ok()).map(|facts| {
        let addresses = facts.addresses.iter().map(ToString::to_string);
        facts.dns_names.iter().cloned().chain(addresses).collect::<Vec<_>>()
    });
    let names = if asked.is_empty() { of_found.unwrap_or_default() } else { asked.to_vec() };
    ServerNames::new(names.iter().map(String::as_str))
        .or_else(|_| ServerNames::new(["localhost", "127.0.0.1", "::1"]))
        .expect("these are names")
}

/// The Gateways for whose Envoys there is a folder.
fn gateways_in(folder: &Path) -> Result<Vec<ObjectName>, CertificatesError> {
    let mut found = Vec::new();
    for namespace in names_in(folder)? {
        for name in names_in(&folder.join(&namespace))? {
            found.extend(ObjectName::parse_namespaced(&format!("{namespace}/{name}")));
        }
    }
    Ok(found)
}

fn names_in(folder: &Path) -> Result<Vec<String>, CertificatesError> {
    let failed = |source| CertificatesError::File { path: folder.to_owned(), source };
    match fs::read_dir(folder) {
        Ok(entries) => {
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect::<io::Result<_>>().map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

/// A certificate and its key. What is there but can not be read as that is made anew, as if it were not there.
fn read_credentials(path: &Path) -> Result<Option<Credentials>, CertificatesError> {
    let (chain, key) = (read(&path.join("tls.crt"))?, read(&path.join("tls.key"))?);
    Ok(chain.zip(key).and_then(|(chain, key)| Credentials::read(&chain, &key).ok()))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CertificatesError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CertificatesError::File { path: path.to_owned(), source }),
    }
}

/// Replaces a file in one step. Its owner alone can read it.
fn write(folder: &Path, name: &str, content: &str) -> Result<(), CertificatesError> {
    let failed = |source| CertificatesError::File { path: folder.join(name), source };
    write_private(folder, name, content).map_err(failed)
}

fn remove(path: &Path) -> Result<(), CertificatesError> {
    remove_if_there(path).map_err(|source| CertificatesError::File { path: path.to_owned(), source })
}
