//! The plugins of `examples/plugins` that need nothing but the request: headers, tokens, limits.

use crate::harness::{Ended, Gateway, Message, Setup, Upstream, eventually};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A gateway with one plugin in front of an upstream, and the plugin's configuration.
fn setup(upstream: &Upstream, module: &str, conf: &Value) -> Setup {
    let resources = json!({"routes": [{
        "uri": "/*",
        "plugins": {"plugin": {"conf": conf}},
        "upstream": {"nodes": {upstream.node(): 1}},
    }]});
    Setup::new(resources.to_string()).wasm("plugin", module, "")
}

fn start(upstream: &Upstream, module: &str, conf: &Value) -> Gateway {
    setup(upstream, module, conf).start()
}

/// Configurations that the plugin refuses, each with a part of its sentence.
#[track_caller]
fn refuses(module: &str, rows: &[(Value, &str)]) {
    let upstream = Upstream::hello();
    for (conf, words) in rows {
        let Ended { code, stderr, .. } = setup(&upstream, module, conf).refused();
        assert_eq!(code, Some(1), "{conf}:\n{stderr}");
        assert!(stderr.contains(words), "{words:?} of {conf}:\n{stderr}");
    }
}

const HEADERS: &str = "dist/header_rust.wasm";

#[test]
fn headers_are_removed_set_and_added() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Gone: 1\r\nX-Set: 1\r\nX-Set: 2\r\nX-More: 1\r\n\r\n",
    );
    let edits = json!({
        "remove": ["X-Gone", "x-again"],
        "set": {"X-Set": "new", "x-again": "yes"},
        "add": {"x-more": "2", "x-new": "a, b"},
    });
    let gateway = start(&upstream, HEADERS, &json!({"request": edits, "response": edits}));
    let response = gateway.ask(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Gone: 1\r\nX-Gone: 2\r\nX-Set: 1\r\nX-More: 1\r\n\
         X-Again: no\r\n\r\n",
    );
    let request = upstream.request();
    for message in [&request, &response] {
        assert_eq!(message.field("x-gone"), None);
        assert_eq!(message.field("x-set"), Some("new"));
        assert_eq!(message.values("x-more"), ["1", "2"]);
        assert_eq!(message.field("x-new"), Some("a, b"));
        assert_eq!(message.field("x-again"), Some("yes"));
    }
}

#[test]
fn headers_that_are_none() {
    refuses(
        HEADERS,
        &[
            (json!({"request": {}}), "name at least one header"),
            (json!({"request": {"remove": ["a b"]}}), "\"a b\" is not a header name"),
            (json!({"request": {"set": {"a": "b\nc"}}}), "control character"),
            (json!({"request": {"put": {"a": "b"}}}), "expected"),
        ],
    );
}

const JWT: &str = "dist/jwt_rust.wasm";
const SECRET: &str = "a secret of more than thirty-two bytes";
/// In the year 2100.
const LATER: u64 = 4_102_444_800;
/// In the year 2001.
const LONG_AGO: u64 = 1_000_000_000;
/// A key pair made for this test; the private half is gone.
const RSA_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA+eBqqSH0nKBd7w3aRNEw\n\
    fFgkQfnrsUX2zDJ/ayJS76AtYRIXIz92yF0cOY6I/5suIfJgORBrFDl1S1IAiIba\n\
    h7nLiA0YO7AUT1aJF9iU3O7LjcvWEQM0ZS9EdqLSQkS5/gHNK1EYPYvb8LCtotNI\n\
    1oLCAY9htzcmUc5Xo6F4Crj5EbCvak29eRUIXM7O5qS1mihzBKvlUHtzq4OYQz1N\n\
    qJ1ogOkia+AY0UuQ3QXeqmAkIlj4PQrF54AgenItaQIw49qUEt864oxm4oOYRfyY\n\
    UvVksQIoz8efXmWEFDSZ65uWYkkcgcKzWmTrPciIFIh6l7XK2C/iQyTiC5inwWTh\n\
    QwIDAQAB\n\
    -----END PUBLIC KEY-----\n";

/// The same with 1,024 bits, which RFC 7518 does not allow.
const RSA_SMALL: &str = "-----BEGIN PUBLIC KEY-----\n\
    MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDh74vJemQ+CLc6LNBgMG8LJuDT\n\
    iOGADLkhcthk9O+a3XU2A+EART+gPfkB4p8DtaoOyoQWy7yO/jntRnen422qa1G1\n\
    ZZlBznkYZnA3+W117KdKshCB3zBlRVYqi15Iz5mxOJf5EwxxJUzruiN8hkdG97Mi\n\
    RFw+iTsscocpYEUHxQIDAQAB\n\
    -----END PUBLIC KEY-----\n";

