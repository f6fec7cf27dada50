//! Variables as configurations name them: rules and templates are compiled here, and a name that
//! can't have a value is shown where it stands.

use crate::expr::{Expr, Template};
use crate::schema::{Fault, Path, Problem, Reader};

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
    let at = |path: &[usize]| path.iter().fold(reader.at().clone(), |at: Path, to| at.index(*to));
    let mut refused = Vec::new();
    let compiled = Expr::compile_showing(reader.value(), &mut |path, name| {
        refused.extend(refusal(name).map(|fault| Problem::new(at(path), fault)));
    });
    refused.into_iter().for_each(|problem| reader.problems().error(problem));
    compiled
        .map_err(|error| reader.problems().error(Problem::new(at(&error.path), error.message)))
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
    if let Some(fault) = refusal(name) {
        reader.error(fault);
    }
}

fn refusal(name: &str) -> Option<Fault> {
    let (_, hint) = REFUSED.iter().find(|(begin, _)| name.starts_with(begin))?;
    Some(Fault::new(format!("the variable `{name}` never has a value here")).hint(*hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Problems;
    use serde_json::{Value, json};

    /// What is wrong with a value at `p`, each with its place.
    fn faults(value: &Value, read: impl Fn(&Reader<'_>)) -> Vec<String> {
        let problems = Problems::new();
        read(&Reader::new(value, Path::root().key("p"), &problems));
        problems.into_parts().0.iter().map(|p| format!("{}: {}", p.at, p.message)).collect()
    }

    #[test]
    fn rules_name_variables_that_there_are() {
        let never =
            |at: &str, name: &str| format!("p{at}: the variable `{name}` never has a value here");
        for (rule, wanted) in [
            (json!([["post_arg", "==", "1"], ["arg_post_arg_a", "~=", "1"]]), vec![]),
            (json!([["post_arg_admin", "==", "1"]]), vec![never("[0][0]", "post_arg_admin")]),
            (json!([["graphql_name", "query"]]), vec![never("[0][0]", "graphql_name")]),
            (
                json!(["OR", ["post_arg.a.b", "!", "==", 1], [["uri_param_id", "has", "x"]]]),
                vec![never("[1][0]", "post_arg.a.b"), never("[2][0][0]", "uri_param_id")],
            ),
            (json!([["a", "="]]), vec![]),
            (json!([["a", "=", 1]]), vec!["p[0][1]: invalid operator '='".to_owned()]),
        ] {
            let read = |reader: &Reader<'_>| drop(compile_rule(reader));
            assert_eq!(faults(&rule, read), wanted, "{rule}");
        }
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
            assert_eq!(faults(&Value::Null, read).len(), wanted, "{text}");
        }
    }
}
