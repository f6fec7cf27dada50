//! `proxy-rewrite`: what goes upstream instead of the request's own path, method, host and fields.
//!
//! As APISIX's plugin of that name (`apisix/plugins/proxy-rewrite.lua`), with two differences: a
//! path that nothing rewrites is passed on as it came, not decoded and encoded again; and what is
//! filled in for variables is encoded by its place, so that nothing in it can end the path or the
//! request line.

use super::fields::{self, FieldEdits};
use crate::expr::{Groups, Pattern, Replacement, Template, WithGroups};
use crate::http::uri;
use crate::plugin::{Action, Hooks, Message, Plugin, Stream, compile_template};
use crate::schema::{Fault, Object, Reader};
use std::sync::Arc;

pub(super) const NAME: &str = "proxy-rewrite";

const METHODS: [&str; 14] = [
    "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "MKCOL", "COPY", "MOVE", "PROPFIND", "LOCK",
    "UNLOCK", "PATCH", "TRACE",
];

#[derive(Debug)]
struct ProxyRewrite {
    target: Option<Target>,
    /// Patterns look at the target as received, query and encoding included, and what they make of
    /// it is sent as it is.
    raw: bool,
    method: Option<&'static str>,
    host: Option<Vec<u8>>,
    fields: FieldEdits,
    /// Some field's template names groups of the pattern.
    uses_groups: bool,
}

#[derive(Debug)]
enum Target {
    /// `uri`, split at its `?`.
    Uri { path: Template, query: Option<Template> },
    /// `regex_uri`: the first pattern that matches decides.
    Regex(Vec<(Pattern, Replacement)>),
}

impl Plugin for ProxyRewrite {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let scratch = &mut stream.locals.scratch;
        let message: &mut Message = stream.message;
        // Groups are borrowed from what the pattern matched, while the message is edited.
        let subject = if self.uses_groups { self.subject(message).to_vec() } else { Vec::new() };
        let groups = self.groups(&subject);
        if let Some(target) = &self.target {
            // Nothing but a buffer here: body bytes are there in body callbacks only.
            let mut made = std::mem::take(&mut message.body);
            self.rewrite_target(target, message, &mut made, scratch);
            made.clear();
            message.body = made;
        }
        if let Some(method) = self.method {
            message.request.method.clear();
            message.request.method.extend_from_slice(method.as_bytes());
        }
        if let Some(host) = &self.host {
            message.request.upstream_host.clone_from(host);
        }
        self.edit_fields(message, groups.as_ref(), scratch);
        Action::Continue
    }
}

impl ProxyRewrite {
    /// What `regex_uri` looks at.
    fn subject<'m>(&self, message: &'m Message) -> &'m [u8] {
        if self.raw { &message.request.target } else { &message.request.path }
    }

    fn groups<'s>(&self, subject: &'s [u8]) -> Option<Groups<'s>> {
        match &self.target {
            Some(Target::Regex(rules)) if self.uses_groups => {
                rules.iter().find_map(|(pattern, _)| pattern.captures(subject))
            }
            _ => None,
        }
    }

    fn rewrite_target(
        &self,
        target: &Target,
        message: &mut Message,
        made: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
    ) {
        made.clear();
        scratch.clear();
        let has_query = match target {
            Target::Uri { path, query } => {
                path.render(&*message, made);
                if self.raw {
                    uri::escape_target(made, scratch);
                } else {
                    uri::escape_path(made, scratch);
                }
                if let Some(query) = query {
                    made.clear();
                    query.render(&*message, made);
                    scratch.push(b'?');
                    uri::escape_target(made, scratch);
                }
                query.is_some()
            }
            Target::Regex(rules) => {
                let subject = self.subject(message);
                let matched = rules.iter().any(|(pattern, replacement)| {
                    made.clear();
                    pattern.replace(subject, replacement, false, made)
                });
                if !matched {
                    return;
                }
                self.escape_made(made, memchr::memchr(b'?', subject).is_some(), scratch)
            }
        };
        if !scratch.starts_with(b"/") {
            scratch.insert(0, b'/');
        }
        if !self.raw
            && let Some(query) = message.request.query()
        {
            scratch.push(if has_query { b'&' } else { b'?' });
            scratch.extend_from_slice(query);
        }
        std::mem::swap(&mut message.request.target, scratch);
    }

    /// Encodes what a replacement made. A `?` in it begins a query, unless the path had one of its
    /// own, which came as `%3F`. Tells whether there is a query.
    fn escape_made(&self, made: &[u8], is_own: bool, out: &mut Vec<u8>) -> bool {
        if self.raw {
            uri::escape_target(made, out);
            return false;
        }
        let mark = memchr::memchr(b'?', made).filter(|_| !is_own);
        uri::escape_path(&made[..mark.unwrap_or(made.len())], out);
        if let Some(at) = mark {
            uri::escape_target(&made[at..], out);
        }
        mark.is_some()
    }

    fn edit_fields(
        &self,
        message: &mut Message,
        groups: Option<&Groups<'_>>,
        scratch: &mut Vec<u8>,
    ) {
        let render = |template: &Template, message: &Message, out: &mut Vec<u8>| {
            fields::render(template, &WithGroups { groups, variables: message }, out);
        };
        for (name, template) in &self.fields.add {
            render(template, message, scratch);
            message.request.headers.append(name, scratch);
        }
        for (name, template) in &self.fields.set {
            render(template, message, scratch);
            if name.eq_ignore_ascii_case(b"host") {
                message.request.upstream_host.clone_from(scratch);
            } else {
                fields::set_or_remove(&mut message.request.headers, name, scratch);
            }
        }
        for name in &self.fields.remove {
            message.request.headers.remove(name);
        }
    }
}

