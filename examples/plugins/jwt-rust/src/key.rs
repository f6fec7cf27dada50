//! Keys: what a token's signature is checked with.

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use rsa::PublicKey;
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::pkcs8::DecodePublicKey;
use rsa::signature::Verifier;
use rsa::traits::PublicKeyParts;
use serde::Deserialize;
use sha2::Sha256;

/// RFC 7518 §3.2: as long as the hash, or longer.
const SECRET_BYTES_MIN: usize = 32;

/// RFC 7518 §3.3.
const RSA_BITS_MIN: u32 = 2048;

/// A key with its algorithm. A token's `alg` only selects among keys: it never decides how one is
/// used, so that a public key can't be passed off as a secret.
pub(crate) struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    material: Material,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
pub(crate) enum Algorithm {
    HS256,
    RS256,
}

enum Material {
    /// Already keyed; cloned for each token.
    Hmac(Hmac<Sha256>),
    Rsa(VerifyingKey<Sha256>),
}

/// A key as the configuration spells it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fields {
    kid: Option<String>,
    algorithm: Algorithm,
    secret: Option<String>,
    #[serde(default)]
    base64_secret: bool,
    public_key: Option<String>,
}

impl Key {
    pub(crate) fn new(fields: Fields) -> Result<Self, String> {
        let Fields { kid, algorithm, secret, base64_secret, public_key } = fields;
        let material = match (algorithm, secret, public_key) {
            (Algorithm::HS256, Some(secret), None) => hmac(&secret, base64_secret)?,
            (Algorithm::HS256, ..) => return Err("a key for HS256 has a secret".to_owned()),
            (Algorithm::RS256, None, Some(pem)) => rsa(&pem)?,
            (Algorithm::RS256, ..) => return Err("a key for RS256 has a public_key".to_owned()),
        };
        Ok(Self { id: kid, algorithm, material })
    }

    /// Whether a token with this header may be signed with the key. A key without an id is for any.
    pub(crate) fn is_for(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        let named = match (&self.id, id) {
            (Some(own), Some(id)) => own == id,
            _ => true,
        };
        self.algorithm == algorithm && named
    }

    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Hmac(keyed) => {
                keyed.clone().chain_update(message).verify_slice(signature).is_ok()
            }
            Material::Rsa(key) => Signature::try_from(signature)
                .is_ok_and(|given| key.verify(message, &given).is_ok()),
        }
    }
}

fn hmac(secret: &str, base64: bool) -> Result<Material, String> {
    let secret = if base64 {
        Base64::decode_vec(secret).map_err(|_| "a base64_secret is not base64".to_owned())?
    } else {
        secret.as_bytes().to_vec()
    };
    if secret.len() < SECRET_BYTES_MIN {
        return Err(format!("a secret for HS256 has at least {SECRET_BYTES_MIN} bytes (RFC 7518)"));
    }
    Hmac::new_from_slice(&secret).map(Material::Hmac).map_err(|error| error.to_string())
}

fn rsa(pem: &str) -> Result<Material, String> {
    let key = if pem.contains("BEGIN RSA PUBLIC KEY") {
        PublicKey::from_pkcs1_pem(pem).map_err(|error| error.to_string())
    } else {
        PublicKey::from_public_key_pem(pem).map_err(|error| error.to_string())
    };
    let key = key.map_err(|error| format!("a public_key is not an RSA key in PEM: {error}"))?;
    if key.n().bit_width_vartime() < RSA_BITS_MIN {
        return Err(format!("a public_key for RS256 has at least {RSA_BITS_MIN} bits (RFC 7518)"));
    }
    Ok(Material::Rsa(VerifyingKey::new(key)))
}
