//! The operators of conditions (APISIX reference §3.2; `api7/lua-resty-expr`, `compare_funcs`).
//!
//! Variables are byte strings or nothing, so `has`, whose left side must be a list, never holds.
//! Where Lua compares values of different types they differ: `in` finds a number in no list, while
//! `==` with a number on the right converts the left side. `true` and `false` on the right are
//! compared with those words, because that is what a variable can hold.

use ipnet::{IpNet, Ipv4Net};
use regex::bytes::{Regex, RegexBuilder};
use serde_json::Value;
use std::cmp::Ordering;
use std::net::IpAddr;

/// An operator by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Order(Order),
    Find { ignore_case: bool },
    In,
    Has,
    IpMatch,
}

/// The four orderings, which compare numbers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Operator {
    /// The operator of that name, in any case.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "==" => Self::Equal,
            "~=" => Self::NotEqual,
            ">" => Self::Order(Order::Greater),
            ">=" => Self::Order(Order::GreaterOrEqual),
            "<" => Self::Order(Order::Less),
            "<=" => Self::Order(Order::LessOrEqual),
            "~~" => Self::Find { ignore_case: false },
            "~*" => Self::Find { ignore_case: true },
            "in" => Self::In,
            "has" => Self::Has,
            "ipmatch" => Self::IpMatch,
            _ => return None,
        })
    }
}

/// An operator with its right side, ready to be asked.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Equal(Right),
    NotEqual(Right),
    Order(Order, f64),
    Find(Regex),
    In(Vec<Right>),
    IpMatch(Vec<IpNet>),
    /// A test that holds for no left side.
    Never,
}

/// A right side.
#[derive(Clone, Debug)]
pub(super) enum Right {
    Nil,
    Number(f64),
    Text(Box<[u8]>),
    /// A list or an object: equal to nothing.
    Other,
}

impl Right {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Nil,
            Value::Bool(flag) => Self::Text(flag.to_string().into_bytes().into()),
            Value::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => Self::Text(text.as_bytes().into()),
            Value::Array(_) | Value::Object(_) => Self::Other,
        }
    }

    /// Lua's `==` without conversion.
    fn is(&self, left: Option<&[u8]>) -> bool {
        match (self, left) {
            (Self::Nil, None) => true,
            (Self::Text(right), Some(left)) => **right == *left,
            _ => false,
        }
    }

    /// The operator `==`. `~=` is its opposite in every case, also for a left side that is no
    /// number.
    fn equals(&self, left: Option<&[u8]>) -> bool {
        match self {
            Self::Number(right) => number(left) == Some(*right),
            _ => self.is(left),
        }
    }
}

impl Test {
    /// Compiles the right side for `operator`.
    pub(super) fn compile(operator: Operator, right: &Value) -> Result<Self, String> {
        Ok(match operator {
            Operator::Equal => Self::Equal(Right::of(right)),
            Operator::NotEqual => Self::NotEqual(Right::of(right)),
            Operator::Order(order) => match Right::of(right) {
                Right::Number(bound) => Self::Order(order, bound),
                Right::Text(text) => match number(Some(&text)) {
                    Some(bound) => Self::Order(order, bound),
                    None => Self::Never,
                },
                Right::Nil | Right::Other => Self::Never,
            },
            Operator::Find { ignore_case } => Self::Find(regex(right, ignore_case)?),
            Operator::In => match right {
                Value::Array(elements) => Self::In(elements.iter().map(Right::of).collect()),
                _ => Self::Never,
            },
            Operator::Has => Self::Never,
            Operator::IpMatch => Self::IpMatch(addresses(right)?),
        })
    }

    /// Whether the condition holds for a variable's value.
    pub(super) fn holds(&self, left: Option<&[u8]>) -> bool {
        match self {
            Self::Equal(right) => right.equals(left),
            Self::NotEqual(right) => !right.equals(left),
            Self::Order(order, right) => number(left).is_some_and(|left| {
                let ordering = left.partial_cmp(right);
                match order {
                    Order::Greater => ordering == Some(Ordering::Greater),
                    Order::GreaterOrEqual => ordering.is_some_and(Ordering::is_ge),
                    Order::Less => ordering == Some(Ordering::Less),
                    Order::LessOrEqual => ordering.is_some_and(Ordering::is_le),
                }
            }),
            Self::Find(regex) => left.is_some_and(|left| regex.is_match(left)),
            Self::In(elements) => left.is_some() && elements.iter().any(|right| right.is(left)),
            Self::IpMatch(nets) => left
                .and_then(address)
                .is_some_and(|address| nets.iter().any(|net| net.contains(&address))),
            Self::Never => false,
        }
    }
}

