//! A server that speaks TLS alone, with certificates that are thrown away with it.

use std::io;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::Kind;
use crate::process::{Process, free_port};

/// A server and the certificates to reach it.
#[derive(Debug)]
pub struct TlsServer {
    process: Process,
    asks: bool,
}

fn make(folder: &Path) -> Result<(), rcgen::Error> {
    let written =
        |name: &str, text: String| std::fs::write(folder.join(name), text).map_err(|_| rcgen::Error::RemoteKeyError);
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    written("ca.pem", authority.as_ref().pem())?;
    for name in ["server", "client"] {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        // A name of its own: a certificate whose subject is its issuer passes for one that signed itself.
        params.distinguished_name.push(DnType::CommonName, name);
        written(&format!("{name}.pem"), params.signed_by(&key, &authority)?.pem())?;
        written(&format!("{name}.key"), key.serialize_pem())?;
    }
    Ok(())
}

impl TlsServer {
    /// Starts a server. One that `asks` lets in only clients with a certificate.
    ///
    /// # Errors
    /// When the program is missing, or was built without TLS.
    pub fn start(kind: Kind, asks: bool) -> io::Result<Self> {
        let port = free_port()?;
        let mut args: Vec<String> = ["--bind", "127.0.0.1", "--port", "0", "--save", ""].map(str::to_owned).into();
        for (name, value) in [
            ("--tls-cert-file", "server.pem"),
            ("--tls-key-file", "server.key"),
            ("--tls-ca-cert-file", "ca.pem"),
            ("--tls-auth-clients", if asks { "yes" } else { "no" }),
            ("--tls-port", &port.to_string()),
        ] {
            args.extend([name.to_owned(), value.to_owned()]);
        }
        let process = Process::start(kind, port, args, |folder| make(folder).map_err(io::Error::other))?;
        Ok(Self { process, asks })
    }

    /// One of its files: `ca.pem`, `client.pem`, `client.key`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.process.folder().join(name)
    }

    /// Its address without certificates.
    #[must_use]
    pub fn bare_url(&self) -> String {
        format!("rediss://localhost:{}", self.process.port())
    }

    /// Its address with what is needed to be let in.
    #[must_use]
    pub fn url(&self) -> String {
        let mut url = format!("{}?ca={}", self.bare_url(), self.file("ca.pem").display());
        if self.asks {
            url.push_str(&format!("&cert={}", self.file("client.pem").display()));
            url.push_str(&format!("&key={}", self.file("client.key").display()));
        }
        url
    }
}
