//! Variables as configurations name them: rules and templates are compiled here, and a name that
//! can't have a value is shown where it stands.
//!
//! `docs/CONFIG.md` lists the names that are here; a test holds both together, another one asks for
//! the value of each.

use super::LogFormat;
use crate::expr::{Expr, Template};
use crate::schema::{Fault, Path, Problem, Problems, Reader};

/// What names of variables with a name in them begin with.
const PREFIXES: [&str; 5] = ["arg_", "cookie_", "http_", "sent_http_", "upstream_http_"];

/// All other variables.
pub(super) const NAMES: [&str; 59] = [
    "apisix_request_id",
    "args",
    "balancer_ip",
    "balancer_port",
    "body_bytes_sent",
    "connection",
    "consumer_group_id",
    "consumer_name",
    "content_length",
    "content_type",
    "document_uri",
    "host",
    "hostname",
    "https",
    "is_args",
    "method",
    "msec",
    "pid",
    "proxy_add_x_forwarded_for",
    "proxy_protocol_addr",
    "proxy_protocol_port",
    "proxy_protocol_server_addr",
    "proxy_protocol_server_port",
    "query_string",
    "real_request_uri",
    "realip_remote_addr",
    "realip_remote_port",
    "remote_addr",
    "remote_port",
    "remote_user",
    "request",
    "request_id",
    "request_line",
    "request_method",
    "request_uri",
    "response_details",
    "response_source",
    "route_id",
    "route_name",
    "scheme",
    "server_addr",
    "server_port",
    "server_protocol",
    "service_id",
    "service_name",
    "status",
    "time_iso8601",
    "time_local",
    "upstream_addr",
    "upstream_connect_time",
    "upstream_header_time",
    "upstream_host",
    "upstream_name",
    "upstream_response_time",
    "upstream_scheme",
    "upstream_status",
    "upstream_tries",
    "upstream_uri",
    "uri",
];

/// Those that only a finished request has, in the access log.
const LOGGED: [&str; 4] = ["bytes_sent", "request_length", "request_number", "request_time"];

/// Variables of APISIX that no request has here, by how their names begin, and what to do instead.
/// They are refused: a rule with `==` would never hold and one with `~=` always, so that what it
/// guards would be open.
const REFUSED: [(&str, &str); 4] = [
    ("post_arg_", BODY),
    ("post_arg.", BODY),
    ("graphql_", BODY),
    ("uri_param_", "there is no router with parameters; match `uri` with `~~`"),
];

const BODY: &str = "no variable is made of the body; have the client say it in the query (`arg_*`) \
                    or in a header (`http_*`)";

/// Compiles a rule; what is wrong with it is shown where it is.
#[must_use]
pub fn compile_rule(reader: &Reader<'_>) -> Option<Expr> {
    let problems = reader.problems();
    let at = |path: &[usize]| path.iter().fold(reader.at().clone(), |at: Path, to| at.index(*to));
    Expr::compile_showing(reader.value(), &mut |path, name| check(name, problems, || at(path)))
        .map_err(|error| problems.error(Problem::new(at(&error.path), error.message)))
        .ok()
}

/// Compiles a template, which is what `reader` reads or a part of it.
#[must_use]
pub fn compile_template(text: &str, reader: &Reader<'_>) -> Template {
    let template = Template::compile(text);
    template.names().for_each(|name| check_variable(name, reader));
    template
}

/// Shows what is wrong with the name of a variable, which is what `reader` reads or a part of it.
pub fn check_variable(name: &str, reader: &Reader<'_>) {
    check(name, reader.problems(), || reader.at().clone());
}

/// Shows which variables of a format of the access log have no value. Nothing is open by that.
pub fn check_log_format(format: &LogFormat, reader: &Reader<'_>) {
    let has_none = |name: &&str| !is_known(name) && !LOGGED.contains(name);
    format.names().filter(has_none).for_each(|name| reader.warn(never(name)));
}

fn check(name: &str, problems: &Problems, at: impl FnOnce() -> Path) {
    if let Some((_, hint)) = REFUSED.iter().find(|(begin, _)| name.starts_with(begin)) {
        problems.error(Problem::new(at(), never(name).hint(*hint)));
    } else if LOGGED.contains(&name) {
        let fault = Fault::new(format!("the variable `{name}` has a value in the access log only"));
        problems.warn(Problem::new(at(), fault));
    } else if !is_known(name) && !is_group(name) {
        problems.warn(Problem::new(at(), never(name)));
    }
}