/// `{"alg":"RS256","typ":"JWT","kid":"r1"}` and `{"sub":"alice","exp":4102444800}`, signed with it.
const RSA_TOKEN: &str = "\
    eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InIxIn0.\
    eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.\
    DxN04uRzMEoyF6GD4BPajHCA4Eow07XpRH7c0rBDlzvmgQlyNR8wF-f0BhdHPuQytaYRxy3jCf78VH6_\
    pSAA7f8nynegHVJw3S9doAKcpIXAmC_ERWbHFUCbOUv-oHbfvkqXoblTPMq7LoQ85IDeWu03QZJe898S\
    kTX7K5QrE1aCGgKBqc9Dw5gLatX5ayAsnNiijCUCs6KqZIIbbtpJsUC-eWrV0O7JGlB3NhWcrCxiO0E0\
    ZwzFi_kgg7AAp8_5_UxnpjuKxvn8eZ7-OStxWcldZjeV4WdNYGfe65UZecondj5QKD8TEo8Dq2l2JPZd\
    Du4R3PBCDcnkq7h4m_moQg";
/// RFC 4648 §5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letters = bytes.chunks(3).flat_map(|chunk| {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        (0..=chunk.len()).map(move |at| LETTERS[(bits >> (18 - 6 * at) & 63) as usize])
    });
    letters.map(char::from).collect()
}

/// RFC 2104, for keys shorter than a block.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pad = |with: u8| -> Vec<u8> {
        (0..64).map(|at| key.get(at).copied().unwrap_or_default() ^ with).collect()
    };
    let inner = Sha256::digest([&pad(0x36), message].concat());
    Sha256::digest([&pad(0x5c), &inner[..]].concat()).to_vec()
}

fn token(header: &Value, claims: &Value, secret: &str) -> String {
    let [header, claims] = [header, claims].map(|part| base64url(part.to_string().as_bytes()));
    let signed = format!("{header}.{claims}");
    let signature = hmac_sha256(secret.as_bytes(), signed.as_bytes());
    format!("{signed}.{}", base64url(&signature))
}

/// A token with these claims and a good signature.
fn hs256(claims: Value) -> String {
    token(&json!({"alg": "HS256", "typ": "JWT"}), &claims, SECRET)
}

