//! `checks` of an upstream (APISIX reference §5.3).
//!
//! As in APISIX's schema, `healthy` and `unhealthy` are not there by themselves: without one of
//! them its nodes are not probed, and its thresholds are those of APISIX's checker.

use super::super::model::{ActiveChecks, Checks, HttpProbe, Judgement, ProbeTls};
use super::item;
use crate::schema::{Fault, Object, Reader};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What a probe may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Http,
    Https,
    Tcp,
}

const KINDS: [(&str, Kind); 3] = [("http", Kind::Http), ("https", Kind::Https), ("tcp", Kind::Tcp)];

const ACTIVE_GOOD: [u16; 2] = [200, 302];
const ACTIVE_BAD: [u16; 8] = [429, 404, 500, 501, 502, 503, 504, 505];
const PASSIVE_GOOD: [u16; 19] =
    [200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308];
const PASSIVE_BAD: [u16; 3] = [429, 500, 503];

pub(super) fn read(object: &mut Object<'_>) -> Option<Checks> {
    let mut object = object.get("checks")?.object()?;
    let active = object.need("active").and_then(Reader::object).map(active);
    let passive = object.get("passive").and_then(Reader::object).map(passive);
    object.finish();
    Some(Checks { active: active?, passive })
}

fn active(mut object: Object<'_>) -> ActiveChecks {
    let kind = object.one_of("type", &KINDS).unwrap_or_default();
    let http = http_probe(&mut object, kind);
    let timeout = object
        .get("timeout")
        .and_then(|reader| item::seconds(&reader, reader.positive()?))
        .unwrap_or(Duration::from_secs(1));
    let concurrency = object.integer("concurrency", 1..=10_000).unwrap_or(10);
    let port = object.integer("port", 1..=65_535).and_then(|port| port.try_into().ok());
    let mut healthy = object.section("healthy");
    let mut unhealthy = object.section("unhealthy");
    let has = [object.has("healthy"), object.has("unhealthy")];
    let [healthy_interval, unhealthy_interval] =
        [interval(&mut healthy, has[0]), interval(&mut unhealthy, has[1])];
    let judgement = judgement(
        healthy,
        unhealthy,
        1..=254,
        &Judgement {
            good_statuses: ACTIVE_GOOD.to_vec(),
            successes: 2,
            bad_statuses: ACTIVE_BAD.to_vec(),
            http_failures: 5,
            tcp_failures: 2,
            timeouts: 3,
        },
    );
    object.finish();
    ActiveChecks {
        http: Some(http).filter(|_| kind != Kind::Tcp),
        timeout,
        concurrency: usize::try_from(concurrency).unwrap_or(10),
        port,
        healthy_interval,
        unhealthy_interval,
        judgement,
    }
}

fn passive(mut object: Object<'_>) -> Judgement {
    // Requests are what they are.
    let _ = object.one_of("type", &KINDS);
    let (healthy, unhealthy) = (object.section("healthy"), object.section("unhealthy"));
    let judgement = judgement(
        healthy,
        unhealthy,
        0..=254,
        &Judgement {
            good_statuses: PASSIVE_GOOD.to_vec(),
            successes: 5,
            bad_statuses: PASSIVE_BAD.to_vec(),
            http_failures: 5,
            tcp_failures: 2,
            timeouts: 7,
        },
    );
    object.finish();
    judgement
}

fn http_probe(object: &mut Object<'_>, kind: Kind) -> HttpProbe {
    let verify = object.boolean("https_verify_certificate").unwrap_or(true);
    let host = object.get("host").and_then(|reader| item::host(&reader));
    let method = object.get("http_method").and_then(|reader| method(&reader));
    let path = object.get("http_path").and_then(|reader| path(&reader));
    let body = object.string("http_req_body", 0..=usize::MAX).unwrap_or_default();
    let headers = object.get("req_headers");
    let headers = headers.and_then(|reader| reader.list_of(0..=usize::MAX, |line| field(&line)));
    HttpProbe {
        host,
        method: method.unwrap_or_else(|| "GET".to_owned()),
        path: path.unwrap_or_else(|| "/".to_owned()),
        body: body.to_owned(),
        headers: headers.unwrap_or_default(),
        tls: (kind == Kind::Https).then_some(ProbeTls { verify }),
    }
}

fn method(reader: &Reader<'_>) -> Option<String> {
    let text = reader.string(1..=20)?;
    if !text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        reader.error(Fault::new(format!("{text:?} is not a method")).hint("as in `GET`"));
    }
    Some(text.to_owned())
}

fn path(reader: &Reader<'_>) -> Option<String> {
    let text = reader.string(1..=usize::MAX)?;
    if !text.starts_with('/') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        reader.error(Fault::new(format!("{text:?} is not a path")).hint("as in `/health`"));
    }
    Some(text.to_owned())
}

/// `Name: value`.
fn field(reader: &Reader<'_>) -> Option<(String, String)> {
    let text = reader.string(1..=usize::MAX)?;
    let is_name = |name: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !name.is_empty() && name.bytes().all(fits)
    };
    let is_value = |value: &str| !value.bytes().any(|byte| byte.is_ascii_control());
    match text.split_once(':') {
        Some((name, value)) if is_name(name) && is_value(value) => {
            Some((name.to_owned(), value.trim().to_owned()))
        }
        _ => {
            let fault = Fault::new(format!("{text:?} is not a header"));
            reader.error(fault.hint("as in `User-Agent: probe`"));
            None
        }
    }
}

/// Whole seconds; 1 where the object is there and says nothing.
fn interval(object: &mut Object<'_>, is_there: bool) -> Option<Duration> {
    let seconds = object.integer("interval", 1..=i64::from(u32::MAX)).unwrap_or(1);
    is_there.then(|| Duration::from_secs(seconds.unsigned_abs()))
}

fn judgement(
    mut healthy: Object<'_>,
    mut unhealthy: Object<'_>,
    counts: RangeInclusive<i64>,
    usual: &Judgement,
) -> Judgement {
    let count = |object: &mut Object<'_>, key, usual: u8| {
        object.integer(key, counts.clone()).and_then(|n| n.try_into().ok()).unwrap_or(usual)
    };
    let read = Judgement {
        good_statuses: statuses(&mut healthy, &usual.good_statuses),
        successes: count(&mut healthy, "successes", usual.successes),
        bad_statuses: statuses(&mut unhealthy, &usual.bad_statuses),
        http_failures: count(&mut unhealthy, "http_failures", usual.http_failures),
        tcp_failures: count(&mut unhealthy, "tcp_failures", usual.tcp_failures),
        timeouts: count(&mut unhealthy, "timeouts", usual.timeouts),
    };
    healthy.finish();
    unhealthy.finish();
    read
}

fn statuses(object: &mut Object<'_>, usual: &[u16]) -> Vec<u16> {
    let read = |status: Reader<'_>| status.integer(200..=599).and_then(|n| n.try_into().ok());
    let list = object.get("http_statuses");
    let list = list.and_then(|reader| reader.list_of(1..=usize::MAX, read));
    list.unwrap_or_else(|| usual.to_vec())
}
