//! Who may use the Admin API: addresses, keys, roles (APISIX reference §10).

use super::answer::Answer;
use super::query::Query;
use crate::conf::{AdminConfig, AdminKey, AdminRole};
use axum::http::header::COOKIE;
use axum::http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use subtle::ConstantTimeEq;

/// The file beside the store that has the key nobody configured.
const KEY_FILE: &str = "admin.key";

/// Bytes of a key that is made here; it is written in hexadecimal.
const KEY_BYTES: usize = 16;

/// What is compared instead of keys: of one length, whatever the key's, and of no use to whoever
/// reads our memory's dump.
type Fingerprint = [u8; 32];

#[derive(Debug)]
pub(in crate::control) struct Guard {
    allow: Vec<ipnet::IpNet>,
    key_required: bool,
    keys: Vec<(Fingerprint, AdminRole)>,
}

impl Guard {
    /// Takes the configured keys; makes one, kept in `store_dir`, if one is needed and none is
    /// there.
    ///
    /// # Errors
    /// The key's file can't be read or written.
    pub(in crate::control) fn new(config: &AdminConfig, store_dir: &Path) -> Result<Self, String> {
        let mut keys: Vec<_> = config.keys.iter().map(fingerprinted).collect();
        if config.key_required && keys.is_empty() {
            keys.push((fingerprint(own_key(store_dir)?.as_bytes()), AdminRole::Admin));
        }
        if !config.key_required {
            log::warn!(
                "the Admin API wants no key: `deployment.admin.admin_key_required` is false"
            );
        }
        Ok(Self { allow: config.allow.clone(), key_required: config.key_required, keys })
    }

    /// Whether a client may ask at all.
    pub(super) fn allows(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.allow.is_empty() || self.allow.iter().any(|network| network.contains(&client))
    }

    /// Checks the key of a request.
    ///
    /// # Errors
    /// The answer to a request without a key that allows it.
    pub(super) fn check(
        &self,
        method: &Method,
        headers: &HeaderMap,
        query: &Query,
    ) -> Result<(), Answer> {
        if !self.key_required {
            return Ok(());
        }
        let header = headers.get("x-api-key").map(|value| value.as_bytes());
        let key = query.get("api_key").map(str::as_bytes).or(header).or_else(|| cookie(headers));
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            return Err(denied("missing apikey"));
        };
        let key = fingerprint(key);
        // All are compared, each in the same time, so that an answer's time tells nothing.
        let mut role = None;
        for (known, allowed) in &self.keys {
            if bool::from(known.ct_eq(&key)) {
                role = Some(*allowed);
            }
        }
        let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        match role {
            None => Err(denied("wrong apikey")),
            Some(AdminRole::Viewer) if !reads => Err(denied("invalid method for role viewer")),
            Some(_) => Ok(()),
        }
    }
}

fn denied(why: &str) -> Answer {
    let body = json!({ "error_msg": "failed to check token", "description": why });
    Answer::new(StatusCode::UNAUTHORIZED, body)
}

fn cookie(headers: &HeaderMap) -> Option<&[u8]> {
    let texts = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| name.trim() == "x_api_key").map(|(_, value)| value.trim().as_bytes())
}

fn fingerprinted(key: &AdminKey) -> (Fingerprint, AdminRole) {
    (fingerprint(key.key.as_bytes()), key.role)
}

fn fingerprint(key: &[u8]) -> Fingerprint {
    Sha256::digest(key).into()
}

/// The key in the file, made if there is none. Only the file's name is ever shown.
fn own_key(store_dir: &Path) -> Result<String, String> {
    let path = store_dir.join(KEY_FILE);
    let name = path.display();
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => return Err(format!("{name}: there is no key in it; remove it to get a new one")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("{name}: can't be read: {error}")),
    }
    let mut random = [0; KEY_BYTES];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .map_err(|error| format!("no random bytes for an admin key: {error}"))?;
    let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| writeln!(file, "{key}"))
        .map_err(|error| format!("{name}: can't be written: {error}"))?;
    println!("ringgate: the Admin API's key was made and is in {name}");
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn guard() -> Guard {
        let key = |name: &str, key: &str, role| AdminKey {
            name: name.to_owned(),
            key: key.to_owned(),
            role,
        };
        let config = AdminConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            allow: vec!["127.0.0.0/24".parse().expect("a network")],
            keys: vec![key("a", "boss", AdminRole::Admin), key("v", "look", AdminRole::Viewer)],
            key_required: true,
            cors: true,
        };
        Guard::new(&config, Path::new("/nowhere")).expect("keys")
    }

    fn says(method: Method, header: Option<(&'static str, &'static str)>, query: &str) -> String {
        let headers = header.map(|(name, value)| {
            let name = axum::http::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let headers = headers.into_iter().collect();
        match guard().check(&method, &headers, &Query::parse(query)) {
            Ok(()) => "yes".to_owned(),
            Err(answer) => {
                answer.body.expect("a body")["description"].as_str().expect("text").to_owned()
            }
        }
    }

    #[test]
    fn keys_and_roles() {
        assert_eq!(says(Method::GET, None, ""), "missing apikey");
        assert_eq!(says(Method::GET, Some(("x-api-key", "")), ""), "missing apikey");
        assert_eq!(says(Method::GET, Some(("x-api-key", "bos")), ""), "wrong apikey");
        assert_eq!(says(Method::PUT, Some(("x-api-key", "boss")), ""), "yes");
        assert_eq!(says(Method::GET, None, "a=b&api_key=look"), "yes");
        assert_eq!(says(Method::GET, Some(("cookie", "a=b; x_api_key=look")), ""), "yes");
        let viewer = Some(("x-api-key", "look"));
        assert_eq!(says(Method::DELETE, viewer, ""), "invalid method for role viewer");
    }

    #[test]
    fn addresses() {
        let allows = |text: &str| guard().allows(text.parse().expect("an address"));
        assert!(allows("127.0.0.1") && !allows("127.0.1.1") && !allows("::1"));
        assert!(allows("::ffff:127.0.0.1"), "over IPv6, from an IPv4 client");
    }
}
