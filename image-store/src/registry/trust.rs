//! TLS configurations from files: authorities to trust, client certificates and keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, client, version,
};

use crate::error::{Doing, Error, Result};

/// Where distributions keep the system's authorities.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// The configuration of one host, in addition to the system's authorities.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    /// Files with certificates to trust.
    pub(super) authorities: Vec<PathBuf>,
    /// Files with the client certificate (and its chain) and its key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

impl Trust {
    pub(super) fn is_empty(&self) -> bool {
        self.authorities.is_empty() && self.client.is_none()
    }

    /// Adds the files in a directory: `*.crt` to trust, `*.cert` and `*.key` to present.
    pub(super) fn add_dir(&mut self, dir: &Path) {
        for path in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => self.authorities.push(path),
                Some("cert") if self.client.is_none() => {
                    self.client = Some((path.clone(), path.with_extension("key")));
                }
                _ => {}
            }
        }
    }

    /// The TLS configuration; with `insecure`, certificates are not verified.
    pub(super) fn config(&self, insecure: bool) -> Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if insecure {
            Arc::new(NoVerification(Arc::clone(&provider)))
        } else {
            self.verifier(&provider)?
        };
        let tls = |error: rustls::Error| Error::invalid(format!("TLS: {error}"));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(tls)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let Some((path, key)) = &self.client else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates(path)?;
        let private = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|e| Error::invalid(format!("private key {key:?}: {e}")))?;
        builder
            .with_client_auth_cert(chain, private)
            .map_err(|e| Error::invalid(format!("certificate {path:?} with private key {key:?}: {e}")))
    }

    /// Verifies against the host's and the system's authorities; if there are none, against Mozilla's, which are built in.
    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
        let file = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let file = file.or_else(|| SYSTEM_ROOTS.iter().map(PathBuf::from).find(|path| path.exists()));
        let mut anchors = Vec::new();
        for path in self.authorities.iter().chain(&file) {
            anchors.extend(certificates(path)?);
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(anchors.iter().cloned());
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|e| Error::invalid(format!("TLS: {e}")))?;
        Ok(Arc::new(Configured { webpki, anchors }))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).doing(|| format!("read {path:?}"))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    all.map_err(|e| Error::invalid(format!("certificate {path:?}: {e}")))
}

/// The rules of the Web PKI with one exception: see docs/decisions/0202.
#[derive(Debug)]
struct Configured {
    webpki: Arc<WebPkiServerVerifier>,
    anchors: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Configured {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let result = self.webpki.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        // webpki checks the dates before this, and the name after.
        if result.as_ref().is_err_and(is_authority) && self.anchors.iter().any(|anchor| anchor == end_entity)
        {
            client::verify_server_name(&rustls::server::ParsedCertificate::try_from(end_entity)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        result
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Whether a certificate was refused because it is a CA certificate.
fn is_authority(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
        }
        _ => false,
    }
}

/// Whether the server's certificate was refused, or missing.
pub(super) fn is_untrusted(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
}

/// Why the certificate of `authority` was refused, and how to fix it.
pub(super) fn reason(error: &rustls::Error, authority: &str) -> String {
    let place = format!("/etc/docker/certs.d/{authority}/ca.crt");
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            format!(
                "certificate signed by unknown authority: to trust it, put the authority's certificate in {place}"
            )
        }
        error if is_authority(error) => {
            format!("server certificate is a CA certificate: to trust it, put it in {place}")
        }
        _ => error.to_string(),
    }
}

/// Accepts any certificate, without verifying signatures: for `--tls-verify=false`.
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificates_make_a_server_untrusted() {
        let certificate = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(is_untrusted(&certificate) && is_untrusted(&rustls::Error::NoCertificatesPresented));
        assert!(!is_untrusted(&rustls::Error::DecryptError));
    }
}
