//! `expr_create`, `expr_evaluate`, `expr_delete`: CEL over the properties.
//!
//! ```text
//! create    text ─► parsed ─► checked ─► the attributes it names ─► token
//! evaluate  token ─► those attributes' values now ─► interpreter ─► Envoy's encoding
//! ```
//!
//! The interpreter can't be interrupted, so what it is given is bounded: the length of the text,
//! its operators (the parser's stack grows with them), comprehensions (one at a time, without
//! regular expressions), and the size of a regular expression.

use super::super::abi::Status;
use super::super::guest::Guest;
use super::super::pairs::encode_exact;
use super::super::property::{Kind, NAMES, ROOTS, View};
use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::common::types::{CelBool, CelString};
use cel::objects::Key;
use cel::{Context, Env, ExecutionError, Value};
use chrono::{DateTime, Duration};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

/// Expressions one instance may keep.
const EXPRESSIONS_MAX: usize = 256;

const TEXT_BYTES_MAX: usize = 4096;

/// Operators of one text: each costs the parser up to two KiB of a thread's stack.
const OPERATORS_MAX: usize = 256;

/// How deep brackets may stand in brackets.
const NESTING_MAX: u16 = 32;

/// A compiled regular expression. Envoy bounds them too, in units of its own.
const REGEX_BYTES_MAX: usize = 64 << 10;

/// What an instance has created, by token.
#[derive(Debug, Default)]
pub(in super::super) struct Expressions {
    created: FxHashMap<u32, Expression>,
    next: u32,
}

impl Expressions {
    /// Whether none was ever created.
    pub(in super::super) fn are_none(&self) -> bool {
        self.created.is_empty() && self.next == 0
    }
}

#[derive(Debug)]
struct Expression {
    tree: IdedExpr,
    /// The paths of the attributes it names.
    paths: Vec<Vec<String>>,
}

/// The argument is the expression's text; a token comes back.
pub(super) fn create(guest: &mut Guest, text: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    let expression = Expression::parse(text).map_err(|why| {
        log::info!(target: "wasm", "[{}] expr_create: {why}", guest.facts.name);
        Status::BadArgument
    })?;
    let expressions = &mut guest.expressions;
    if expressions.created.len() == EXPRESSIONS_MAX {
        return Err(Status::InternalFailure);
    }
    let mut token = expressions.next;
    while expressions.created.contains_key(&token) {
        token = token.wrapping_add(1);
    }
    expressions.next = token.wrapping_add(1);
    expressions.created.insert(token, expression);
    out.extend_from_slice(&token.to_le_bytes());
    Ok(())
}

/// The argument is a token; the value comes back.
pub(super) fn evaluate(guest: &Guest, args: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    let token = token(args)?;
    let expression = guest.expressions.created.get(&token).ok_or(Status::NotFound)?;
    let value = expression.evaluate(View::new(guest)).map_err(|error| {
        log::debug!(target: "wasm", "[{}] expr_evaluate: {error}", guest.facts.name);
        Status::InternalFailure
    })?;
    encode(&value, out)
}

/// The argument is a token. One that is not known is no error.
pub(super) fn delete(guest: &mut Guest, args: &[u8]) -> Result<(), Status> {
    guest.expressions.created.remove(&token(args)?);
    Ok(())
}

fn token(args: &[u8]) -> Result<u32, Status> {
    args.try_into().map(u32::from_le_bytes).map_err(|_| Status::BadArgument)
}

/// What expressions may call: CEL's own functions, `matches` bounded.
fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut env = Env::stdlib();
        let global = cel::add_overload!(
            env,
            fn matches: (CelString, CelString) -> Result<CelBool>,
            id = "matches"
        );
        let member = cel::add_member_overload!(
            env,
            fn matches: (CelString, CelString) -> Result<CelBool>
        );
        debug_assert!(global.is_ok() && member.is_ok(), "nobody else declares `matches`");
        Arc::new(env)
    })
}

fn matches(text: &CelString<'_>, pattern: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    let regex = regex::RegexBuilder::new(pattern.inner()).size_limit(REGEX_BYTES_MAX).build();
    match regex {
        Ok(regex) => Ok(CelBool::from(regex.is_match(text.inner()))),
        Err(error) => Err(ExecutionError::function_error("matches", error)),
    }
}

impl Expression {
    fn parse(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        if text.len() > TEXT_BYTES_MAX || operators_of(text) > OPERATORS_MAX {
            return Err("it is too long".to_owned());
        }
        let parser = environment().parser().max_recursion_depth(NESTING_MAX);
        let tree = parser.parse(text).map_err(|errors| errors.to_string())?;
        let mut paths = Vec::new();
        look_through(&tree, false, &mut paths)?;
        Ok(Self { tree, paths })
    }

