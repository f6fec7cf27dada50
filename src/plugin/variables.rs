//! nginx's and APISIX's variables, from the facts of a request (APISIX reference §3.3;
//! `apisix/core/ctx.lua`; nginx `ngx_http_variables.c`).
//!
//! The facts may be a whole [`Message`] or a head that was only parsed, so that routes with `vars`
//! are matched before anything is copied. What can't be answered is `None`, never a guess.
//!
//! Three answers are APISIX's rather than nginx's: `request_uri` is the normalised path with the
//! query (the raw target is `real_request_uri`), an argument without `=` has the value `true`, and
//! of two cookies of one name the last counts.

mod upstream;
mod value;

use self::upstream::{upstream_field, upstream_variable};
use self::value::{TimeForm, protocol};
use super::{Connection, Consumer, Message, ResponseSource, RouteFacts};
use crate::expr::Variables;
use crate::http::{Version, base64, uri};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

pub(super) use self::value::Value;

/// What variables are made of. The first group every request has, the rest comes with time.
pub trait RequestFacts {
    /// Where the request came from.
    fn connection(&self) -> &Connection;
    /// `GET`.
    fn method(&self) -> &[u8];
    /// Path and query as received.
    fn target(&self) -> &[u8];
    /// The normalised path.
    fn path(&self) -> &[u8];
    /// The Host header's value or the absolute-form's authority; empty if there was none.
    fn authority(&self) -> &[u8];
    /// The version of the request.
    fn version(&self) -> Version;
    /// Shows all request fields in order, as name and value. Host may be among them or not.
    fn for_each_field<'a>(&'a self, visit: &mut dyn FnMut(&'a [u8], &'a [u8]));
    /// When the request's head was complete, in nanoseconds since the epoch.
    fn started_ns(&self) -> u64;

    /// Its number in this process.
    fn number(&self) -> Option<u64> {
        None
    }
    /// The whole exchange, if there is one.
    fn message(&self) -> Option<&Message> {
        None
    }
    /// `http` or `https`.
    fn scheme(&self) -> &'static [u8] {
        b"http"
    }
    /// The matched route.
    fn route(&self) -> Option<&RouteFacts> {
        None
    }
    /// Who sent the request.
    fn consumer(&self) -> Option<&Consumer> {
        None
    }
    /// The upstream node chosen.
    fn upstream(&self) -> Option<SocketAddr> {
        None
    }
    /// Where the request really came from.
    fn direct_peer(&self) -> SocketAddr {
        self.connection().peer
    }
    /// The response's status.
    fn status(&self) -> Option<u16> {
        None
    }
    /// The response's status, if it came from the upstream.
    fn upstream_status(&self) -> Option<u16> {
        None
    }
    /// Response body bytes sent so far.
    fn response_bytes(&self) -> u64 {
        0
    }
    /// Shows all response fields in order.
    fn for_each_response_field<'a>(&'a self, visit: &mut dyn FnMut(&'a [u8], &'a [u8])) {
        let _ = visit;
    }
}

/// The value of the variable `name`.
pub fn variable_of<'a, F>(facts: &'a F, name: &str) -> Option<Cow<'a, [u8]>>
where
    F: RequestFacts + ?Sized,
{
    Some(match resolve(facts, name)? {
        Value::Bytes(bytes) => Cow::Borrowed(bytes),
        Value::Owned(bytes) => Cow::Owned(bytes),
        made => {
            let mut out = Vec::new();
            made.write(&mut out);
            Cow::Owned(out)
        }
    })
}

/// Appends the value of the variable `name` and tells whether it has one. Unlike [`variable_of`] it
/// allocates nothing for addresses, numbers and times.
pub fn append_variable<F>(facts: &F, name: &str, out: &mut Vec<u8>) -> bool
where
    F: RequestFacts + ?Sized,
{
    let value = resolve(facts, name);
    if let Some(value) = &value {
        value.write(out);
    }
    value.is_some()
}

/// Any facts as a source of variables for rules and templates.
#[derive(Debug)]
pub struct VariablesOf<'a, F: ?Sized>(pub &'a F);

impl<F: RequestFacts + ?Sized> Variables for VariablesOf<'_, F> {
    fn variable(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        variable_of(self.0, name)
    }

    fn append_variable(&self, name: &str, out: &mut Vec<u8>) -> bool {
        append_variable(self.0, name, out)
    }
}

impl Variables for Message {
    fn variable(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        variable_of(self, name)
    }

