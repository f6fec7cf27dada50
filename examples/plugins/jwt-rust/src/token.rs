//! A token, checked: RFC 7515 for its form and signature, RFC 7519 for its claims.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::key::Algorithm;
use crate::settings::Settings;

/// What a token says about its bearer.
pub(crate) type Claims = Map<String, Value>;

/// Why a token is not good enough. The texts are for its bearer, and tell nothing about keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is none.
    Missing,
    /// It can't be trusted, or is not meant for now or for here.
    Invalid(&'static str),
    /// It is good, but its claims do not allow this.
    Insufficient,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood. None is.
    crit: Option<Value>,
}

/// Checks the signature, then what is signed. `now` in seconds since 1970.
pub(crate) fn verify(settings: &Settings, token: &str, now: u64) -> Result<Claims, Refusal> {
    let malformed = Refusal::Invalid("the token is malformed");
    let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(malformed)?;
    let decoded = |part: &str| Base64UrlUnpadded::decode_vec(part).map_err(|_| malformed);
    let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| malformed)?;
    if header.crit.is_some() {
        return Err(Refusal::Invalid("the token has critical extensions"));
    }
    let algorithm = match header.alg.as_str() {
        "HS256" => Algorithm::HS256,
        "RS256" => Algorithm::RS256,
        _ => return Err(Refusal::Invalid("the token's algorithm is not accepted")),
    };
    let signature = decoded(signature)?;
    let mut keys = settings.keys.iter().filter(|key| key.is_for(algorithm, header.kid.as_deref()));
    if !keys.any(|key| key.signed(signed.as_bytes(), &signature)) {
        return Err(Refusal::Invalid("the token's signature is wrong"));
    }
    let claims: Claims = serde_json::from_slice(&decoded(payload)?).map_err(|_| malformed)?;
    times(settings, &claims, now)?;
    parties(settings, &claims)?;
    let given = |(name, wanted): (&String, &Value)| match claims.get(name) {
        Some(value) => wanted.is_null() || value == wanted || contains(value, wanted),
        None => false,
    };
    if settings.required.iter().all(given) { Ok(claims) } else { Err(Refusal::Insufficient) }
}

fn times(settings: &Settings, claims: &Claims, now: u64) -> Result<(), Refusal> {
    let (now, grace) = (now as f64, settings.grace_s as f64);
    match time(claims, "exp")? {
        Some(expiry) if now >= expiry + grace => {
            return Err(Refusal::Invalid("the token has expired"));
        }
        None if settings.require_exp => {
            return Err(Refusal::Invalid("the token never expires"));
        }
        _ => {}
    }
    match time(claims, "nbf")? {
        Some(start) if now + grace < start => Err(Refusal::Invalid("the token is not valid yet")),
        _ => Ok(()),
    }
}

/// A NumericDate, which may have a fraction.
fn time(claims: &Claims, name: &str) -> Result<Option<f64>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(number.as_f64()),
        Some(_) => Err(Refusal::Invalid("a time in the token is not a number")),
    }
}

fn parties(settings: &Settings, claims: &Claims) -> Result<(), Refusal> {
    if let Some(issuer) = &settings.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err(Refusal::Invalid("the token is of another issuer"));
    }
    if let Some(audience) = &settings.audience {
        let audience = Value::String(audience.clone());
        let meant = |given: &Value| *given == audience || contains(given, &audience);
        if !claims.get("aud").is_some_and(meant) {
            return Err(Refusal::Invalid("the token is for another audience"));
        }
    }
    Ok(())
}

/// Whether a list has the value.
fn contains(list: &Value, wanted: &Value) -> bool {
    list.as_array().is_some_and(|items| items.contains(wanted))
}