fn ask(gateway: &Gateway, fields: &str) -> Message {
    gateway.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

#[track_caller]
fn refused(gateway: &Gateway, token: &str, status: u16, error: &str, why: &str) {
    let response = ask(gateway, &format!("Authorization: Bearer {token}\r\n"));
    assert_eq!(response.status(), status, "{why}: {}", response.text());
    let challenge = response.field("www-authenticate").expect("a challenge");
    assert!(challenge.starts_with("Bearer realm=\"jwt\", error="), "{challenge}");
    assert!(challenge.contains(error) && challenge.contains(why), "{why}: {challenge}");
    let body: Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!(body["message"], why);
}

fn jwt_conf() -> Value {
    json!({
        "keys": [{"algorithm": "HS256", "secret": SECRET}],
        "issuer": "https://issuer.test",
        "audience": "api",
        "required_claims": {"role": "admin", "tenant": null},
        "claims_to_headers": {"sub": "X-User", "groups": "x-groups", "tenant": "x-tenant"},
    })
}

fn good_claims() -> Value {
    json!({
        "sub": "alice", "iss": "https://issuer.test", "aud": ["web", "api"], "exp": LATER,
        "nbf": LONG_AGO, "role": "admin", "tenant": 7, "groups": ["a", "b"],
    })
}

/// The good claims with one changed, or taken out by null.
fn with(name: &str, value: Value) -> Value {
    let mut claims = good_claims();
    let fields = claims.as_object_mut().expect("an object");
    if value.is_null() {
        fields.remove(name)
    } else {
        fields.insert(name.to_owned(), value)
    };
    claims
}

#[test]
fn a_good_token_passes_with_its_claims() {
    let upstream = Upstream::hello();
    let gateway = start(&upstream, JWT, &jwt_conf());
    let token = hs256(good_claims());
    for scheme in ["Bearer", "bearer"] {
        let fields = format!("Authorization: {scheme} {token}\r\nX-User: mallory\r\n");
        assert_eq!(ask(&gateway, &fields).status(), 200);
    }
    for request in upstream.requests() {
        assert_eq!(request.field("x-user"), Some("alice"));
        assert_eq!(request.field("x-groups"), Some("a,b"));
        assert_eq!(request.field("x-tenant"), Some("7"));
        assert!(request.field("authorization").is_some(), "hide_credentials is false");
    }
}

#[test]
fn a_bad_token_is_refused_with_the_reason() {
    let upstream = Upstream::hello();
    let gateway = start(&upstream, JWT, &jwt_conf());
    for fields in ["", "Authorization: Basic YTpi\r\n", "Authorization: Bearer\r\n"] {
        let response = ask(&gateway, fields);
        assert_eq!(response.status(), 401, "{fields}");
        assert_eq!(response.field("www-authenticate"), Some("Bearer realm=\"jwt\""), "{fields}");
    }
    let good = hs256(good_claims());
    let (signed, _) = good.rsplit_once('.').expect("a signature");
    let header = |alg: &str| json!({"alg": alg});
    let (malformed, signature) = ("the token is malformed", "the token's signature is wrong");
    let algorithm = "the token's algorithm is not accepted";
    for (token, why) in [
        ("a.b".to_owned(), malformed),
        ("a.b.c".to_owned(), malformed),
        (format!("{good}="), malformed),
        (signed.to_owned() + ".", signature),
        (good.clone() + "AAAA", signature),
        (token(&header("HS256"), &good_claims(), "another secret"), signature),
        (token(&header("RS256"), &good_claims(), SECRET), signature),
        (token(&header("none"), &good_claims(), SECRET), algorithm),
        (token(&header("hs256"), &good_claims(), SECRET), algorithm),
        (
            token(&json!({"alg": "HS256", "crit": ["b64"]}), &good_claims(), SECRET),
            "the token has critical extensions",
        ),
        (hs256(with("exp", json!(LONG_AGO))), "the token has expired"),
        (hs256(with("exp", Value::Null)), "the token never expires"),
        (hs256(with("exp", json!("soon"))), "a time in the token is not a number"),
        (hs256(with("nbf", json!(LATER))), "the token is not valid yet"),
        (hs256(with("iss", json!("https://other.test"))), "the token is of another issuer"),
        (hs256(with("aud", json!("web"))), "the token is for another audience"),
    ] {
        refused(&gateway, &token, 401, "invalid_token", why);
    }
    for claims in [with("role", json!("guest")), with("tenant", Value::Null)] {
        let why = "the token does not allow this";
        refused(&gateway, &hs256(claims), 403, "insufficient_scope", why);
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_token_signed_with_rsa_in_a_header_of_its_own() {
    let upstream = Upstream::hello();
    let conf = json!({
        "keys": [
            {"kid": "h1", "algorithm": "HS256", "secret": SECRET},
            {"kid": "r1", "algorithm": "RS256", "public_key": RSA_PUBLIC},
        ],
        "header": "X-Token",
        "hide_credentials": true,
        "claims_to_headers": {"sub": "x-user", "email": "x-email"},
    });
    let gateway = start(&upstream, JWT, &conf);
    let fields = format!("X-Token: {RSA_TOKEN}\r\nX-Email: mallory@test\r\n");
    assert_eq!(ask(&gateway, &fields).status(), 200);
    let request = upstream.request();
    assert_eq!(request.field("x-user"), Some("alice"));
    assert_eq!(request.field("x-email"), None, "no token said so");
    assert_eq!(request.field("x-token"), None);
    // The public key as a secret, the classic confusion, and a key's id that is another's.
    let claims = json!({"sub": "mallory", "exp": LATER});
    for header in [
        json!({"alg": "HS256"}),
        json!({"alg": "HS256", "kid": "r1"}),
        json!({"alg": "RS256", "kid": "r1"}),
    ] {
        let forged = token(&header, &claims, &RSA_PUBLIC[..60]);
        assert_eq!(ask(&gateway, &format!("X-Token: {forged}\r\n")).status(), 401, "{header}");
    }
    let swapped = RSA_TOKEN.replacen("eyJzdWIiOiJhbGljZSI", "eyJzdWIiOiJhbGljZTI", 1);
    assert_ne!(swapped, RSA_TOKEN);
    assert_eq!(ask(&gateway, &format!("X-Token: {swapped}\r\n")).status(), 401);
}

#[test]
fn keys_that_are_none() {
    let key = |key: Value| json!({"keys": [key]});
    refuses(
        JWT,
        &[
            (json!({"keys": []}), "give at least one of keys"),
            (key(json!({"algorithm": "HS256"})), "a key for HS256 has a secret"),
            (key(json!({"algorithm": "HS256", "secret": "short"})), "at least 32 bytes"),
            (key(json!({"algorithm": "none", "secret": SECRET})), "unknown variant `none`"),
            (key(json!({"algorithm": "RS256", "public_key": "x"})), "not an RSA key in PEM"),
            (key(json!({"algorithm": "RS256", "public_key": RSA_SMALL})), "at least 2048 bits"),
        ],
    );
}

const RATE_LIMIT: &str = "dist/rate_limit_cpp.wasm";

#[track_caller]
fn number(response: &Message, name: &str) -> u64 {
    response.field(name).and_then(|value| value.parse().ok()).expect("a number")
}

#[test]
fn a_limit_is_told_and_kept() {
    let upstream = Upstream::hello();
    let conf = json!({"count": 3, "time_window": 3600, "rejected_msg": "slow down\n"});
    let gateway = start(&upstream, RATE_LIMIT, &conf);
    for left in [2, 1, 0] {
        let response = gateway.get("/");
        assert_eq!(response.status(), 200);
        assert_eq!(number(&response, "x-ratelimit-limit"), 3);
        assert_eq!(number(&response, "x-ratelimit-remaining"), left);
        let full_in = (3 - left) * 1200;
        assert!((full_in - 60..=full_in).contains(&number(&response, "x-ratelimit-reset")));
        assert_eq!(response.field("retry-after"), None);
    }
    let response = gateway.get("/");
    assert_eq!((response.status(), response.text().as_str()), (429, "slow down\n"));
    assert_eq!(number(&response, "x-ratelimit-remaining"), 0);
    assert!((1140..=1200).contains(&number(&response, "retry-after")));
    assert_eq!(upstream.requests().len(), 3);
}

#[test]
fn each_key_has_a_bucket_of_its_own() {
    let upstream = Upstream::hello();
    let conf = json!({"count": 1, "time_window": 3600, "key": "http_x_api_key"});
    let gateway = start(&upstream, RATE_LIMIT, &conf);
    for fields in ["X-Api-Key: a\r\n", "X-API-KEY: b\r\n", ""] {
        let statuses = [(); 2].map(|()| ask(&gateway, fields).status());
        assert_eq!(statuses, [200, 429], "{fields:?}");
    }
    // Without the header the address counts, and no header's value can stand for it.
    assert_eq!(ask(&gateway, "X-Api-Key: 127.0.0.1\r\n").status(), 200);
}

#[test]
fn tokens_come_back() {
    let upstream = Upstream::hello();
    let conf = json!({"count": 2, "time_window": 2, "burst": 1, "show_limit_quota_header": false});
    let gateway = start(&upstream, RATE_LIMIT, &conf);
    let first = gateway.get("/");
    assert_eq!((first.status(), first.field("x-ratelimit-limit")), (200, None));
    eventually("a token is back", || gateway.get("/").status() == 200);
}

/// However many workers and clients, and at whatever moment: exactly as many as were allowed.
#[test]
fn all_workers_count_together() {
    let upstream = Upstream::hello();
    let conf = json!({"count": 40, "time_window": 86400});
    let gateway = setup(&upstream, RATE_LIMIT, &conf).workers(2).start();
    let passed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = gateway.client();
                for _ in 0..25 {
                    if client.get("/").status() == 200 {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 40);
}

/// A flood of keys finds room: the table does not grow, and the oldest bucket makes way.
#[test]
fn more_keys_than_slots() {
    let upstream = Upstream::hello();
    let conf = json!({"count": 1, "time_window": 3600, "key": "http_x_key", "slots": 16});
    let gateway = start(&upstream, RATE_LIMIT, &conf);
    for key in 0..200 {
        let fields = format!("X-Key: {key}\r\n");
        assert_eq!(ask(&gateway, &fields).status(), 200, "{key}");
        assert_eq!(ask(&gateway, &fields).status(), 429, "{key}");
    }
}

#[test]
fn limits_that_are_none() {
    refuses(
        RATE_LIMIT,
        &[
            (json!({"time_window": 1}), "count is required"),
            (json!({"count": 0, "time_window": 1}), "count must be an integer from 1 to 1000000"),
            (json!({"count": 1, "time_window": 1, "key": "cookie"}), "key must be remote_addr or"),
            (json!({"count": 1, "time_window": 1, "allow_degradation": 1}), "true or false"),
        ],
    );
}

#[test]
fn services_that_can_not_be_asked() {
    let with = |key: &str, value: Value| {
        let mut conf = json!({"upstream": "service"});
        conf[key] = value;
        conf
    };
    refuses(
        "dist/forward_auth_rust.wasm",
        &[
            (json!({"path": "/"}), "missing field `upstream`"),
            (with("upstream", json!("")), "upstream is empty"),
            (with("method", json!("DELETE")), "method is GET, HEAD or POST"),
            (with("path", json!("check")), "path starts with /"),
            (with("timeout", json!(0)), "timeout is from 1 to 60000 milliseconds"),
            (with("status_on_error", json!(200)), "status_on_error is from 400 to 599"),
            (with("client_headers", json!(["a b"])), "\"a b\" is not a header name"),
        ],
    );
    refuses(
        "dist/access_log_go.wasm",
        &[
            (json!({"path": "/"}), "upstream is required"),
            (with("paths", json!("/")), "unknown field \"paths\""),
            (with("batch_max_size", json!(0)), "batch_max_size is from 1 to 10000 lines"),
            (with("inactive_timeout", json!(1)), "inactive_timeout is from 10 to 60000"),
        ],
    );
}
