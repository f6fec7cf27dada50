//! Lists: filters and pages (APISIX reference §10).

use super::super::document::Item;
use super::answer::Answer;
use super::kinds::id_text;
use super::query::Query;
use serde_json::{Value, json};
use std::sync::Arc;

const PAGE_MIN: usize = 10;
const PAGE_MAX: usize = 500;

/// Characters of a pattern for `uri`: a filter is no place for programs.
const PATTERN_BYTES_MAX: usize = 1024;

/// The answer to a GET of a collection.
pub(super) fn list<'a>(
    items: impl Iterator<Item = (String, &'a Arc<Item>)>,
    query: &Query,
    show: impl Fn(&str, &Item) -> Value,
) -> Answer {
    let filter = match Filter::new(query) {
        Ok(filter) => filter,
        Err(why) => return Answer::bad(why),
    };
    let page = match Page::new(query) {
        Ok(page) => page,
        Err(why) => return Answer::bad(why),
    };
    let found: Vec<_> = items.filter(|(_, item)| filter.takes(&item.value)).collect();
    let total = found.len();
    let shown = |(key, item): &(String, &Arc<Item>)| show(key, item);
    let list: Vec<Value> = match page {
        Some(Page { number, size }) => {
            let skip = (number - 1).saturating_mul(size);
            found.iter().skip(skip).take(size).map(shown).collect()
        }
        None => found.iter().map(shown).collect(),
    };
    Answer::ok(json!({ "total": total, "list": list }))
}

struct Page {
    number: usize,
    size: usize,
}

impl Page {
    fn new(query: &Query) -> Result<Option<Self>, String> {
        if query.get("page").is_none() && query.get("page_size").is_none() {
            return Ok(None);
        }
        let number = |name: &str, default: usize| match query.get(name) {
            None => Ok(default),
            Some(text) => text.parse::<usize>().map_err(|_| format!("invalid {name}: {text}")),
        };
        let page = Self { number: number("page", 1)?, size: number("page_size", PAGE_MIN)? };
        if page.number == 0 {
            return Err("page must be at least 1".to_owned());
        }
        if !(PAGE_MIN..=PAGE_MAX).contains(&page.size) {
            return Err(format!("page_size must be between {PAGE_MIN} and {PAGE_MAX}"));
        }
        Ok(Some(page))
    }
}

/// What an item must have: all of it.
struct Filter {
    name: Option<String>,
    label: Option<(String, Option<String>)>,
    uri: Option<regex::Regex>,
    /// `filter=service_id=1&upstream_id=2`, encoded once more.
    members: Vec<(String, String)>,
}

impl Filter {
    fn new(query: &Query) -> Result<Self, String> {
        let uri = match query.get("uri") {
            Some(pattern) if pattern.len() > PATTERN_BYTES_MAX => {
                return Err("the pattern for uri is too long".to_owned());
            }
            Some(pattern) => {
                let regex = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build();
                Some(regex.map_err(|error| format!("invalid pattern for uri: {error}"))?)
            }
            None => None,
        };
        let label = query.get("label").filter(|label| !label.is_empty());
        let pair = |label: &str| match label.split_once(':') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (label.to_owned(), None),
        };
        let mut members = Vec::new();
        for (name, value) in Query::parse(query.get("filter").unwrap_or_default()).pairs() {
            if !["service_id", "upstream_id"].contains(&name) {
                return Err(format!("unsupported filter: {name}"));
            }
            members.push((name.to_owned(), value.to_owned()));
        }
        let name = query.get("name").filter(|name| !name.is_empty()).map(str::to_owned);
        Ok(Self { name, label: label.map(pair), uri, members })
    }

    fn takes(&self, value: &Value) -> bool {
        let has_name = |wanted: &String| {
            ["name", "username"].iter().any(|key| {
                value.get(*key).and_then(Value::as_str).is_some_and(|name| name.contains(wanted))
            })
        };
        let has_label = |(name, wanted): &(String, Option<String>)| {
            let label = value.get("labels").and_then(|labels| labels.get(name));
            let label = label.and_then(Value::as_str);
            label.is_some_and(|label| wanted.as_ref().is_none_or(|wanted| wanted == label))
        };
        let has_uri = |pattern: &regex::Regex| {
            let list = value.get("uris").and_then(Value::as_array).into_iter().flatten();
            let mut all = list.chain(value.get("uri")).filter_map(Value::as_str);
            all.any(|uri| pattern.is_match(uri))
        };
        let has_member = |(name, wanted): &(String, String)| {
            value.get(name).and_then(id_text).is_some_and(|own| own == *wanted)
        };
        self.name.as_ref().is_none_or(has_name)
            && self.label.as_ref().is_none_or(has_label)
            && self.uri.as_ref().is_none_or(has_uri)
            && self.members.iter().all(has_member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(query: &str) -> Result<(u64, Vec<String>), String> {
        let value = |n: u64| {
            json!({
                "uri": format!("/r{n}"), "name": format!("route {n}"), "service_id": n % 3,
                "labels": { "env": if n < 5 { "prod" } else { "test" } },
            })
        };
        let item = |n| Arc::new(Item { value: value(n), created: n, modified: n, expires_s: None });
        let items: Vec<_> = (0..25).map(|n| (format!("{n:02}"), item(n))).collect();
        let items = items.iter().map(|(key, item)| (key.clone(), item));
        let answer = list(items, &Query::parse(query), |key, _| key.into());
        let body = answer.body.expect("a body");
        if let Some(error) = body["error_msg"].as_str() {
            return Err(error.to_owned());
        }
        let keys = body["list"].as_array().expect("a list").iter();
        let keys = keys.map(|key| key.as_str().expect("a key").to_owned()).collect();
        Ok((body["total"].as_u64().expect("a number"), keys))
    }

    #[test]
    fn filters_and_pages() {
        let (total, all) = listed("").expect("all");
        assert_eq!((total, all.len()), (25, 25));
        assert_eq!(
            listed("page=3&page_size=10"),
            Ok((25, (20..25).map(|n| n.to_string()).collect()))
        );
        assert_eq!(listed("page=9"), Ok((25, vec![])));
        assert_eq!(listed("name=route+7"), Ok((1, vec!["07".to_owned()])));
        assert_eq!(listed("label=env:prod&uri=r[34]"), Ok((2, vec!["03".into(), "04".into()])));
        assert_eq!(listed("label=env").expect("all").0, 25);
        assert_eq!(listed("label=none").expect("none").0, 0);
        assert_eq!(listed("filter=service_id%3D1").expect("a third").0, 8);
        for (query, wanted) in [
            ("page=0", "page must be at least 1"),
            ("page_size=9", "page_size must be between 10 and 500"),
            ("page_size=x", "invalid page_size: x"),
            ("filter=a%3D1", "unsupported filter: a"),
        ] {
            assert_eq!(listed(query), Err(wanted.to_owned()), "{query}");
        }
        assert!(listed("uri=(").is_err());
    }
}
