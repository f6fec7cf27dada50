//! Rules: from the JSON of a configuration to a tree that answers true or false.
//!
//! ```text
//! rule      = []                                  always true
//!           | [ item, ... ]                       all items hold
//!           | [ "AND" | "OR" | "!AND" | "!OR", item, item, ... ]
//! item      = rule | condition
//! condition = [ variable, operator, value ]
//!           | [ variable, "!", operator, value ]
//!           | [ variable, value ]                 means ==
//! ```
//!
//! The source of every rule and message here is `api7/lua-resty-expr`, `lib/resty/expr/v1.lua`.
//! One thing differs on purpose: it lower-cases the value of the two-element form, we compare it as
//! it is written.

use super::Variables;
use super::operators::{Operator, Test};
use serde_json::Value;
use std::error::Error;
use std::fmt;

/// A compiled rule.
#[derive(Clone, Debug)]
pub struct Expr(Node);

/// Why a rule can't be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprError {
    /// Where: the index in the rule, then the index in that item, and so on. Empty: the rule
    /// itself.
    pub path: Vec<usize>,
    /// What is wrong, in the words of resty-expr where it has any.
    pub message: String,
}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ExprError {}

#[derive(Clone, Debug)]
enum Node {
    /// `AND`, or `!AND` if negated. Without items: true.
    All { items: Vec<Node>, negated: bool },
    /// `OR`, or `!OR` if negated.
    Any { items: Vec<Node>, negated: bool },
    /// One condition, or its opposite if negated.
    Condition { variable: Box<str>, test: Test, negated: bool },
}

impl Expr {
    /// Compiles a rule.
    ///
    /// # Errors
    /// See [`ExprError`].
    pub fn compile(rule: &Value) -> Result<Self, ExprError> {
        Self::compile_showing(rule, &mut |_, _| {})
    }

    /// Compiles a rule and shows its variables on the way, with their places as in
    /// [`ExprError::path`], to somebody who knows which there are.
    ///
    /// # Errors
    /// See [`ExprError`].
    pub fn compile_showing(
        rule: &Value,
        show: &mut dyn FnMut(&[usize], &str),
    ) -> Result<Self, ExprError> {
        let mut place = Place { path: Vec::new(), show };
        let node = match rule.as_array().map(Vec::as_slice) {
            Some([]) => Ok(Node::All { items: Vec::new(), negated: false }),
            Some(items) if wraps(&items[0]) || is_logical(&items[0]) => item(rule, &mut place),
            _ => Err("rule should be wrapped inside brackets".to_owned()),
        };
        node.map(Self).map_err(|message| ExprError { path: place.path, message })
    }

    /// Whether the rule holds. Items are asked in order, and only until the answer is known.
    #[must_use]
    pub fn matches(&self, variables: &dyn Variables) -> bool {
        self.0.holds(variables)
    }
}

impl Node {
    fn holds(&self, variables: &dyn Variables) -> bool {
        match self {
            Self::All { items, negated } => items.iter().all(|i| i.holds(variables)) != *negated,
            Self::Any { items, negated } => items.iter().any(|i| i.holds(variables)) != *negated,
            Self::Condition { variable, test, negated } => {
                test.holds(variables.variable(variable).as_deref()) != *negated
            }
        }
    }
}

/// Where the compiler is, and who sees the variables that are there.
struct Place<'a> {
    path: Vec<usize>,
    show: &'a mut dyn FnMut(&[usize], &str),
}

/// Compiles a rule or a condition. On an error `place` is left where that is.
fn item(value: &Value, place: &mut Place<'_>) -> Result<Node, String> {
    let list = value.as_array().ok_or("invalid expression")?;
    let first = list.first().ok_or("rule too short")?;
    if wraps(first) {
        return Ok(Node::All { items: items(list, 0, place)?, negated: false });
    }
    let Some(word) = first.as_str().filter(|_| is_logical(first)) else {
        return condition(list, place);
    };
    if list.len() <= 2 {
        return Err("rule too short".to_owned());
    }
    let items = items(list, 1, place)?;
    let negated = word.starts_with('!');
    let any = word.len() == if negated { 3 } else { 2 };
    Ok(if any { Node::Any { items, negated } } else { Node::All { items, negated } })
}