fn never(name: &str) -> Fault {
    Fault::new(format!("the variable `{name}` never has a value here"))
        .hint("docs/CONFIG.md lists the variables there are")
}

fn is_known(name: &str) -> bool {
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// `$1` of `proxy-rewrite`.
fn is_group(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Escape;
    use serde_json::{Value, json};

    /// Errors and warnings about a value at `p`, each with its place.
    fn faults(value: &Value, read: impl Fn(&Reader<'_>)) -> [Vec<String>; 2] {
        let problems = Problems::new();
        read(&Reader::new(value, Path::root().key("p"), &problems));
        let (errors, warnings) = problems.into_parts();
        let show = |p: &Problem| format!("{}: {}", p.at, p.message);
        [errors, warnings].map(|problems| problems.iter().map(show).collect())
    }

    #[test]
    fn rules_name_variables_that_there_are() {
        let never =
            |at: &str, name: &str| format!("p{at}: the variable `{name}` never has a value here");
        for (rule, wanted) in [
            (json!([["uri", "==", "1"], ["arg_post_arg_a", "~=", "1"]]), vec![]),
            (json!([["post_arg_admin", "==", "1"]]), vec![never("[0][0]", "post_arg_admin")]),
            (json!([["graphql_name", "query"]]), vec![never("[0][0]", "graphql_name")]),
            (
                json!(["OR", ["post_arg.a.b", "!", "==", 1], [["uri_param_id", "has", "x"]]]),
                vec![never("[1][0]", "post_arg.a.b"), never("[2][0][0]", "uri_param_id")],
            ),
            (json!([["uri", "="]]), vec![]),
            (json!([["uri", "=", 1]]), vec!["p[0][1]: invalid operator '='".to_owned()]),
        ] {
            let read = |reader: &Reader<'_>| drop(compile_rule(reader));
            assert_eq!(faults(&rule, read), [wanted, vec![]], "{rule}");
        }
    }

    #[test]
    fn names_nobody_has_are_shown() {
        let never = "never has a value here";
        for (text, wanted) in [
            ("$1 $uri", None),
            ("$ssl_cipher", Some(format!("the variable `ssl_cipher` {never}"))),
            ("${ remote_adr }", Some(format!("the variable `remote_adr` {never}"))),
            (
                "$request_time",
                Some("the variable `request_time` has a value in the access log only".to_owned()),
            ),
        ] {
            let wanted: Vec<_> = wanted.iter().map(|message| format!("p: {message}")).collect();
            let read = |reader: &Reader<'_>| drop(compile_template(text, reader));
            assert_eq!(faults(&Value::Null, read), [vec![], wanted], "{text}");
        }
        let rule = json!([["remote_adr", "==", "1"]]);
        let read = |reader: &Reader<'_>| drop(compile_rule(reader));
        let wanted = format!("p[0][0]: the variable `remote_adr` {never}");
        assert_eq!(faults(&rule, read), [vec![], vec![wanted]]);
        let format = "$request_time $post_arg_a $uri";
        let read = |reader: &Reader<'_>| {
            check_log_format(&LogFormat::compile(format, Escape::Default), reader);
        };
        let wanted = format!("p: the variable `post_arg_a` {never}");
        assert_eq!(faults(&Value::Null, read), [vec![], vec![wanted]]);
    }

    #[test]
    fn the_page_lists_all_names() {
        let page = include_str!("../../docs/CONFIG.md");
        let (_, rest) = page.split_once("<!-- variables -->\n").expect("where the table begins");
        let (table, _) = rest.split_once("<!-- /variables -->").expect("where it ends");
        let cells = table.lines().skip(2).filter_map(|row| row.split('|').nth(1));
        let mut listed: Vec<&str> =
            cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        listed.sort_unstable();
        let prefixed = PREFIXES.map(|prefix| format!("{prefix}NAME"));
        let prefixed = prefixed.iter().map(String::as_str);
        let mut wanted: Vec<&str> = NAMES.into_iter().chain(LOGGED).chain(prefixed).collect();
        wanted.sort_unstable();
        assert_eq!(listed, wanted);
    }

    #[test]
    fn templates_name_variables_that_there_are() {
        for (text, wanted) in [
            ("$arg_a ${ http_b ?? c } post_arg_a", 0),
            ("a $post_arg.a.b", 1),
            ("${ uri_param_id ?? none }$graphql_operation", 2),
            (r"\$post_arg_a", 0),
        ] {
            let read = |reader: &Reader<'_>| drop(compile_template(text, reader));
            assert_eq!(faults(&Value::Null, read)[0].len(), wanted, "{text}");
        }
    }
}