    fn append_variable(&self, name: &str, out: &mut Vec<u8>) -> bool {
        append_variable(self, name, out)
    }
}

static HOSTNAME: OnceLock<Box<[u8]>> = OnceLock::new();

/// Tells this process its `hostname`, once, when it starts: the core asks no system for it.
pub fn set_hostname(name: &[u8]) {
    HOSTNAME.get_or_init(|| name.into());
}

impl RequestFacts for Message {
    fn connection(&self) -> &Connection {
        &self.connection
    }
    fn method(&self) -> &[u8] {
        &self.request.method
    }
    fn target(&self) -> &[u8] {
        &self.request.target
    }
    fn path(&self) -> &[u8] {
        &self.request.path
    }
    fn authority(&self) -> &[u8] {
        &self.request.authority
    }
    fn version(&self) -> Version {
        self.request.version
    }
    fn for_each_field<'a>(&'a self, visit: &mut dyn FnMut(&'a [u8], &'a [u8])) {
        self.request.headers.iter().for_each(|(name, value)| visit(name, value));
    }
    fn started_ns(&self) -> u64 {
        self.started_ns
    }
    fn number(&self) -> Option<u64> {
        Some(self.request_number)
    }
    fn message(&self) -> Option<&Message> {
        Some(self)
    }
    fn route(&self) -> Option<&RouteFacts> {
        self.route.as_deref().map(Arc::as_ref)
    }
    fn upstream(&self) -> Option<SocketAddr> {
        self.upstream
    }
    fn consumer(&self) -> Option<&Consumer> {
        self.consumer.as_deref()
    }
    fn direct_peer(&self) -> SocketAddr {
        self.direct_peer.unwrap_or(self.connection.peer)
    }
    fn status(&self) -> Option<u16> {
        (self.response.status != 0).then_some(self.response.status)
    }
    fn upstream_status(&self) -> Option<u16> {
        self.status().filter(|_| self.response.source == ResponseSource::Upstream)
    }
    fn response_bytes(&self) -> u64 {
        self.response_bytes
    }
    fn for_each_response_field<'a>(&'a self, visit: &mut dyn FnMut(&'a [u8], &'a [u8])) {
        self.response.headers.iter().for_each(|(name, value)| visit(name, value));
    }
}

fn resolve<'a, F: RequestFacts + ?Sized>(facts: &'a F, name: &str) -> Option<Value<'a>> {
    if let Some(name) = name.strip_prefix("arg_") {
        return argument(facts, name.as_bytes());
    }
    if let Some(name) = name.strip_prefix("cookie_") {
        return cookie(facts, name.as_bytes());
    }
    if let Some(name) = name.strip_prefix("http_") {
        return request_field(facts, name.as_bytes());
    }
    if let Some(name) = name.strip_prefix("sent_http_") {
        return joined(b", ", name.as_bytes(), |visit| facts.for_each_response_field(visit));
    }
    if let Some(name) = name.strip_prefix("upstream_http_") {
        return upstream_field(facts, name.as_bytes());
    }
    request_variable(facts, name)
        .or_else(|| connection_variable(facts, name))
        .or_else(|| route_variable(facts, name))
        .or_else(|| upstream_variable(facts, name))
        .or_else(|| process_variable(facts, name))
}

/// Variables of the request's head.
fn request_variable<'a, F: RequestFacts + ?Sized>(facts: &'a F, name: &str) -> Option<Value<'a>> {
    Some(match name {
        "uri" | "document_uri" => Value::Bytes(facts.path()),
        "request_uri" => Value::PathAndQuery { path: facts.path(), query: query(facts) },
        "real_request_uri" => Value::Bytes(facts.target()),
        "args" | "query_string" => Value::Bytes(some(query(facts))?),
        "is_args" => Value::Bytes(if query(facts).is_empty() { b"" } else { b"?" }),
        "method" | "request_method" => Value::Bytes(facts.method()),
        "host" => lowered(some(uri::host_of(facts.authority()))?),
        "scheme" => Value::Bytes(facts.scheme()),
        "https" if facts.scheme() == b"https" => Value::Bytes(b"on"),
        "server_protocol" => Value::Bytes(protocol(facts.version())),
        "request" | "request_line" => Value::RequestLine {
            method: facts.method(),
            target: facts.target(),
            version: facts.version(),
        },
        "content_length" | "content_type" => request_field(facts, name.as_bytes())?,
        "request_id" | "apisix_request_id" => Value::RequestId(facts.number()?),
        "remote_user" => remote_user(facts)?,
        "proxy_add_x_forwarded_for" => forwarded_for(facts),
        _ => return None,
    })
}

