//! `sign` and `verify_signature`, as BoringSSL does them for Envoy: RSA (PKCS #1 v1.5) and ECDSA
//! (P-256, P-384, P-521; signatures in DER) with any of the hashes.
//!
//! Keys are those of a certificate's kind: public ones `SubjectPublicKeyInfo`, private ones
//! PKCS #8, in DER or PEM. In PEM a private key may also be in its older forms, PKCS #1 and SEC 1.

use super::super::abi::Status;
use super::super::protobuf::{Fields, Malformed, Value, Writer};
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey};
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

/// Arguments of either function: the fields' numbers, then their contents.
#[derive(Debug, Default)]
struct Arguments<'a> {
    hash: &'a str,
    der: &'a [u8],
    pem: &'a str,
    signature: &'a [u8],
    text: &'a [u8],
}

/// `VerifySignatureArguments` to `VerifySignatureResult` of Envoy's `verify_signature.proto`.
pub(super) fn verify(args: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    let args = Arguments::read(args, [1, 2, 5, 3, 4]).map_err(|Malformed| Status::BadArgument)?;
    let key = match args.key()? {
        Key::Der(der) => public_key(der),
        Key::Pem(pem) => public_key_of_pem(pem),
    };
    let key = key.ok_or(Status::BadArgument)?;
    let verified = match Hash::of(args.hash, args.text) {
        None => Err(format!("{} is not supported.", args.hash)),
        Some(hash) if key.verifies(&hash, args.signature) => Ok(()),
        Some(_) => Err("Failed to verify digest.".to_owned()),
    };
    let mut result = Writer::default();
    result.some_bool(1, verified.is_ok());
    result.some_bytes(2, verified.err().unwrap_or_default().as_bytes());
    out.extend_from_slice(&result.into_bytes());
    Ok(())
}

/// `SignArguments` to `SignResult` of Envoy's `sign.proto`.
pub(super) fn sign(args: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    let args = Arguments::read(args, [1, 2, 4, 0, 3]).map_err(|Malformed| Status::BadArgument)?;
    let key = match args.key()? {
        Key::Der(der) => private_key(der),
        Key::Pem(pem) => private_key_of_pem(pem),
    };
    let key = key.ok_or(Status::BadArgument)?;
    let signed = match Hash::of(args.hash, args.text) {
        None => Err(format!("{} is not supported.", args.hash)),
        Some(hash) => key.sign(&hash).ok_or_else(|| "Failed to sign digest.".to_owned()),
    };
    let mut result = Writer::default();
    result.some_bool(1, signed.is_ok());
    match signed {
        Ok(signature) => result.some_bytes(2, &signature),
        Err(error) => result.some_bytes(3, error.as_bytes()),
    }
    out.extend_from_slice(&result.into_bytes());
    Ok(())
}

enum Key<'a> {
    Der(&'a [u8]),
    Pem(&'a str),
}

impl<'a> Arguments<'a> {
    /// `numbers` are those of the fields, in the order of the struct's.
    fn read(message: &'a [u8], numbers: [u64; 5]) -> Result<Self, Malformed> {
        let [hash, der, pem, signature, text] = numbers;
        let mut args = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next()? {
            let Value::Bytes(bytes) = value else { continue };
            match number {
                n if n == hash => args.hash = utf8(bytes)?,
                n if n == der => args.der = bytes,
                n if n == pem => args.pem = utf8(bytes)?,
                n if n == signature => args.signature = bytes,
                n if n == text => args.text = bytes,
                _ => {}
            }
        }
        Ok(args)
    }

    /// The key, which must be there in one form.
    fn key(&self) -> Result<Key<'a>, Status> {
        match (self.der.is_empty(), self.pem.is_empty()) {
            (false, true) => Ok(Key::Der(self.der)),
            (true, false) => Ok(Key::Pem(pem_block(self.pem))),
            _ => Err(Status::BadArgument),
        }
    }
}

/// proto3 wants strings to be text.
fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// What stands before a PEM block does not count, nor white space after it.
fn pem_block(text: &str) -> &str {
    let block = text.find("-----BEGIN ").map_or(text, |at| &text[at..]);
    block.trim_end()
}

/// A text's hash.
enum Hash {
    Sha1(Vec<u8>),
    Sha224(Vec<u8>),
    Sha256(Vec<u8>),
    Sha384(Vec<u8>),
    Sha512(Vec<u8>),
}

impl Hash {
    /// The hash of that name, in any case, if it is one.
    fn of(name: &str, text: &[u8]) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "sha1" => Self::Sha1(Sha1::digest(text).to_vec()),
            "sha224" => Self::Sha224(Sha224::digest(text).to_vec()),
            "sha256" => Self::Sha256(Sha256::digest(text).to_vec()),
            "sha384" => Self::Sha384(Sha384::digest(text).to_vec()),
            "sha512" => Self::Sha512(Sha512::digest(text).to_vec()),
            _ => return None,
        })
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha1(bytes)
            | Self::Sha224(bytes)
            | Self::Sha256(bytes)
            | Self::Sha384(bytes)
            | Self::Sha512(bytes) => bytes,
        }
    }

    /// As the number it is to a curve, which refuses what it finds too short for its field.
    fn for_field_of(&self, bytes: usize) -> Vec<u8> {
        let hash = self.bytes();
        let mut padded = vec![0; bytes.saturating_sub(hash.len())];
        padded.extend_from_slice(hash);
        padded
    }
}

trait Verifies {
    fn verifies(&self, hash: &Hash, signature: &[u8]) -> bool;
}