fn items(list: &[Value], from: usize, place: &mut Place<'_>) -> Result<Vec<Node>, String> {
    let mut nodes = Vec::with_capacity(list.len() - from);
    for (index, value) in list.iter().enumerate().skip(from) {
        place.path.push(index);
        nodes.push(item(value, place)?);
        place.path.pop();
    }
    Ok(nodes)
}

fn condition(list: &[Value], place: &mut Place<'_>) -> Result<Node, String> {
    let negated = list.len() == 4;
    if negated && list[1] != "!" {
        return Err("bad 'not' expression".to_owned());
    }
    let at = 1 + usize::from(negated);
    let variable = variable_name(&list[0]).ok_or("invalid expression")?;
    let written = list.get(at).ok_or("invalid expression")?;
    let operator = written.as_str().and_then(Operator::from_name);
    let test = match (operator, list.get(at + 1)) {
        (Some(operator), value) => {
            place.of_part(at + 1, Test::compile(operator, value.unwrap_or(&Value::Null)))?
        }
        (None, None) => place.of_part(at, Test::compile(Operator::Equal, written))?,
        (None, Some(_)) => place.of_part(at, Err(unknown(written)))?,
    };
    place.show(&variable);
    Ok(Node::Condition { variable, test, negated })
}

impl Place<'_> {
    /// Moves to a condition's part if compiling that part failed.
    fn of_part<T>(&mut self, at: usize, part: Result<T, String>) -> Result<T, String> {
        if part.is_err() {
            self.path.push(at);
        }
        part
    }

    /// Shows the variable of the condition that is here: its first part.
    fn show(&mut self, variable: &str) {
        self.path.push(0);
        (self.show)(&self.path, variable);
        self.path.pop();
    }
}

fn unknown(operator: &Value) -> String {
    match operator.as_str() {
        Some("!=") => "invalid operator '!=' (write '~=' for not equal)".to_owned(),
        Some(name) => format!("invalid operator '{}'", name.to_ascii_lowercase()),
        None => format!("invalid operator '{operator}'"),
    }
}

