//! `limit-conn`: so many requests at the same time; some more wait, others are turned away.
//!
//! As APISIX's plugin of that name (`apisix/plugins/limit-conn/init.lua`, `resty.limit.conn`), with
//! `policy: local`. All workers count together. How long one waits follows how long requests took
//! so far.

use super::counters::Counters;
use super::limit_key::{LimitKey, read_policy};
use super::refusal::Refusal;
use crate::limits;
use crate::plugin::{Action, Hold, Hooks, Plugin, Stream};
use crate::schema::Reader;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const NAME: &str = "limit-conn";

#[derive(Debug)]
struct LimitConn {
    conn: u64,
    burst: u64,
    /// Milliseconds that a request waits for each full round of `conn` before it.
    unit_ms: AtomicU64,
    fixed_delay: bool,
    key: LimitKey,
    rejected: Refusal,
    running: Counters<u64>,
}

/// In the exchange's word: the key's hash above, never 0, and the milliseconds it waited below, as
/// far as they fit.
const DELAY_MASK: u64 = 0xffff;
const KEY_THERE: u64 = DELAY_MASK + 1;

impl Plugin for LimitConn {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS | Hooks::LOG
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let key = &mut stream.locals.scratch;
        key.clear();
        self.key.write(stream.message, key);
        let key = self.running.key(key) & !DELAY_MASK | KEY_THERE;
        let most = self.conn + self.burst;
        let running = self.running.with(key, |running| {
            let fits = *running < most;
            *running += u64::from(fits);
            fits.then_some(*running)
        });
        let Some(running) = running else { return self.rejected.give(stream.message) };
        let unit_ms = self.unit_ms.load(Ordering::Relaxed);
        let delay_ms = ((running - 1) / self.conn * unit_ms).min(limits::DELAY_MS_MAX);
        *stream.state = key | delay_ms.min(DELAY_MASK);
        match delay_ms {
            0 => Action::Continue,
            ms => Action::Pause(Hold::Sleep(ms)),
        }
    }

    fn on_log(&self, stream: &mut Stream<'_>) {
        let word = std::mem::take(stream.state);
        if word == 0 {
            return;
        }
        self.running.retain_if(word & !DELAY_MASK, |running| {
            *running -= 1;
            *running > 0
        });
        if !self.fixed_delay {
            let took_ns = (stream.locals.clock)().saturating_sub(stream.message.started_ns);
            let took = (took_ns / 1_000_000).saturating_sub(word & DELAY_MASK);
            // Two workers at once may lose one of the two: it is an average.
            let unit_ms = self.unit_ms.load(Ordering::Relaxed);
            self.unit_ms.store((unit_ms + took) / 2, Ordering::Relaxed);
        }
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    read_policy(&mut object);
    if let Some(reader) = object.get("rules") {
        reader.error_on_key("`rules` of limit-conn are not supported");
    }
    let conn = object.need("conn").and_then(|reader| reader.integer(1..=i64::from(u32::MAX)));
    let burst = object.need("burst").and_then(|reader| reader.integer(0..=i64::from(u32::MAX)));
    let delay = object.need("default_conn_delay").and_then(|reader| {
        let seconds = reader.positive()?;
        let most = (limits::DELAY_MS_MAX / 1000) as f64;
        if seconds > most {
            reader.error(format!("expected at most a day, {most} seconds"));
        }
        Some((seconds * 1000.0).ceil() as u64)
    });
    let fixed_delay = object.boolean("only_use_default_delay").unwrap_or(false);
    let key = LimitKey::read(&mut object, None);
    let status = object.integer("rejected_code", 200..=599).unwrap_or(503) as u16;
    let rejected = Refusal::error_msg(status, object.string("rejected_msg", 1..=usize::MAX));
    let _ = object.boolean("allow_degradation");
    object.allow_unknown();
    Some(Arc::new(LimitConn {
        conn: conn? as u64,
        burst: burst? as u64,
        unit_ms: AtomicU64::new(delay?),
        fixed_delay,
        key: key?,
        rejected,
        running: Counters::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{Run, plugin, refused, request};
    use serde_json::{Value, json};

    fn conf(more: &Value) -> Value {
        let mut conf = json!({ "conn": 1, "burst": 1, "default_conn_delay": 0.1, "key": "uri" });
        for (key, value) in more.as_object().expect("an object") {
            conf[key] = value.clone();
        }
        conf
    }

    #[test]
    fn places_are_taken_and_given_back() {
        let plugin = plugin(read, &conf(&json!({ "only_use_default_delay": true })));
        let start = |uri| {
            let mut run = Run::new(&*plugin, request("GET", uri));
            let action = run.request_headers();
            (run, action)
        };
        let waits = Action::Pause(Hold::Sleep(100));
        let (mut first, action) = start("/a");
        assert_eq!(action, Action::Continue);
        let (mut second, action) = start("/a");
        assert_eq!(action, waits);
        let (mut third, action) = start("/a");
        assert_eq!((action, third.answer()), (Action::Respond, (503, String::new())));
        assert_eq!(start("/b").1, Action::Continue, "another key");
        third.log();
        assert_eq!(start("/a").1, Action::Respond, "who was turned away had no place");
        second.log();
        second.log();
        let (_, action) = start("/a");
        assert_eq!(action, waits, "a place is given back once");
        first.log();
    }

    #[test]
    fn delays_grow_by_rounds_and_follow_what_requests_take() {
        let plugin = plugin(read, &conf(&json!({ "conn": 2, "burst": 9, "key": "remote_addr" })));
        let mut runs = Vec::new();
        for delay_ms in [0, 0, 100, 100, 200, 200] {
            let mut run = Run::new(&*plugin, request("GET", "/"));
            let action = match delay_ms {
                0 => Action::Continue,
                ms => Action::Pause(Hold::Sleep(ms)),
            };
            assert_eq!(run.request_headers(), action);
            runs.push(run);
        }
        // It waited 200 of these 700 milliseconds.
        let mut last = runs.pop().expect("six");
        last.message.started_ns = 1_000_000_000;
        last.locals.clock = || 1_700_000_000;
        last.log();
        let mut run = Run::new(&*plugin, request("GET", "/"));
        assert_eq!(run.request_headers(), Action::Pause(Hold::Sleep(2 * (100 + 500) / 2)));
    }

    #[test]
    fn answers() {
        let conf = conf(&json!({
            "burst": 0, "key": "$http_none", "key_type": "var_combination", "rejected_code": 429,
            "rejected_msg": "busy",
        }));
        let plugin = plugin(read, &conf);
        let mut first = Run::new(&*plugin, request("GET", "/"));
        assert_eq!(first.request_headers(), Action::Continue);
        let mut second = Run::new(&*plugin, request("GET", "/"));
        assert_eq!(second.request_headers(), Action::Respond, "by address");
        assert_eq!(second.answer(), (429, "{\"error_msg\":\"busy\"}\n".to_owned()));
    }

    #[test]
    fn configurations_refused() {
        for (more, start) in [
            (json!({ "conn": 0 }), "p.conn: "),
            (json!({ "burst": -1 }), "p.burst: "),
            (json!({ "default_conn_delay": 0 }), "p.default_conn_delay: "),
            (json!({ "default_conn_delay": 1e9 }), "p.default_conn_delay: expected at most a day"),
            (json!({ "key": 1 }), "p.key: "),
            (json!({ "key_type": "constant" }), "p.key_type: "),
            (json!({ "policy": "redis" }), "p.policy: expected `policy: local`"),
            (json!({ "rules": [] }), "p.rules: "),
            (json!({ "rejected_code": 100 }), "p.rejected_code: "),
        ] {
            refused(read, &conf(&more), start);
        }
        refused(read, &json!({}), "p: missing key `conn`");
    }
}