    fn evaluate(&self, view: View<'_>) -> Result<Value, ExecutionError> {
        let mut variables = Attributes::default();
        for path in &self.paths {
            variables.add(view, path);
        }
        let mut context = Context::with_env(Arc::clone(environment()));
        for (name, attributes) in variables.below {
            context.add_variable_from_value(name, attributes.into_value());
        }
        Value::resolve(&self.tree, &context)
    }
}

/// How many operators a text may have: bytes that can be a part of one, and the word `in`.
fn operators_of(text: &str) -> usize {
    let is_operator = |byte: &u8| byte.is_ascii_punctuation() && !b"_,\"'\\`".contains(byte);
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    text.bytes().filter(|byte| is_operator(byte)).count() + words.filter(|w| *w == "in").count()
}

/// Collects the paths of attributes, and refuses what could take too long.
fn look_through(
    tree: &IdedExpr,
    in_loop: bool,
    paths: &mut Vec<Vec<String>>,
) -> Result<(), String> {
    if let Some(path) = path_of(tree) {
        if !paths.contains(&path) {
            paths.push(path);
        }
        return Ok(());
    }
    let mut below = |tree: &IdedExpr| look_through(tree, in_loop, paths);
    match &tree.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Ok(()),
        Expr::Select(select) => below(&select.operand),
        Expr::List(list) => list.elements.iter().try_for_each(below),
        Expr::Map(map) => map.entries.iter().try_for_each(|e| entry(&e.expr, &mut below)),
        Expr::Struct(made) => made.entries.iter().try_for_each(|e| entry(&e.expr, &mut below)),
        Expr::Call(call) if in_loop && call.func_name == "matches" => {
            Err("it matches in a comprehension".to_owned())
        }
        Expr::Call(call) => call.target.iter().map(|t| &**t).chain(&call.args).try_for_each(below),
        Expr::Comprehension(_) if in_loop => {
            Err("it has a comprehension in a comprehension".to_owned())
        }
        Expr::Comprehension(c) => {
            look_through(&c.iter_range, false, paths)?;
            let parts = [&c.accu_init, &c.loop_cond, &c.loop_step, &c.result];
            parts.into_iter().try_for_each(|part| look_through(part, true, paths))
        }
    }
}

fn entry(
    entry: &EntryExpr,
    below: &mut impl FnMut(&IdedExpr) -> Result<(), String>,
) -> Result<(), String> {
    match entry {
        EntryExpr::StructField(field) => below(&field.value),
        EntryExpr::MapEntry(entry) => below(&entry.key).and_then(|()| below(&entry.value)),
    }
}

/// `a.b["c"]` as a path.
fn path_of(tree: &IdedExpr) -> Option<Vec<String>> {
    let (operand, last) = match &tree.expr {
        Expr::Ident(name) => return Some(vec![name.clone()]),
        Expr::Select(select) => (&*select.operand, select.field.clone()),
        Expr::Call(call) if call.func_name == operators::INDEX => match &call.args[..] {
            [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(key)), .. }] => {
                (operand, key.inner().to_owned())
            }
            _ => return None,
        },
        _ => return None,
    };
    let mut path = path_of(operand)?;
    path.push(last);
    Some(path)
}

/// The values of attributes, in maps as deep as their paths.
#[derive(Default)]
struct Attributes {
    value: Option<Value>,
    below: BTreeMap<String, Attributes>,
}

impl Attributes {
    /// Adds the attribute at a path, if it is there; else the maps above it that are: `has()` asks
    /// of them.
    fn add(&mut self, view: View<'_>, path: &[String]) {
        let joined = path.join("\0");
        if let Some(value) = value_at(view, joined.as_bytes()) {
            return self.at(path).put(value);
        }
        for len in 1..path.len() {
            let above = path[..len].join("\0");
            let is_map = len == 1 && ROOTS.contains(&above.as_str())
                || view.get(above.as_bytes(), &mut Vec::new()) == Some(Kind::Map);
            // Every filter has the field that all namespaces stand in.
            let is_message = path[len - 1].ends_with("metadata");
            if is_map || is_message {
                self.at(&path[..len]);
            }
        }
    }

    fn at(&mut self, path: &[String]) -> &mut Self {
        path.iter().fold(self, |at, name| at.below.entry(name.clone()).or_default())
    }