trait Signs {
    fn sign(&self, hash: &Hash) -> Option<Vec<u8>>;
}

impl Verifies for rsa::PublicKey {
    fn verifies(&self, hash: &Hash, signature: &[u8]) -> bool {
        match hash {
            Hash::Sha1(hash) => self.pkcs1v15_verify_prehash::<Sha1>(hash, signature),
            Hash::Sha224(hash) => self.pkcs1v15_verify_prehash::<Sha224>(hash, signature),
            Hash::Sha256(hash) => self.pkcs1v15_verify_prehash::<Sha256>(hash, signature),
            Hash::Sha384(hash) => self.pkcs1v15_verify_prehash::<Sha384>(hash, signature),
            Hash::Sha512(hash) => self.pkcs1v15_verify_prehash::<Sha512>(hash, signature),
        }
        .is_ok()
    }
}

/// Blinded with the system's random numbers, so that its time says nothing of the key.
impl Signs for rsa::PrivateKey {
    fn sign(&self, hash: &Hash) -> Option<Vec<u8>> {
        match hash {
            Hash::Sha1(hash) => self.pkcs1v15_sign_prehash::<Sha1>(hash),
            Hash::Sha224(hash) => self.pkcs1v15_sign_prehash::<Sha224>(hash),
            Hash::Sha256(hash) => self.pkcs1v15_sign_prehash::<Sha256>(hash),
            Hash::Sha384(hash) => self.pkcs1v15_sign_prehash::<Sha384>(hash),
            Hash::Sha512(hash) => self.pkcs1v15_sign_prehash::<Sha512>(hash),
        }
        .ok()
    }
}

/// The same for each curve: its crate, and the bytes of its field.
macro_rules! curve {
    ($curve:ident, $field_bytes:literal) => {
        impl Verifies for $curve::PublicKey {
            fn verifies(&self, hash: &Hash, signature: &[u8]) -> bool {
                use $curve::ecdsa::signature::hazmat::PrehashVerifier;
                let Ok(signature) = $curve::ecdsa::Signature::from_der(signature) else {
                    return false;
                };
                let key = $curve::ecdsa::VerifyingKey::from(self);
                key.verify_prehash(&hash.for_field_of($field_bytes), &signature).is_ok()
            }
        }

        impl Signs for $curve::SecretKey {
            fn sign(&self, hash: &Hash) -> Option<Vec<u8>> {
                use $curve::ecdsa::signature::hazmat::PrehashSigner;
                let key = $curve::ecdsa::SigningKey::from(self);
                let signature: $curve::ecdsa::Signature =
                    key.sign_prehash(&hash.for_field_of($field_bytes)).ok()?;
                Some(signature.to_der().as_bytes().to_vec())
            }
        }
    };
}

curve!(p256, 32);
curve!(p384, 48);
curve!(p521, 66);

type Verifier = Box<dyn Verifies>;
type Signer = Box<dyn Signs>;

fn verifier(key: impl Verifies + 'static) -> Verifier {
    Box::new(key)
}

fn signer(key: impl Signs + 'static) -> Signer {
    Box::new(key)
}

fn public_key(der: &[u8]) -> Option<Verifier> {
    let rsa = rsa::PublicKey::from_public_key_der(der).map(verifier).ok();
    rsa.or_else(|| p256::PublicKey::from_public_key_der(der).map(verifier).ok())
        .or_else(|| p384::PublicKey::from_public_key_der(der).map(verifier).ok())
        .or_else(|| p521::PublicKey::from_public_key_der(der).map(verifier).ok())
}

fn public_key_of_pem(pem: &str) -> Option<Verifier> {
    let rsa = rsa::PublicKey::from_public_key_pem(pem).map(verifier).ok();
    rsa.or_else(|| p256::PublicKey::from_public_key_pem(pem).map(verifier).ok())
        .or_else(|| p384::PublicKey::from_public_key_pem(pem).map(verifier).ok())
        .or_else(|| p521::PublicKey::from_public_key_pem(pem).map(verifier).ok())
}

fn private_key(der: &[u8]) -> Option<Signer> {
    let rsa = rsa::PrivateKey::from_pkcs8_der(der).map(signer).ok();
    rsa.or_else(|| p256::SecretKey::from_pkcs8_der(der).map(signer).ok())
        .or_else(|| p384::SecretKey::from_pkcs8_der(der).map(signer).ok())
        .or_else(|| p521::SecretKey::from_pkcs8_der(der).map(signer).ok())
}

fn private_key_of_pem(pem: &str) -> Option<Signer> {
    if pem.starts_with("-----BEGIN RSA PRIVATE KEY-----") {
        return rsa::PrivateKey::from_pkcs1_pem(pem).map(signer).ok();
    }
    if pem.starts_with("-----BEGIN EC PRIVATE KEY-----") {
        let p256 = p256::SecretKey::from_sec1_pem(pem).map(signer).ok();
        return p256
            .or_else(|| p384::SecretKey::from_sec1_pem(pem).map(signer).ok())
            .or_else(|| p521::SecretKey::from_sec1_pem(pem).map(signer).ok());
    }
    let rsa = rsa::PrivateKey::from_pkcs8_pem(pem).map(signer).ok();
    rsa.or_else(|| p256::SecretKey::from_pkcs8_pem(pem).map(signer).ok())
        .or_else(|| p384::SecretKey::from_pkcs8_pem(pem).map(signer).ok())
        .or_else(|| p521::SecretKey::from_pkcs8_pem(pem).map(signer).ok())
}
