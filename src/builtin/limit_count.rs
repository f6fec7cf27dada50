//! `limit-count`: so many requests in a time window.
//!
//! As APISIX's plugin of that name (`apisix/plugins/limit-count/init.lua`), with `policy: local`.
//! All workers count together. A fixed window begins with a key's first request; sliding ones are
//! aligned, and the previous one counts by the part of it that is still within a window's length.

use super::counters::Counters;
use super::groups::Groups;
use super::limit_key::{Amount, LimitKey, read_policy};
use super::metadata::{LimitFields, Metadata};
use super::refusal::Refusal;
use crate::http::is_token;
use crate::plugin::{Action, Hooks, Message, Plugin, Stream};
use crate::schema::{Object, Reader};
use std::collections::HashSet;
use std::sync::Arc;

pub(super) const NAME: &str = "limit-count";

const NS: u64 = 1_000_000_000;

#[derive(Debug)]
struct LimitCount {
    rules: Vec<Rule>,
    /// The rules are a list: those whose key has no value are left out.
    is_list: bool,
    sliding: bool,
    show: bool,
    allow_degradation: bool,
    rejected: Refusal,
    failed: Refusal,
    counters: Arc<Counters<Window>>,
}

#[derive(Debug)]
struct Rule {
    count: Amount,
    window_s: Amount,
    key: LimitKey,
    /// The names of the fields for limit, remaining and reset.
    fields: LimitFields,
}

/// One key's counts.
#[derive(Debug, Default)]
pub(super) struct Window {
    start_ns: u64,
    count: u64,
    previous: u64,
}

/// What a request may still use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quota {
    /// `None`: not even this one.
    remaining: Option<u64>,
    reset_s: u64,
}

impl Window {
    fn take(&mut self, now: u64, length: u64, limit: u64, sliding: bool) -> Quota {
        if sliding {
            self.take_sliding(now, length, limit)
        } else {
            self.take_fixed(now, length, limit)
        }
    }

    fn take_fixed(&mut self, now: u64, length: u64, limit: u64) -> Quota {
        // A start that lies ahead is one of a clock that was set back since.
        let is_over = now < self.start_ns || now - self.start_ns >= length;
        if is_over {
            *self = Self { start_ns: now, count: 0, previous: 0 };
        }
        let reset_s = (length - (now - self.start_ns)).div_ceil(NS);
        if self.count >= limit {
            return Quota { remaining: None, reset_s };
        }
        self.count += 1;
        Quota { remaining: Some(limit - self.count), reset_s }
    }

    fn take_sliding(&mut self, now: u64, length: u64, limit: u64) -> Quota {
        let start = now - now % length;
        if self.start_ns != start {
            let follows = self.start_ns + length == start;
            let previous = if follows { self.count } else { 0 };
            *self = Self { start_ns: start, count: 0, previous };
        }
        let left = length - (now - start);
        let weighted = u128::from(self.previous) * u128::from(left) / u128::from(length);
        let used = self.count.saturating_add(weighted as u64);
        let reset_s = left.div_ceil(NS);
        if used >= limit {
            return Quota { remaining: None, reset_s };
        }
        self.count += 1;
        Quota { remaining: Some(limit - used - 1), reset_s }
    }
}

impl Plugin for LimitCount {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let scratch = &mut stream.locals.scratch;
        let message: &mut Message = stream.message;
        let mut ran = false;
        for (number, rule) in self.rules.iter().enumerate() {
            let count = rule.count.get(message, scratch);
            let window_s = rule.window_s.get(message, scratch);
            scratch.clear();
            scratch.push(number as u8);
            let keyed = rule.key.write_own(message, scratch);
            let (Some(count), Some(window_s), true) = (count, window_s, keyed || !self.is_list)
            else {
                if self.is_list {
                    continue;
                }
                break;
            };
            if !keyed {
                rule.key.write(message, scratch);
            }
            ran = true;
            let (now, length) = (message.started_ns, window_s.saturating_mul(NS));
            let key = self.counters.key(scratch);
            let quota =
                self.counters.with(key, |window| window.take(now, length, count, self.sliding));
            if self.show {
                rule.show(message, count, quota);
            }
            if quota.remaining.is_none() {
                return self.rejected.give(message);
            }
        }
        if !ran && !self.allow_degradation {
            log::warn!("limit-count: no limit can be told from this request");
            return self.failed.give(message);
        }
        Action::Continue
    }
}