    fn put(&mut self, value: Value) {
        match value {
            Value::Map(map) => {
                for (key, value) in map.map.iter() {
                    if let Key::String(name) = key {
                        self.below.entry(name.to_string()).or_default().put(value.clone());
                    }
                }
            }
            value => self.value = Some(value),
        }
    }

    fn into_value(self) -> Value {
        if let Some(value) = self.value {
            return value;
        }
        let fields = self.below.into_iter().map(|(name, below)| (name, below.into_value()));
        map(fields)
    }
}

fn map(fields: impl Iterator<Item = (String, Value)>) -> Value {
    let fields = fields.map(|(name, value)| (Key::from(name), value));
    Value::from(fields.collect::<HashMap<Key, Value>>())
}

/// The attribute at a path. Of a root alone that is all that is below it.
fn value_at(view: View<'_>, path: &[u8]) -> Option<Value> {
    if let Some((_, names)) = NAMES.iter().find(|(root, _)| root.as_bytes() == path) {
        let field = |name: &&str| {
            let value = value_at(view, &[path, b"\0", name.as_bytes()].concat())?;
            Some(((*name).to_owned(), value))
        };
        return Some(map(names.iter().filter_map(field)));
    }
    let mut bytes = Vec::new();
    Some(match view.get(path, &mut bytes)? {
        Kind::Text => Value::from(String::from_utf8_lossy(&bytes).into_owned()),
        Kind::Bytes | Kind::Message => Value::from(bytes),
        Kind::Bool => Value::Bool(bytes.first() == Some(&1)),
        Kind::Int => Value::Int(word(&bytes).cast_signed()),
        Kind::Uint => Value::UInt(word(&bytes)),
        Kind::Time => Value::Timestamp(DateTime::from_timestamp_nanos(ns(&bytes)).fixed_offset()),
        Kind::Duration => Value::Duration(Duration::nanoseconds(ns(&bytes))),
        Kind::Map => map(view.keys(path).into_iter().filter_map(|key| {
            let value = value_at(view, &[path, b"\0", &key].concat())?;
            Some((String::from_utf8_lossy(&key).into_owned(), value))
        })),
    })
}

fn word(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

fn ns(bytes: &[u8]) -> i64 {
    i64::try_from(word(bytes)).unwrap_or(i64::MAX)
}

/// Appends a value in Envoy's encoding (`serializeValue`). What has none is a failure.
fn encode(value: &Value, out: &mut Vec<u8>) -> Result<(), Status> {
    match value {
        Value::Null => {}
        Value::Bool(value) => out.push((*value).into()),
        Value::Int(value) => out.extend_from_slice(&value.to_le_bytes()),
        Value::UInt(value) => out.extend_from_slice(&value.to_le_bytes()),
        Value::Float(value) => out.extend_from_slice(&value.to_le_bytes()),
        Value::String(value) => out.extend_from_slice(value.as_bytes()),
        Value::Bytes(value) => out.extend_from_slice(value),
        Value::Duration(value) => {
            let ns = value.num_nanoseconds().ok_or(Status::SerializationFailure)?;
            out.extend_from_slice(&ns.to_le_bytes());
        }
        Value::Timestamp(value) => {
            let ns = value.timestamp_nanos_opt().ok_or(Status::SerializationFailure)?;
            out.extend_from_slice(&ns.to_le_bytes());
        }
        Value::List(values) => {
            let encoded = values.iter().map(|value| (encoded(value), Ok(Vec::new())));
            encode_pairs(encoded, out)?;
        }
        Value::Map(map) => {
            let mut sorted: Vec<(&Key, &Value)> = map.map.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            let key = |key: &Key| encoded(&Value::from(key.clone()));
            encode_pairs(sorted.into_iter().map(|(k, v)| (key(k), encoded(v))), out)?;
        }
        _ => return Err(Status::SerializationFailure),
    }
    Ok(())
}

type Encoded = Result<Vec<u8>, Status>;

fn encoded(value: &Value) -> Encoded {
    let mut out = Vec::new();
    encode(value, &mut out).map(|()| out)
}

fn encode_pairs(
    pairs: impl Iterator<Item = (Encoded, Encoded)>,
    out: &mut Vec<u8>,
) -> Result<(), Status> {
    let pairs = pairs.map(|(key, value)| Ok((key?, value?)));
    let pairs = pairs.collect::<Result<Vec<_>, Status>>()?;
    encode_exact(|| pairs.iter().map(|(key, value)| (&key[..], &value[..])), out);
    Ok(())
}