/// Lua's `tonumber`: decimal or hexadecimal, with a sign, spaces around.
fn number(text: Option<&[u8]>) -> Option<f64> {
    let text = std::str::from_utf8(text?.trim_ascii()).ok()?;
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let magnitude = match hex {
        Some("") => return None,
        Some(hex) => hex.chars().try_fold(0.0, |sum, digit| {
            digit.to_digit(16).map(|digit| sum * 16.0 + f64::from(digit))
        })?,
        None if digits.starts_with(['+', '-']) => return None,
        None => digits.parse().ok()?,
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// A pattern as PCRE without options takes it: bytes, ASCII classes.
fn regex(pattern: &Value, ignore_case: bool) -> Result<Regex, String> {
    let pattern = match pattern {
        Value::String(pattern) => pattern.clone(),
        Value::Number(number) => number.to_string(),
        other => return Err(format!("a regular expression must be a string, not {other}")),
    };
    build_regex(&pattern, if ignore_case { "i" } else { "" })
}

/// The same with the options of `ngx.re`, one letter each.
pub(super) fn build_regex(pattern: &str, options: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(pattern);
    builder.unicode(false);
    for option in options.chars() {
        match option {
            'i' => builder.case_insensitive(true),
            's' => builder.dot_matches_new_line(true),
            'm' => builder.multi_line(true),
            'x' => builder.ignore_whitespace(true),
            // How PCRE compiles and caches, and UTF-8, which the pattern's bytes are already.
            'j' | 'o' | 'u' | 'U' | 'd' | 'D' => &mut builder,
            _ => return Err(format!("regular expressions have no option '{option}'")),
        };
    }
    builder.build().map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        if reason.starts_with("look-around") || reason.starts_with("backreferences") {
            return format!(
                "regular expression '{pattern}' can't be used: {reason}; expressions here always \
                 run in linear time, so write the condition as two ('!' reverses one)"
            );
        }
        format!("invalid regular expression '{pattern}': {reason}")
    })
}

/// The addresses and networks of `ipmatch`: one, or a list.
fn addresses(right: &Value) -> Result<Vec<IpNet>, String> {
    let list = match right {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    if list.is_empty() || matches!(right, Value::Null | Value::Bool(false)) || *right == "" {
        return Err("invalid ip address".to_owned());
    }
    let network = |one: &Value| one.as_str().and_then(parse_network);
    list.iter().map(|one| network(one).ok_or_else(|| invalid_address(one))).collect()
}

fn invalid_address(value: &Value) -> String {
    match value.as_str() {
        Some(text) => format!("invalid ip address: {text}"),
        None => format!("invalid ip address: {value}"),
    }
}

/// An address or a network, as text; an address is a network of itself. The bits behind the
/// network's are zero, and one of IPv4-mapped IPv6 addresses is the IPv4 network it means:
/// addresses are compared in their canonical form too ([`IpAddr::to_canonical`]).
#[must_use]
pub fn parse_network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.ok().map(|network| canonical(network).trunc())
}

fn canonical(net: IpNet) -> IpNet {
    let (IpNet::V6(v6), IpAddr::V4(v4)) = (net, net.addr().to_canonical()) else { return net };
    let length = v6.prefix_len().checked_sub(96);
    length.and_then(|length| Ipv4Net::new(v4, length).ok()).map_or(net, IpNet::V4)
}