fn variable_name(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(name) => Some(name.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// Whether a rule that begins with this value is a list of rules (Lua: the value is a table).
fn wraps(first: &Value) -> bool {
    first.is_array() || first.is_object()
}

fn is_logical(first: &Value) -> bool {
    const WORDS: [&str; 4] = ["AND", "OR", "!AND", "!OR"];
    first.as_str().is_some_and(|word| WORDS.iter().any(|known| known.eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(rule: Value, variables: &[(&str, &str); 3]) -> bool {
        Expr::compile(&rule).unwrap_or_else(|error| panic!("{rule}: {error}")).matches(variables)
    }

    #[test]
    fn rules_join_their_items() {
        let vars = [("name", "jack"), ("age", "17"), ("empty", "")];
        let (t, f) = (json!(["name", "==", "jack"]), json!(["name", "==", "rose"]));
        for (rule, expected) in [
            (json!([]), true),
            (json!([t]), true),
            (json!([f]), false),
            (json!([t, t]), true),
            (json!([t, f]), false),
            (json!(["AND", t, t]), true),
            (json!(["AND", t, f]), false),
            (json!(["and", t, t]), true),
            (json!(["OR", f, t]), true),
            (json!(["Or", f, f]), false),
            (json!(["!AND", t, t]), false),
            (json!(["!AND", t, f]), true),
            (json!(["!and", f, f]), true),
            (json!(["!OR", f, f]), true),
            (json!(["!or", f, t]), false),
            (json!(["OR", f, ["AND", t, ["!OR", f, f]]]), true),
            (json!([["OR", f, t], ["OR", f, f]]), false),
            (json!([["OR", f, t], t]), true),
            (json!([[t, t], [[t]]]), true),
            (json!([[t, f], [[t]]]), false),
        ] {
            assert_eq!(holds(rule.clone(), &vars), expected, "{rule}");
        }
    }

    #[test]
    fn conditions_have_three_forms() {
        let vars = [("name", "Jack"), ("age", "17"), ("5", "five")];
        for (rule, expected) in [
            (json!([["name", "Jack"]]), true),
            (json!([["name", "jack"]]), false),
            (json!([["age", 17]]), true),
            (json!([["missing", null]]), true),
            (json!([["name", null]]), false),
            (json!([["missing", "=="]]), true),
            (json!([["name", "=="]]), false),
            (json!([["name", "!", "==", "rose"]]), true),
            (json!([["name", "!", "==", "Jack"]]), false),
            (json!([["name", "!", "~~", "^J"]]), false),
            (json!([["name", "IN", ["Jack"]]]), true),
            (json!([["name", "==", "Jack", 1, 2]]), true),
            (json!([[5, "==", "five"]]), true),
        ] {
            assert_eq!(holds(rule.clone(), &vars), expected, "{rule}");
        }
    }

    #[test]
    fn errors_say_where() {
        let ok = json!(["name", "==", "jack"]);
        let brackets = "rule should be wrapped inside brackets";
        for (rule, path, message) in [
            (json!(["arg_name", "!=", "jack"]), &[][..], brackets),
            (json!(null), &[], brackets),
            (json!({"a": 1}), &[], brackets),
            (json!("x"), &[], brackets),
            (json!([7]), &[], brackets),
            (json!([["k", "=", "v"]]), &[0, 1], "invalid operator '='"),
            (json!([ok, ["k", "Foo", "v"]]), &[1, 1], "invalid operator 'foo'"),
            (json!([["k", "!", "=", "v"]]), &[0, 2], "invalid operator '='"),
            (json!([["k", "!", "=="]]), &[0, 1], "invalid operator '!'"),
            (json!([["k", 5, 6]]), &[0, 1], "invalid operator '5'"),
            (
                json!([["k", "!=", "v"]]),
                &[0, 1],
                "invalid operator '!=' (write '~=' for not equal)",
            ),
            (json!([["k"]]), &[0], "invalid expression"),
            (json!([[true, "==", 1]]), &[0], "invalid expression"),
            (json!([[null, "==", 1]]), &[0], "invalid expression"),
            (json!([ok, "x"]), &[1], "invalid expression"),
            // A variable can't have a logical operator's name.
            (json!([["and", "==", "x"], ok]), &[0, 1], "invalid expression"),
            (json!([["!", "arg_k", "==", "1"]]), &[0], "bad 'not' expression"),
            (json!([[]]), &[0], "rule too short"),
            (json!([{}]), &[0], "invalid expression"),
            (json!(["OR", ok]), &[], "rule too short"),
            (json!(["OR"]), &[], "rule too short"),
            (json!(["OR", ok, ["AND"]]), &[2], "rule too short"),
            (json!(["OR", ok, ["AND", ok, ["k", "?", 1]]]), &[2, 2, 1], "invalid operator '?'"),
            (json!([["k", "ipmatch", ""]]), &[0, 2], "invalid ip address"),
            (json!([["k", "ipmatch"]]), &[0, 2], "invalid ip address"),
        ] {
            let error = Expr::compile(&rule).expect_err(&rule.to_string());
            assert_eq!((&error.path[..], &error.message[..]), (path, message), "{rule}");
        }
    }

    #[test]
    fn variables_are_shown_with_their_places() {
        let rule = json!([["a", "==", 1], ["OR", ["b", "!", "in", ["x"]], [["c", 2], [5, 6]]]]);
        let mut shown = Vec::new();
        let compiled = Expr::compile_showing(&rule, &mut |path, name| {
            shown.push((path.to_vec(), name.to_owned()));
        });
        assert!(compiled.is_ok());
        let wanted = [
            (vec![0, 0], "a"),
            (vec![1, 1, 0], "b"),
            (vec![1, 2, 0, 0], "c"),
            (vec![1, 2, 1, 0], "5"),
        ];
        assert_eq!(shown, wanted.map(|(path, name)| (path, name.to_owned())));
    }

    #[test]
    fn examples_of_fault_injection() {
        let young = json!([["arg_name", "==", "jack"], ["arg_age", "!", "<", 18]]);
        for (age, expected) in [("18", true), ("20", true), ("17", false), ("x", true)] {
            let vars = [("arg_name", "jack"), ("arg_age", age), ("", "")];
            assert_eq!(holds(young.clone(), &vars), expected, "{age}");
        }
        let not_and = json!(["!AND", ["arg_name", "==", "jack"], ["arg_age", "!", "<", 18]]);
        for (age, expected) in [("17", true), ("18", false)] {
            let vars = [("arg_name", "jack"), ("arg_age", age), ("", "")];
            assert_eq!(holds(not_and.clone(), &vars), expected, "{age}");
        }
    }
}