/// Variables of the connection.
fn connection_variable<'a, F: RequestFacts + ?Sized>(
    facts: &'a F,
    name: &str,
) -> Option<Value<'a>> {
    let connection = facts.connection();
    Some(match name {
        "remote_addr" => Value::Ip(connection.peer.ip()),
        "remote_port" => Value::Number(connection.peer.port().into()),
        "realip_remote_addr" => Value::Ip(facts.direct_peer().ip()),
        "realip_remote_port" => Value::Number(facts.direct_peer().port().into()),
        "server_addr" => Value::Ip(connection.local.ip()),
        "server_port" => Value::Number(connection.local.port().into()),
        "proxy_protocol_addr" if connection.proxy.is_some() => Value::Ip(facts.direct_peer().ip()),
        "proxy_protocol_port" if connection.proxy.is_some() => {
            Value::Number(facts.direct_peer().port().into())
        }
        "proxy_protocol_server_addr" if connection.proxy.is_some() => {
            Value::Ip(connection.local.ip())
        }
        "proxy_protocol_server_port" if connection.proxy.is_some() => {
            Value::Number(connection.local.port().into())
        }
        "connection" => Value::Number(connection.id),
        _ => return None,
    })
}

/// Variables of the route and of the response.
fn route_variable<'a, F: RequestFacts + ?Sized>(facts: &'a F, name: &str) -> Option<Value<'a>> {
    let of_route = |fact: fn(&RouteFacts) -> &String| {
        facts.route().and_then(|route| some(fact(route).as_bytes())).map(Value::Bytes)
    };
    match name {
        "route_id" => of_route(|route| &route.route_id),
        "route_name" => of_route(|route| &route.route_name),
        "service_id" => of_route(|route| &route.service_id),
        "service_name" => of_route(|route| &route.service_name),
        "consumer_name" => facts.consumer().map(|c| Value::Bytes(c.username.as_bytes())),
        "consumer_group_id" => {
            facts.consumer()?.group_id.as_deref().map(|group| Value::Bytes(group.as_bytes()))
        }
        "status" => facts.status().map(|status| Value::Number(status.into())),
        "body_bytes_sent" => Some(Value::Number(facts.response_bytes())),
        _ => None,
    }
}

/// Variables of this process and of time; the time is when the request's head was complete.
fn process_variable<'a, F: RequestFacts + ?Sized>(facts: &'a F, name: &str) -> Option<Value<'a>> {
    let time = |form| Some(Value::Time { ns: facts.started_ns(), form });
    match name {
        "msec" => time(TimeForm::Seconds),
        "time_iso8601" => time(TimeForm::Iso8601),
        "time_local" => time(TimeForm::Log),
        "hostname" => HOSTNAME.get().map(|name| Value::Bytes(name)),
        "pid" => Some(Value::Number(std::process::id().into())),
        _ => None,
    }
}

fn query<F: RequestFacts + ?Sized>(facts: &F) -> &[u8] {
    uri::split(facts.target()).query.unwrap_or_default()
}

fn some(bytes: &[u8]) -> Option<&[u8]> {
    (!bytes.is_empty()).then_some(bytes)
}

fn lowered(bytes: &[u8]) -> Value<'_> {
    if bytes.iter().any(u8::is_ascii_uppercase) {
        Value::Lowered(bytes)
    } else {
        Value::Bytes(bytes)
    }
}

fn owned_or_bytes(bytes: Cow<'_, [u8]>) -> Value<'_> {
    match bytes {
        Cow::Borrowed(bytes) => Value::Bytes(bytes),
        Cow::Owned(bytes) => Value::Owned(bytes),
    }
}

/// The first argument of that name, decoded.
fn argument<'a, F: RequestFacts + ?Sized>(facts: &'a F, name: &[u8]) -> Option<Value<'a>> {
    some(name)?;
    query(facts).split(|&byte| byte == b'&').find_map(|pair| {
        let equals = memchr::memchr(b'=', pair);
        let written = &pair[..equals.unwrap_or(pair.len())];
        (*uri::decode_component(written) == *name).then(|| match equals {
            Some(at) => owned_or_bytes(uri::decode_component(&pair[at + 1..])),
            None => Value::Bytes(b"true"),
        })
    })
}