fn address(text: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn test(operator: &str, right: &Value) -> Test {
        let known = Operator::from_name(operator).expect("a known operator");
        Test::compile(known, right).unwrap_or_else(|error| panic!("{operator} {right}: {error}"))
    }

    /// (left, operator, right, holds)
    type Row = (Option<&'static str>, &'static str, Value, bool);

    fn check(rows: Vec<Row>) {
        for (left, operator, right, expected) in rows {
            let holds = test(operator, &right).holds(left.map(str::as_bytes));
            assert_eq!(holds, expected, "{left:?} {operator} {right}");
        }
    }

    #[test]
    fn equality() {
        let rows: Vec<Row> = vec![
            (Some("a"), "==", json!("a"), true),
            (Some("a"), "==", json!("A"), false),
            (Some("5"), "==", json!(5), true),
            (Some("5.0"), "==", json!(5), true),
            (Some(" 0x10 "), "==", json!(16), true),
            (Some("5.0"), "==", json!("5"), false),
            (Some("five"), "==", json!(5), false),
            (Some(""), "==", json!(0), false),
            (None, "==", json!(5), false),
            (None, "==", json!("a"), false),
            (None, "==", json!(null), true),
            (Some(""), "==", json!(null), false),
            (Some("true"), "==", json!(true), true),
            (Some("a"), "==", json!(["a"]), false),
        ];
        let opposite = rows.iter().cloned();
        check(opposite.map(|(left, _, right, holds)| (left, "~=", right, !holds)).collect());
        check(rows);
    }

    #[test]
    fn orderings_compare_numbers() {
        check(vec![
            (Some("10"), ">", json!(9), true),
            (Some("9"), ">", json!(9), false),
            (Some("9"), ">=", json!(9), true),
            (Some("9"), ">=", json!("9.5"), false),
            (Some("-1"), "<", json!(0), true),
            (Some("0"), "<", json!(-0.5), false),
            (Some("1e3"), "<=", json!(1000), true),
            (Some("10"), ">", json!("9"), true),
            (Some("b"), ">", json!("a"), false),
            (Some("10"), ">", json!("a"), false),
            (Some("x"), "<", json!(18), false),
            (None, "<", json!(18), false),
            (None, ">", json!(18), false),
            (Some("1"), ">", json!(null), false),
            (Some("1"), ">", json!([0]), false),
        ]);
    }

    #[test]
    fn numbers_as_lua_reads_them() {
        for (text, expected) in [
            ("12", Some(12.0)),
            ("+12", Some(12.0)),
            (" -1.5\t", Some(-1.5)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("1E2", Some(100.0)),
            ("0xff", Some(255.0)),
            ("-0XFF", Some(-255.0)),
            ("", None),
            ("-", None),
            ("+-1", None),
            ("0x", None),
            ("0xg", None),
            ("12a", None),
            ("1 2", None),
        ] {
            assert_eq!(number(Some(text.as_bytes())), expected, "{text:?}");
        }
        assert_eq!(number(Some(b"\xff")), None);
    }

    #[test]
    fn regular_expressions_search() {
        check(vec![
            (Some("hello"), "~~", json!("ll"), true),
            (Some("hello"), "~~", json!("^ll"), false),
            (Some("hello"), "~~", json!("^[a-z]+$"), true),
            (Some("HELLO"), "~~", json!("hello"), false),
            (Some("HELLO"), "~*", json!("hello"), true),
            (Some("a/b"), "~~", json!(r"\/"), true),
            (Some("é"), "~~", json!("^..$"), true),
            (Some("é"), "~~", json!(r"\w"), false),
            (Some("x7"), "~~", json!(7), true),
            (Some(""), "~~", json!(""), true),
            (None, "~~", json!(""), false),
            (None, "~*", json!("a"), false),
        ]);
        let compile = |pattern: Value| {
            let find = Operator::Find { ignore_case: false };
            Test::compile(find, &pattern).map(|_| ()).expect_err(&pattern.to_string())
        };
        for pattern in ["a(?=b)", "(?<!a)b", r"(a)\1"] {
            let message = compile(json!(pattern));
            assert!(message.contains("can't be used"), "{message}");
            assert!(message.contains("linear time"), "{message}");
        }
        assert_eq!(compile(json!("a(")), "invalid regular expression 'a(': unclosed group");
        assert!(compile(json!(null)).contains("must be a string"));
    }

    #[test]
    fn lists() {
        check(vec![
            (Some("a"), "in", json!(["b", "a"]), true),
            (Some("c"), "in", json!(["b", "a"]), false),
            (Some("5"), "in", json!(["5"]), true),
            (Some("5"), "in", json!([5]), false),
            (None, "in", json!([null]), false),
            (Some("a"), "in", json!("a"), false),
            (Some("a"), "in", json!([]), false),
            (Some("a"), "has", json!("a"), false),
            (None, "has", json!("a"), false),
        ]);
    }

    #[test]
    fn addresses_match_networks() {
        check(vec![
            (Some("127.0.0.1"), "ipmatch", json!("127.0.0.1"), true),
            (Some("127.0.0.2"), "ipmatch", json!("127.0.0.1"), false),
            (Some("10.1.2.3"), "ipmatch", json!(["192.168.0.0/16", "10.0.0.0/8"]), true),
            (Some("11.1.2.3"), "ipmatch", json!(["192.168.0.0/16", "10.0.0.0/8"]), false),
            (Some("10.1.2.3"), "ipmatch", json!("10.9.9.9/8"), true),
            (Some("::1"), "ipmatch", json!("::1"), true),
            (Some("fe80::9"), "ipmatch", json!("fe80::/32"), true),
            (Some("::ffff:10.0.0.1"), "ipmatch", json!("10.0.0.0/8"), true),
            (Some("10.0.0.1"), "ipmatch", json!("::ffff:10.0.0.0/104"), true),
            (Some("10.0.0.1"), "ipmatch", json!("::ffff:10.0.0.1"), true),
            (Some("10.0.0.1"), "ipmatch", json!("::/0"), false),
            (Some("nonsense"), "ipmatch", json!("0.0.0.0/0"), false),
            (None, "ipmatch", json!("0.0.0.0/0"), false),
        ]);
        let message = |right: Value| {
            Test::compile(Operator::IpMatch, &right).map(|_| ()).expect_err(&right.to_string())
        };
        for right in [json!(""), json!([]), json!(null)] {
            assert_eq!(message(right), "invalid ip address");
        }
        assert_eq!(message(json!("1.2.3")), "invalid ip address: 1.2.3");
        assert_eq!(message(json!(["1.2.3.4", "1.2.3.4/33"])), "invalid ip address: 1.2.3.4/33");
        assert_eq!(message(json!([5])), "invalid ip address: 5");
    }
}
