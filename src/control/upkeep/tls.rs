//! TLS of probes: whom they believe, and what they call the node.

use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// The system's certificates, where Debian and most others have them.
pub(in crate::control) const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What `apisix.ssl.ssl_trusted_certificate` calls them.
const SYSTEM: &str = "system";

/// Makes connectors, each kind once. The files of certificates are read when the first is wanted.
pub(super) struct Connectors<'a> {
    trusted: &'a [String],
    checked: Option<TlsConnector>,
    unchecked: Option<TlsConnector>,
}

impl<'a> Connectors<'a> {
    /// That believe these: `system`, and files.
    pub(super) fn new(trusted: &'a [String]) -> Self {
        Self { trusted, checked: None, unchecked: None }
    }

    /// One that verifies certificates, or one that takes all.
    pub(super) fn get(&mut self, verify: bool) -> TlsConnector {
        let trusted = self.trusted;
        let (made, make): (_, fn(&[String]) -> _) = match verify {
            true => (&mut self.checked, checked),
            false => (&mut self.unchecked, |_| unchecked()),
        };
        made.get_or_insert_with(|| TlsConnector::from(Arc::new(make(trusted)))).clone()
    }
}

/// # Errors
/// A file that is named can't be read, or there is no certificate in it.
pub(super) fn check(trusted: &[String]) -> Result<(), String> {
    let named = trusted.iter().filter(|name| *name != SYSTEM);
    named.into_iter().try_for_each(|path| add(&mut RootCertStore::empty(), path))
}

/// The name that a node with this Host must have: without a port.
pub(super) fn server_name(host: &[u8]) -> io::Result<ServerName<'static>> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "the Host is no name for TLS");
    let host = std::str::from_utf8(host).map_err(|_| invalid())?;
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(host, |(inside, _)| inside),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    ServerName::try_from(bare.to_owned()).map_err(|_| invalid())
}

fn checked(trusted: &[String]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for name in trusted {
        let path = if name == SYSTEM { SYSTEM_CERTIFICATES } else { name };
        // Nodes whose certificates nobody vouches for will fail, and say why.
        if let Err(error) = add(&mut roots, path) {
            log::error!("probes over TLS: {error}");
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("ring has both versions");
    builder.with_root_certificates(roots).with_no_client_auth()
}

fn add(roots: &mut RootCertStore, path: &str) -> Result<(), String> {
    let unreadable = |error| format!("{path}: can't be read: {error}");
    let certificates = CertificateDer::pem_file_iter(Path::new(path)).map_err(unreadable)?;
    let certificates: Result<Vec<_>, _> = certificates.collect();
    // Of many of a system some may be of kinds that nobody uses.
    match roots.add_parsable_certificates(certificates.map_err(unreadable)?) {
        (0, _) => Err(format!("{path}: there is no certificate in it")),
        _ => Ok(()),
    }
}

fn unchecked() -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().expect("ring has both versions");
    builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth()
}

/// Takes every certificate (`https_verify_certificate: false`); whoever shows it must have its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hosts_without_ports() {
        for (host, name) in [
            ("a.example", Some("a.example")),
            ("a.example:8443", Some("a.example")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("127.0.0.1:8443", Some("127.0.0.1")),
            ("[::1]", Some("::1")),
            ("[::1]:8443", Some("::1")),
            ("localhost", Some("localhost")),
            ("", None),
            ("a b", None),
            ("[::1", None),
            ("\u{e9}", None),
        ] {
            let found = server_name(host.as_bytes()).ok();
            assert_eq!(found.map(|found| found.to_str().into_owned()).as_deref(), name, "{host}");
        }
        assert!(server_name(b"\xff").is_err());
    }

    #[test]
    fn named_files_must_be_there() {
        assert_eq!(check(&["system".to_owned()]), Ok(()));
        let missing = check(&["system".to_owned(), "/nowhere/ca.pem".to_owned()]);
        assert!(missing.is_err_and(|error| error.starts_with("/nowhere/ca.pem: can't be read")));
        let empty = check(&["/dev/null".to_owned()]);
        assert_eq!(empty, Err("/dev/null: there is no certificate in it".to_owned()));
    }
}