/// The last cookie of that name; names are compared with their case.
fn cookie<'a, F: RequestFacts + ?Sized>(facts: &'a F, name: &[u8]) -> Option<Value<'a>> {
    let mut found = None;
    facts.for_each_field(&mut |field, value| {
        if !field.eq_ignore_ascii_case(b"cookie") {
            return;
        }
        for pair in value.split(|&byte| byte == b';').map(<[u8]>::trim_ascii) {
            if let Some(rest) = pair.strip_prefix(name).and_then(|rest| rest.strip_prefix(b"=")) {
                found = Some(Value::Bytes(rest));
            }
        }
    });
    found
}

/// `http_NAME`. Host is the request's authority, wherever that stood.
fn request_field<'a, F: RequestFacts + ?Sized>(facts: &'a F, name: &[u8]) -> Option<Value<'a>> {
    if same_name(name, b"host") {
        return some(facts.authority()).map(Value::Bytes);
    }
    let separator: &[u8] = if same_name(name, b"cookie") { b"; " } else { b", " };
    joined(separator, name, |visit| facts.for_each_field(visit))
}

/// The user of the request's Basic credentials.
fn remote_user<'a, F: RequestFacts + ?Sized>(facts: &'a F) -> Option<Value<'a>> {
    let (mut field, mut credentials) = (Vec::new(), Vec::new());
    request_field(facts, b"authorization")?.write(&mut field);
    let (user, _) = base64::credentials(&field, &mut credentials)?;
    some(user).map(|user| Value::Owned(user.to_vec()))
}

/// `X-Forwarded-For` with the client's address at its end.
fn forwarded_for<F: RequestFacts + ?Sized>(facts: &F) -> Value<'_> {
    let client = Value::Ip(facts.connection().peer.ip());
    let Some(said) = request_field(facts, b"x_forwarded_for") else { return client };
    let mut all = Vec::new();
    said.write(&mut all);
    all.extend_from_slice(b", ");
    client.write(&mut all);
    Value::Owned(all)
}

/// The values of all fields of that name, joined as nginx does since 1.23.
fn joined<'a>(
    separator: &[u8],
    name: &[u8],
    each: impl FnOnce(&mut dyn FnMut(&'a [u8], &'a [u8])),
) -> Option<Value<'a>> {
    let mut found: Option<Value<'a>> = None;
    each(&mut |field, value| {
        if !same_name(field, name) {
            return;
        }
        found = Some(match found.take() {
            None => Value::Bytes(value),
            Some(Value::Owned(mut all)) => {
                all.extend_from_slice(separator);
                all.extend_from_slice(value);
                Value::Owned(all)
            }
            Some(first) => {
                let mut all = Vec::new();
                first.write(&mut all);
                Value::Owned([&all, separator, value].concat())
            }
        });
    });
    found
}