impl Rule {
    /// Tells the client, with whatever response it gets.
    fn show(&self, message: &mut Message, limit: u64, quota: Quota) {
        let numbers = [limit, quota.remaining.unwrap_or(0), quota.reset_s];
        for (name, number) in self.fields.0.iter().zip(numbers) {
            let mut text = itoa::Buffer::new();
            message.response_fields.set(name.as_bytes(), text.format(number).as_bytes());
        }
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(
    conf: Reader<'_>,
    groups: &mut Groups,
    metadata: &Metadata,
) -> Option<Arc<dyn Plugin>> {
    let whole = conf.clone();
    let mut object = conf.object()?;
    read_policy(&mut object);
    let is_list = object.has("rules");
    if is_list == (object.has("count") || object.has("time_window")) {
        object.error("expected either `count` with `time_window`, or `rules`");
    }
    let windows = [("fixed", false), ("sliding", true)];
    let sliding = object.one_of("window_type", &windows).unwrap_or(false);
    let rules = match is_list {
        true => read_rules(&mut object),
        false => read_rule(&mut object, metadata),
    };
    let status = object.integer("rejected_code", 200..=599).unwrap_or(503) as u16;
    let rejected = Refusal::error_msg(status, object.string("rejected_msg", 1..=usize::MAX));
    let show = object.boolean("show_limit_quota_header").unwrap_or(true);
    let allow_degradation = object.boolean("allow_degradation").unwrap_or(false);
    let group = object.get("group");
    object.allow_unknown();
    let counters = match group {
        Some(reader) => groups.counters(&reader, &whole)?,
        None => Arc::new(Counters::new()),
    };
    Some(Arc::new(LimitCount {
        rules: rules?,
        is_list,
        sliding,
        show,
        allow_degradation,
        rejected,
        failed: Refusal::error_msg(500, None),
        counters,
    }))
}

/// `count`, `time_window`, `key` and `key_type`.
fn read_rule(object: &mut Object<'_>, metadata: &Metadata) -> Option<Vec<Rule>> {
    let key = LimitKey::read(object, Some("remote_addr"));
    let (count, window_s) = read_amounts(object);
    let fields = metadata.limit_fields.clone();
    Some(vec![Rule { count: count?, window_s: window_s?, key: key?, fields }])
}

/// `rules`: each with a key of its own.
fn read_rules(object: &mut Object<'_>) -> Option<Vec<Rule>> {
    let mut seen = HashSet::new();
    let mut rules = Vec::new();
    // The number of a rule is the first byte of its keys.
    for (at, reader) in object.get("rules")?.list(1..=255)?.into_iter().enumerate() {
        let mut rule = reader.object()?;
        let key = rule.need("key").and_then(|reader| {
            let text = reader.string(1..=usize::MAX)?;
            if !seen.insert(text.to_owned()) {
                reader.error(format!("duplicate key '{text}' in rules"));
            }
            Some(LimitKey::combination(text, &reader))
        });
        let prefix = rule.get("header_prefix").and_then(|reader| {
            let prefix = reader.string(1..=usize::MAX)?;
            if !is_token(prefix.as_bytes()) {
                reader.error("`header_prefix` becomes a part of header names");
            }
            Some(prefix.to_owned())
        });
        let prefix = prefix.unwrap_or_else(|| (at + 1).to_string());
        let (count, window_s) = read_amounts(&mut rule);
        rule.allow_unknown();
        let fields = LimitFields::with_prefix(&format!("{prefix}-"));
        rules.push(Rule { count: count?, window_s: window_s?, key: key?, fields });
    }
    Some(rules)
}

fn read_amounts(object: &mut Object<'_>) -> (Option<Amount>, Option<Amount>) {
    let count = object.need("count").and_then(|reader| Amount::read(&reader, 1));
    let window_s = object.need("time_window").and_then(|reader| Amount::read(&reader, 1));
    (count, window_s)
}

#[cfg(test)]
#[path = "limit_count_tests.rs"]
mod tests;
