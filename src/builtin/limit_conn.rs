//! `limit-conn`: so many requests at the same time; some more wait, others are turned away.
//!
//! As APISIX's plugin of that name (`apisix/plugins/limit-conn/init.lua`, `resty.limit.conn`), with
//! `policy: local`. All workers count together. How long one waits follows how long requests took
//! so far.

use super::counters::Counters;
use super::limit_key::{Amount, LimitKey, read_policy};
use super::refusal::Refusal;
use crate::limits;
use crate::plugin::{Action, Hold, Hooks, Plugin, Stream};
use crate::schema::{Object, Reader};
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) const NAME: &str = "limit-conn";

#[derive(Debug)]
struct LimitConn {
    /// The only one, or a list in which those whose key has no value are left out.
    rules: Rules,
    /// Milliseconds that a request waits for each full round of `conn` before it.
    unit_ms: AtomicU64,
    fixed_delay: bool,
    rejected: Refusal,
    failed: Refusal,
    allow_degradation: bool,
    running: Counters<u64>,
}

#[derive(Debug)]
enum Rules {
    One(Rule),
    List { rules: Vec<Rule>, taken: Taken },
}

#[derive(Debug)]
struct Rule {
    conn: Amount,
    burst: Amount,
    key: LimitKey,
}

/// The places of exchanges that may have several, by numbers.
#[derive(Debug, Default)]
struct Taken {
    last: AtomicU64,
    places: Mutex<FxHashMap<u64, Places>>,
}

#[derive(Debug, Default)]
struct Places {
    keys: Vec<u64>,
    delay_ms: u64,
}

impl Taken {
    fn keep(&self, places: Places) -> u64 {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.places().insert(number, places);
        number
    }

    fn give_back(&self, number: u64) -> Places {
        self.places().remove(&number).unwrap_or_default()
    }

    fn places(&self) -> MutexGuard<'_, FxHashMap<u64, Places>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In the exchange's word, if there is one rule: the key's hash above, never 0, and the
/// milliseconds it waited below, as far as they fit. Of a list: the number of its places.
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
        let took = match &self.rules {
            Rules::One(rule) => self.take_one(rule, stream),
            Rules::List { rules, taken } => self.take_all(rules, taken, stream),
        };
        match took {
            Ok(0) => Action::Continue,
            Ok(delay_ms) => Action::Pause(Hold::Sleep(delay_ms)),
            Err(None) if self.allow_degradation => Action::Continue,
            Err(None) => {
                log::warn!("limit-conn: no limit can be told from this request");
                self.failed.give(stream.message)
            }
            Err(Some(rejected)) => rejected.give(stream.message),
        }
    }

    fn on_log(&self, stream: &mut Stream<'_>) {
        let word = std::mem::take(stream.state);
        if word == 0 {
            return;
        }
        let waited_ms = match &self.rules {
            Rules::One(_) => {
                self.leave(word & !DELAY_MASK);
                word & DELAY_MASK
            }
            Rules::List { taken, .. } => {
                let places = taken.give_back(word);
                places.keys.iter().for_each(|key| self.leave(*key));
                places.delay_ms
            }
        };
        if !self.fixed_delay {
            let took_ns = (stream.locals.clock)().saturating_sub(stream.message.started_ns);
            let took = (took_ns / 1_000_000).saturating_sub(waited_ms);
            // Two workers at once may lose one of the two: it is an average.
            let unit_ms = self.unit_ms.load(Ordering::Relaxed);
            self.unit_ms.store((unit_ms + took) / 2, Ordering::Relaxed);
        }
    }
}

/// Milliseconds to wait for a place; or the answer of a rule that has none, or that no rule can be
/// told from the request.
type Took<'a> = Result<u64, Option<&'a Refusal>>;

