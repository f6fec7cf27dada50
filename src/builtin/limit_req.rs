//! `limit-req`: so many requests a second; what comes faster waits, or is turned away.
//!
//! As APISIX's plugin of that name (`apisix/plugins/limit-req.lua`, the leaky bucket of
//! `resty.limit.req`), with `policy: local`. All workers fill the same buckets.

use super::counters::Counters;
use super::limit_key::{LimitKey, read_policy};
use super::refusal::Refusal;
use crate::limits;
use crate::plugin::{Action, Hold, Hooks, Plugin, Stream};
use crate::schema::Reader;
use std::sync::Arc;

pub(super) const NAME: &str = "limit-req";

#[derive(Debug)]
struct LimitReq {
    /// Requests a second.
    rate: f64,
    /// Requests that may wait.
    burst: f64,
    key: LimitKey,
    nodelay: bool,
    rejected: Refusal,
    buckets: Counters<Bucket>,
}

/// How many requests a key is ahead of its rate.
#[derive(Debug, Default)]
struct Bucket {
    excess: f64,
    /// 0: there was no request yet.
    last_ns: u64,
}

impl Bucket {
    /// How many seconds a request waits; `None`: too many wait already.
    fn take(&mut self, now: u64, rate: f64, burst: f64) -> Option<f64> {
        let excess = match self.last_ns {
            0 => 0.0,
            last => {
                let elapsed = now.abs_diff(last) as f64 / 1e9;
                (self.excess - rate * elapsed + 1.0).max(0.0)
            }
        };
        if excess > burst {
            return None;
        }
        *self = Self { excess, last_ns: now };
        Some(excess / rate)
    }
}

impl Plugin for LimitReq {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let key = &mut stream.locals.scratch;
        key.clear();
        self.key.write(stream.message, key);
        let (now, key) = (stream.message.started_ns, self.buckets.key(key));
        match self.buckets.with(key, |bucket| bucket.take(now, self.rate, self.burst)) {
            None => self.rejected.give(stream.message),
            Some(seconds) if !self.nodelay && seconds >= 0.001 => {
                Action::Pause(Hold::Sleep((seconds * 1000.0).round() as u64))
            }
            Some(_) => Action::Continue,
        }
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    read_policy(&mut object);
    let rate = object.need("rate").and_then(|reader| reader.positive());
    let burst = object.need("burst").and_then(|reader| reader.number(0.0..=f64::INFINITY));
    if let (Some(rate), Some(burst)) = (rate, burst)
        && burst / rate > (limits::DELAY_MS_MAX / 1000) as f64
    {
        object.error("`burst` requests at that `rate` take longer than a day");
    }
    let key = LimitKey::read(&mut object, None);
    let nodelay = object.boolean("nodelay").unwrap_or(false);
    let status = object.integer("rejected_code", 200..=599).unwrap_or(503) as u16;
    let rejected = Refusal::error_msg(status, object.string("rejected_msg", 1..=usize::MAX));
    let _ = object.boolean("allow_degradation");
    object.allow_unknown();
    let (rate, burst, key, buckets) = (rate?, burst?, key?, Counters::new());
    Some(Arc::new(LimitReq { rate, burst, key, nodelay, rejected, buckets }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{Run, plugin, refused, request};
    use serde_json::{Value, json};

    /// A configuration, requests at these milliseconds by these clients, what happens to them.
    type Row<'a> = (Value, &'a [(u64, &'a str)], &'a [Action]);

    /// What happens to requests at these milliseconds, from these clients.
    fn run(conf: &Value, requests: &[(u64, &str)]) -> Vec<Action> {
        let plugin = plugin(read, conf);
        let one = |(ms, client): &(u64, &str)| {
            let mut message = request("GET", "/");
            message.started_ns += ms * 1_000_000;
            message.request.headers.append(b"X-Client", client.as_bytes());
            Run::new(&*plugin, message).request_headers()
        };
        requests.iter().map(one).collect()
    }

    const GO: Action = Action::Continue;
    const NO: Action = Action::Respond;

    fn wait(ms: u64) -> Action {
        Action::Pause(Hold::Sleep(ms))
    }

    #[test]
    fn buckets_leak() {
        let table: [Row<'_>; 6] = [
            (
                json!({ "rate": 1, "burst": 0 }),
                &[(0, ""), (0, ""), (999, ""), (1000, "")],
                &[GO, NO, NO, GO],
            ),
            (
                json!({ "rate": 1, "burst": 2 }),
                &[(0, ""), (0, ""), (0, ""), (0, "")],
                &[GO, wait(1000), wait(2000), NO],
            ),
            (
                json!({ "rate": 10, "burst": 1 }),
                &[(0, ""), (50, ""), (100, ""), (200, "")],
                &[GO, wait(50), wait(100), wait(100)],
            ),
            (
                json!({ "rate": 0.5, "burst": 0.5 }),
                &[(0, ""), (999, ""), (1000, "")],
                &[GO, NO, wait(1000)],
            ),
            (
                json!({ "rate": 1, "burst": 2, "nodelay": true }),
                &[(0, ""), (0, ""), (0, ""), (0, "")],
                &[GO, GO, GO, NO],
            ),
            (
                json!({ "rate": 1, "burst": 0, "key": "http_x_client" }),
                &[(0, "a"), (0, "b"), (0, "a")],
                &[GO, GO, NO],
            ),
        ];
        for (mut conf, requests, actions) in table {
            if conf.get("key").is_none() {
                conf["key"] = json!("remote_addr");
            }
            assert_eq!(run(&conf, requests), actions, "{conf}");
        }
    }

    #[test]
    fn answers() {
        let conf = json!({
            "rate": 1, "burst": 0, "key": "$remote_addr $http_none", "key_type": "var_combination",
            "rejected_code": 429, "rejected_msg": "slow",
        });
        let plugin = plugin(read, &conf);
        let mut run = Run::new(&*plugin, request("GET", "/"));
        for action in [GO, NO] {
            assert_eq!(run.request_headers(), action);
        }
        assert_eq!(run.answer(), (429, "{\"error_msg\":\"slow\"}\n".to_owned()));
    }

    #[test]
    fn configurations_refused() {
        for (conf, start) in [
            (json!({}), "p: missing key `rate`"),
            (json!({ "rate": 0, "burst": 0, "key": "a" }), "p.rate: "),
            (json!({ "rate": 1, "burst": -1, "key": "a" }), "p.burst: "),
            (json!({ "rate": 1, "burst": 1 }), "p: missing key `key`"),
            (json!({ "rate": 0.001, "burst": 1000, "key": "a" }), "p: `burst` requests"),
            (json!({ "rate": 1, "burst": 1, "key": "a", "key_type": "constant" }), "p.key_type: "),
            (json!({ "rate": 1, "burst": 1, "key": "a", "policy": "redis" }), "p.policy: "),
            (json!({ "rate": 1, "burst": 1, "key": "a", "rejected_code": 600 }), "p.rejected_code"),
            (json!({ "rate": 1, "burst": 1, "key": "a", "rejected_msg": "" }), "p.rejected_msg: "),
        ] {
            refused(read, &conf, start);
        }
    }
}