/// Field names in variables have no case, and `_` for `-`.
fn same_name(a: &[u8], b: &[u8]) -> bool {
    let plain = |byte: &u8| if *byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
    a.len() == b.len() && a.iter().map(plain).eq(b.iter().map(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Attempts;
    use crate::plugin::names::NAMES;
    use std::collections::HashSet;
    use std::rc::Rc;
    use std::sync::Arc;

    fn message() -> Message {
        let mut message = Message {
            connection: Connection {
                id: 7,
                peer: "[::ffff:10.0.0.1]:50123".parse().expect("an address"),
                local: "127.0.0.1:9080".parse().expect("an address"),
                proxy: Some("10.0.0.9".parse().expect("an address")),
            },
            started_ns: 1_784_678_400_123_456_789,
            consumer: Some(Arc::new(Consumer {
                username: "jack".to_owned(),
                group_id: Some("gold".to_owned()),
                ..Consumer::default()
            })),
            direct_peer: Some("10.9.9.9:443".parse().expect("an address")),
            route: Some(Rc::new(Arc::new(RouteFacts {
                route_id: "r1".to_owned(),
                service_id: "s1".to_owned(),
                service_name: "shop".to_owned(),
                upstream_name: "shops".to_owned(),
                ..RouteFacts::default()
            }))),
            upstream: Some("[::1]:8080".parse().expect("an address")),
            response_bytes: 12,
            ..Message::default()
        };
        message.request.method = b"POST".to_vec();
        message.request.target = b"/a%20b?name=J%C3%B6+x&n=1&n=2&flag&empty=&a%62=c&%zz=p".to_vec();
        message.request.path = b"/a b".to_vec();
        message.request.authority = b"Shop.Example.com:9080".to_vec();
        for (name, value) in [
            ("Content-Type", "text/plain"),
            ("content-length", "5"),
            ("X-Request-Id", "abc"),
            ("x-many", "1"),
            ("X-Many", "2"),
            ("X-MANY", "3"),
            ("X_Under", "u"),
            ("Cookie", "sid=1; Sid=2;  a=b=c ;novalue; sid=3"),
            ("Cookie", "late=x"),
            ("Authorization", "Basic amFjazpzOmVjcmV0"),
            ("X-Forwarded-For", "9.9.9.9"),
        ] {
            message.request.headers.append(name.as_bytes(), value.as_bytes());
        }
        message.response.status = 503;
        message.response.headers.append(b"X-Back", b"yes");
        message.response.source = ResponseSource::Upstream;
        message.response.details = b"via_upstream".to_vec();
        message.request.upstream_host = b"inner".to_vec();
        message.attempts = Attempts {
            count: 2,
            wanted_ns: 1_000_000_000,
            ready_ns: 1_004_999_999,
            sent_ns: 1_005_000_000,
            head_ns: 2_200_000_000,
            received_ns: 62_007_000_000,
            ..Attempts::default()
        };
        message
    }

    const TABLE: &[(&str, Option<&str>)] = &[
        ("uri", Some("/a b")),
        ("document_uri", Some("/a b")),
        ("request_uri", Some("/a b?name=J%C3%B6+x&n=1&n=2&flag&empty=&a%62=c&%zz=p")),
        ("real_request_uri", Some("/a%20b?name=J%C3%B6+x&n=1&n=2&flag&empty=&a%62=c&%zz=p")),
        ("args", Some("name=J%C3%B6+x&n=1&n=2&flag&empty=&a%62=c&%zz=p")),
        ("query_string", Some("name=J%C3%B6+x&n=1&n=2&flag&empty=&a%62=c&%zz=p")),
        ("is_args", Some("?")),
        ("arg_name", Some("Jö x")),
        ("arg_Name", None),
        ("arg_n", Some("1")),
        ("arg_flag", Some("true")),
        ("arg_empty", Some("")),
        ("arg_ab", Some("c")),
        ("arg_%zz", Some("p")),
        ("arg_missing", None),
        ("arg_", None),
        ("http_content_type", Some("text/plain")),
        ("http_Content-Type", Some("text/plain")),
        ("http_x_many", Some("1, 2, 3")),
        ("http_x_under", Some("u")),
        ("http_host", Some("Shop.Example.com:9080")),
        ("http_cookie", Some("sid=1; Sid=2;  a=b=c ;novalue; sid=3; late=x")),
        ("http_missing", None),
        ("cookie_sid", Some("3")),
        ("cookie_Sid", Some("2")),
        ("cookie_a", Some("b=c")),
        ("cookie_late", Some("x")),
        ("cookie_novalue", None),
        ("method", Some("POST")),
        ("request_method", Some("POST")),
        ("host", Some("shop.example.com")),
        ("scheme", Some("http")),
        ("https", None),
        ("server_protocol", Some("HTTP/1.1")),
        ("request", Some("POST /a%20b?name=J%C3%B6+x&n=1&n=2&flag&empty=&a%62=c&%zz=p HTTP/1.1")),
        ("content_length", Some("5")),
        ("content_type", Some("text/plain")),
        ("remote_user", Some("jack")),
        ("proxy_add_x_forwarded_for", Some("9.9.9.9, 10.0.0.1")),
        ("remote_addr", Some("10.0.0.1")),
        ("remote_port", Some("50123")),
        ("realip_remote_addr", Some("10.9.9.9")),
        ("realip_remote_port", Some("443")),
        ("proxy_protocol_addr", Some("10.9.9.9")),
        ("proxy_protocol_port", Some("443")),
        ("proxy_protocol_server_addr", Some("127.0.0.1")),
        ("proxy_protocol_server_port", Some("9080")),
        ("server_addr", Some("127.0.0.1")),
        ("server_port", Some("9080")),
        ("connection", Some("7")),
        ("balancer_ip", Some("::1")),
        ("balancer_port", Some("8080")),
        ("upstream_addr", Some("[::1]:8080")),
        ("route_id", Some("r1")),
        ("route_name", None),
        ("service_id", Some("s1")),
        ("service_name", Some("shop")),
        ("status", Some("503")),
        ("upstream_name", Some("shops")),
        ("upstream_scheme", Some("http")),
        ("upstream_host", Some("inner")),
        ("upstream_uri", Some("/a%20b?name=J%C3%B6+x&n=1&n=2&flag&empty=&a%62=c&%zz=p")),
        ("upstream_status", Some("503")),
        ("upstream_tries", Some("2")),
        ("upstream_connect_time", Some("0.004")),
        ("upstream_header_time", Some("1.200")),
        ("upstream_response_time", Some("61.007")),
        ("upstream_http_x_back", Some("yes")),
        ("upstream_http_none", None),
        ("response_source", Some("upstream")),
        ("response_details", Some("via_upstream")),
        ("body_bytes_sent", Some("12")),
        ("sent_http_x_back", Some("yes")),
        ("msec", Some("1784678400.123")),
        ("time_iso8601", Some("2026-07-22T00:00:00+00:00")),
        ("time_local", Some("22/Jul/2026:00:00:00 +0000")),
        ("unknown", None),
        ("consumer_name", Some("jack")),
        ("consumer_group_id", Some("gold")),
        ("", None),
    ];

    #[test]
    fn variables_have_their_values() {
        let message = message();
        for (name, expected) in TABLE {
            let value = message.variable(name);
            assert_eq!(value.as_deref(), expected.map(str::as_bytes), "{name}");
            let mut out = b"x".to_vec();
            assert_eq!(message.append_variable(name, &mut out), expected.is_some(), "{name}");
            assert_eq!(&out[1..], expected.unwrap_or_default().as_bytes(), "{name}");
        }
        assert_eq!(VariablesOf(&message).variable("uri").as_deref(), Some(&b"/a b"[..]));
    }

    /// Names that configurations may use without a warning.
    #[test]
    fn all_names_there_are_have_values() {
        set_hostname(b"gate-1");
        let mut message = message();
        message.route = Some(Rc::new(Arc::new(RouteFacts {
            route_name: "first".to_owned(),
            ..message.route().expect("a route").clone()
        })));
        for name in NAMES {
            // No client comes by TLS.
            let is_there = message.variable(name).is_some();
            assert!(is_there || name == "https", "{name}");
        }
    }

    #[test]
    fn an_empty_request_has_few() {
        let mut message = Message::default();
        message.request.target = b"/?".to_vec();
        for name in [
            "args",
            "host",
            "http_host",
            "status",
            "route_id",
            "upstream_addr",
            "upstream_host",
            "upstream_tries",
            "upstream_header_time",
            "response_source",
            "remote_user",
            "arg_a",
        ] {
            assert_eq!(message.variable(name), None, "{name}");
        }
        assert_eq!(message.variable("is_args").as_deref(), Some(&b""[..]));
        message.request.path = b"/".to_vec();
        assert_eq!(message.variable("request_uri").as_deref(), Some(&b"/"[..]));
        message.request.authority = b"[::1]:80".to_vec();
        assert_eq!(message.variable("host").as_deref(), Some(&b"[::1]"[..]));
        message.connection.peer = ([10, 0, 0, 1], 80).into();
        let forwarded = message.variable("proxy_add_x_forwarded_for");
        assert_eq!(forwarded.as_deref(), Some(&b"10.0.0.1"[..]));
    }

    #[test]
    fn responses_of_others_have_no_fields_of_the_upstream() {
        let mut message = message();
        message.response.source = ResponseSource::Plugin;
        for name in ["upstream_http_x_back", "upstream_status"] {
            assert_eq!(message.variable(name), None, "{name}");
        }
    }

    #[test]
    fn requests_have_ids_of_their_own() {
        let id = |number, name| {
            let message = Message { request_number: number, ..Message::default() };
            String::from_utf8(message.variable(name).expect("an id").into_owned()).expect("text")
        };
        let first = id(1, "request_id");
        assert!(first.len() == 32 && first.bytes().all(|b| b"0123456789abcdef".contains(&b)));
        assert_eq!((id(1, "request_id"), id(1, "apisix_request_id")), (first.clone(), first));
        let all: HashSet<String> = (0..1000).map(|number| id(number, "request_id")).collect();
        assert_eq!(all.len(), 1000);
    }

    #[test]
    fn the_hostname_is_told_once() {
        set_hostname(b"gate-1");
        let message = Message::default();
        // Another test of this process may have been first.
        let told = message.variable("hostname").expect("it was told");
        set_hostname(b"gate-2");
        assert_eq!(message.variable("hostname"), Some(told));
    }
}