impl LimitConn {
    fn take_one(&self, rule: &Rule, stream: &mut Stream<'_>) -> Took<'_> {
        let (message, key) = (&*stream.message, &mut stream.locals.scratch);
        let conn = rule.conn.get(message, key).ok_or(None)?;
        let burst = rule.burst.get(message, key).ok_or(None)?;
        key.clear();
        rule.key.write(message, key);
        let key = self.running.key(key) & !DELAY_MASK | KEY_THERE;
        let delay_ms = self.take(key, conn, burst).ok_or(Some(&self.rejected))?;
        *stream.state = key | delay_ms.min(DELAY_MASK);
        Ok(delay_ms)
    }

    /// A place under each rule that the request has a key for, or none.
    fn take_all(&self, rules: &[Rule], taken: &Taken, stream: &mut Stream<'_>) -> Took<'_> {
        let (message, key) = (&*stream.message, &mut stream.locals.scratch);
        let mut places = Places::default();
        for (number, rule) in rules.iter().enumerate() {
            let (conn, burst) = (rule.conn.get(message, key), rule.burst.get(message, key));
            key.clear();
            key.push(number as u8);
            let (Some(conn), Some(burst), true) = (conn, burst, rule.key.write_own(message, key))
            else {
                continue;
            };
            let key = self.running.key(key);
            let Some(delay_ms) = self.take(key, conn, burst) else {
                places.keys.iter().for_each(|key| self.leave(*key));
                return Err(Some(&self.rejected));
            };
            places.keys.push(key);
            places.delay_ms = (places.delay_ms + delay_ms).min(limits::DELAY_MS_MAX);
        }
        if places.keys.is_empty() {
            return Err(None);
        }
        let delay_ms = places.delay_ms;
        *stream.state = taken.keep(places);
        Ok(delay_ms)
    }

    /// Takes a place under a key and tells how many milliseconds to wait for it; `None`: there is
    /// none left.
    fn take(&self, key: u64, conn: u64, burst: u64) -> Option<u64> {
        let most = conn + burst;
        let running = self.running.with(key, |running| {
            let fits = *running < most;
            *running += u64::from(fits);
            fits.then_some(*running)
        })?;
        let unit_ms = self.unit_ms.load(Ordering::Relaxed);
        Some(((running - 1) / conn).saturating_mul(unit_ms).min(limits::DELAY_MS_MAX))
    }

    fn leave(&self, key: u64) {
        self.running.retain_if(key, |running| {
            *running -= 1;
            *running > 0
        });
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    read_policy(&mut object);
    let is_list = object.has("rules");
    if is_list && ["conn", "burst", "key"].iter().any(|key| object.has(key)) {
        object.error("expected either `conn`, `burst` and `key`, or `rules`");
    }
    let rules = match is_list {
        true => read_rules(&mut object),
        false => read_amounts(&mut object).and_then(|(conn, burst)| {
            let key = LimitKey::read(&mut object, None)?;
            Some(Rules::One(Rule { conn, burst, key }))
        }),
    };
    let delay = object.need("default_conn_delay").and_then(|reader| {
        let seconds = reader.positive()?;
        let most = (limits::DELAY_MS_MAX / 1000) as f64;
        if seconds > most {
            reader.error(format!("expected at most a day, {most} seconds"));
        }
        Some((seconds * 1000.0).ceil() as u64)
    });
    let fixed_delay = object.boolean("only_use_default_delay").unwrap_or(false);
    let status = object.integer("rejected_code", 200..=599).unwrap_or(503) as u16;
    let rejected = Refusal::error_msg(status, object.string("rejected_msg", 1..=usize::MAX));
    let allow_degradation = object.boolean("allow_degradation").unwrap_or(false);
    object.allow_unknown();
    Some(Arc::new(LimitConn {
        rules: rules?,
        unit_ms: AtomicU64::new(delay?),
        fixed_delay,
        rejected,
        failed: Refusal::error_msg(500, None),
        allow_degradation,
        running: Counters::new(),
    }))
}

fn read_amounts(object: &mut Object<'_>) -> Option<(Amount, Amount)> {
    let conn = object.need("conn").and_then(|reader| Amount::read(&reader, 1));
    let burst = object.need("burst").and_then(|reader| Amount::read(&reader, 0));
    Some((conn?, burst?))
}

/// `rules`: each with a key of its own, a template.
fn read_rules(object: &mut Object<'_>) -> Option<Rules> {
    // The number of a rule is the first byte of its keys.
    let rules = object.get("rules")?.list(1..=255)?.into_iter().map(|reader| {
        let mut rule = reader.object()?;
        let key = rule.need("key").and_then(|reader| {
            let text = reader.string(1..=usize::MAX)?;
            Some(LimitKey::combination(text, &reader))
        });
        let amounts = read_amounts(&mut rule);
        rule.allow_unknown();
        let (conn, burst) = amounts?;
        Some(Rule { conn, burst, key: key? })
    });
    // All of them, for what is wrong with them.
    let rules: Vec<Option<Rule>> = rules.collect();
    let rules = rules.into_iter().collect::<Option<Vec<Rule>>>()?;
    Some(Rules::List { rules, taken: Taken::default() })
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
    fn amounts_may_come_with_the_request() {
        let conf = conf(&json!({ "conn": "$arg_most", "burst": "0", "key": "remote_addr" }));
        let plugin = plugin(read, &conf);
        let start = |target| {
            let mut run = Run::new(&*plugin, request("GET", target));
            (run.request_headers(), run)
        };
        assert_eq!(start("/?most=2").0, Action::Continue);
        assert_eq!(start("/?most=2").0, Action::Continue);
        assert_eq!(start("/?most=2").0, Action::Respond);
        assert_eq!(start("/?most=3").0, Action::Continue);
        for target in ["/", "/?most=0", "/?most=x"] {
            let (action, run) = start(target);
            assert_eq!((action, run.answer().0), (Action::Respond, 500), "{target}");
        }
    }

    #[test]
    fn rules_have_keys_of_their_own() {
        let rules = json!([
            { "conn": 1, "burst": 1, "key": "$arg_user" },
            { "conn": "$arg_most", "burst": 0, "key": "$uri" },
        ]);
        let conf = |more: bool| {
            json!({
                "default_conn_delay": 0.1, "only_use_default_delay": true, "rules": rules,
                "allow_degradation": more,
            })
        };
        let plugin = plugin(read, &conf(false));
        let start = |target| {
            let mut run = Run::new(&*plugin, request("GET", target));
            let action = run.request_headers();
            (run, action)
        };
        let (mut first, action) = start("/a?user=x&most=2");
        assert_eq!(action, Action::Continue);
        let (mut second, action) = start("/b?user=x&most=1");
        assert_eq!(action, Action::Pause(Hold::Sleep(100)), "its user has one");
        assert_eq!(start("/b?user=y&most=1").1, Action::Respond, "its path has one");
        let (_, action) = start("/c?user=y&most=1");
        assert_eq!(action, Action::Continue, "who was turned away has no place under any rule");
        assert_eq!(start("/a?user=x&most=2").1, Action::Respond, "its user has two");
        second.log();
        second.log();
        assert_eq!(start("/b?most=1").1, Action::Continue, "a rule without a key is left out");
        assert_eq!(start("/b?user=z&most=x").1, Action::Continue, "and one without a number");
        first.log();
        let (failed, action) = start("/d");
        assert_eq!((action, failed.answer().0), (Action::Respond, 500), "no rule is left");
        let lenient = super::super::testing::plugin(read, &conf(true));
        let mut run = Run::new(&*lenient, request("GET", "/d"));
        assert_eq!(run.request_headers(), Action::Continue);
        run.log();
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
            (json!({ "rules": [] }), "p: expected either"),
            (json!({ "rejected_code": 100 }), "p.rejected_code: "),
        ] {
            refused(read, &conf(&more), start);
        }
        refused(read, &json!({}), "p: missing key `conn`");
        for (rules, start) in [
            (json!([]), "p.rules: "),
            (json!([{ "conn": 1, "burst": 0 }]), "p.rules[0]: missing key `key`"),
            (json!([{ "burst": 0, "key": "$uri" }]), "p.rules[0]: missing key `conn`"),
            (json!([{ "conn": 0, "burst": 0, "key": "$uri" }]), "p.rules[0].conn: "),
            (json!([{ "conn": "none", "burst": 0, "key": "$uri" }]), "p.rules[0].conn: "),
        ] {
            refused(read, &json!({ "default_conn_delay": 1, "rules": rules }), start);
        }
    }
}