/// Reads the configuration.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    if object.members().next().is_none() {
        object.error("expect object to have at least 1 properties");
    }
    let regex = object.get("regex_uri").and_then(read_rules).map(Target::Regex);
    let target = read_uri(&mut object).or(regex);
    let methods = METHODS.map(|method| (method, method));
    let fields =
        object.get("headers").and_then(|reader| FieldEdits::read(reader, fields::read_fields));
    let fields = fields.unwrap_or_default();
    let is_group = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let uses_groups = fields.templates().flat_map(Template::names).any(is_group);
    let plugin = ProxyRewrite {
        raw: object.boolean("use_real_request_uri_unsafe").unwrap_or(false),
        method: object.one_of("method", &methods),
        host: object.get("host").and_then(|reader| read_host(&reader)),
        uses_groups,
        target,
        fields,
    };
    object.finish();
    Some(Arc::new(plugin))
}

fn read_uri(object: &mut Object<'_>) -> Option<Target> {
    let reader = object.get("uri")?;
    let text = reader.string(1..=4096)?;
    if !text.starts_with('/') {
        reader.error("`uri` begins with a slash");
    }
    let (path, query) = compile_template(text, &reader).split_at('?');
    Some(Target::Uri { path, query })
}

/// Pairs of a pattern and what its match is replaced with.
fn read_rules(reader: Reader<'_>) -> Option<Vec<(Pattern, Replacement)>> {
    let list = reader.list(2..=usize::MAX)?;
    if list.len() % 2 != 0 {
        reader.error("The length of regex_uri should be an even number");
    }
    list.chunks_exact(2).map(|pair| read_rule(&pair[0], &pair[1])).collect()
}

/// A pattern and its replacement.
pub(super) fn read_rule(
    pattern: &Reader<'_>,
    replacement: &Reader<'_>,
) -> Option<(Pattern, Replacement)> {
    let compiled = Pattern::compile(pattern.string(0..=usize::MAX)?, "jo");
    let made = Replacement::compile(replacement.string(0..=usize::MAX)?);
    match (compiled, made) {
        (Ok(compiled), Ok(made)) => return Some((compiled, made)),
        (compiled, made) => {
            compiled.err().into_iter().for_each(|why| pattern.error(why));
            made.err().into_iter().for_each(|why| replacement.error(why));
        }
    }
    None
}

/// A name with perhaps a port.
fn read_host(reader: &Reader<'_>) -> Option<Vec<u8>> {
    let text = reader.string(1..=usize::MAX)?;
    let (name, port) = text.split_once(':').map_or((text, None), |(n, port)| (n, Some(port)));
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let is_port = |port: &str| {
        (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit())
    };
    if name.is_empty() || !name.bytes().all(is_name) || !port.is_none_or(is_port) {
        reader
            .error(Fault::new(format!("{text:?} is not a host")).hint("as in `example.com:8080`"));
    }
    Some(text.as_bytes().to_vec())
}

#[cfg(test)]
#[path = "proxy_rewrite_tests.rs"]
mod tests;
