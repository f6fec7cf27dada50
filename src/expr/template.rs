//! Templates: text with `$name`, `${name}` and `${name ?? default}` in it.
//!
//! APISIX finds variables with the pattern `(?<!\\)\$(\{\s*([^}]+?)\s*\}|([\w\.]+))`
//! (`apisix/core/utils.lua`, `resolve_var`). What that means:
//!
//! - after a backslash `$` is text, and the backslash stays;
//! - `$name` takes letters, digits, `_` and `.`, as many as there are;
//! - in braces everything up to `}` is the name, spaces around it do not count;
//! - after `??` comes what an undefined variable gives, as text; a second `??` ends it;
//! - a variable without value and without default gives nothing; `$` with no name is text.

use super::Variables;

/// A compiled template. Rendering copies pieces into a buffer and asks for variables, nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Variable { name: Box<str>, default: Box<str> },
}

impl Template {
    /// Compiles a template. Every text is one.
    #[must_use]
    pub fn compile(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut text_from = 0;
        let mut at = 0;
        while let Some(dollar) = text[at..].find('$').map(|found| at + found) {
            at = dollar + 1;
            let escaped = text[..dollar].ends_with('\\');
            let found = if escaped { None } else { variable(&text[at..]) };
            if let Some((part, len)) = found {
                push_text(&mut parts, &text[text_from..dollar]);
                parts.push(part);
                at += len;
                text_from = at;
            }
        }
        push_text(&mut parts, &text[text_from..]);
        Self { parts: parts.into() }
    }

    /// Whether it renders to the same bytes for every request.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.as_static().is_some()
    }

    /// The bytes of a template without variables.
    #[must_use]
    pub fn as_static(&self) -> Option<&[u8]> {
        match &*self.parts {
            [] => Some(b""),
            [Part::Text(text)] => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// Appends the template with its variables' values to `out`. Gives the number of variables that
    /// had a value.
    pub fn render(&self, variables: &dyn Variables, out: &mut Vec<u8>) -> usize {
        let mut resolved = 0;
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable { name, default } => {
                    if variables.append_variable(name, out) {
                        resolved += 1;
                    } else {
                        out.extend_from_slice(default.as_bytes());
                    }
                }
            }
        }
        resolved
    }

    /// The names of its variables, as often as they stand there.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Variable { name, .. } => Some(&**name),
        })
    }

    /// Splits it at the first of that character in its text, which is left out.
    #[must_use]
    pub fn split_at(mut self, mark: char) -> (Self, Option<Self>) {
        let is_mark = |part: &Part| matches!(part, Part::Text(text) if text.contains(mark));
        let Some(at) = self.parts.iter().position(is_mark) else { return (self, None) };
        let mut parts = std::mem::take(&mut self.parts).into_vec();
        let mut after = parts.split_off(at + 1);
        if let Some(Part::Text(text)) = parts.pop()
            && let Some((left, right)) = text.split_once(mark)
        {
            push_text(&mut parts, left);
            let mut right_parts = Vec::with_capacity(after.len() + 1);
            push_text(&mut right_parts, right);
            right_parts.append(&mut after);
            return (Self { parts: parts.into() }, Some(Self { parts: right_parts.into() }));
        }
        (Self { parts: parts.into() }, None)
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
}

/// The variable whose name or brace comes right after a `$`, and how many bytes it takes there.
fn variable(rest: &str) -> Option<(Part, usize)> {
    let Some(inside) = rest.strip_prefix('{') else {
        let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let len = rest.find(|c| !in_name(c)).unwrap_or(rest.len());
        let part = || Part::Variable { name: rest[..len].into(), default: "".into() };
        return (len > 0).then(|| (part(), len));
    };
    let end = inside.find('}').filter(|end| *end > 0)?;
    let mut words = inside[..end].split("??").map(str::trim_ascii);
    let name = words.next().unwrap_or_default().into();
    let default = words.next().unwrap_or_default().into();
    Some((Part::Variable { name, default }, end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str) -> String {
        let vars = [
            ("name", "jack"),
            ("empty", ""),
            ("arg_count", "2"),
            ("post_arg.a.b", "deep"),
            ("odd name", "odd"),
        ];
        let mut out = b"> ".to_vec();
        Template::compile(text).render(&vars, &mut out);
        String::from_utf8(out).expect("text")[2..].to_owned()
    }

    #[test]
    fn variables_are_filled_in() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$name", "jack"),
            ("a $name b", "a jack b"),
            ("$name$name", "jackjack"),
            ("$name,$arg_count", "jack,2"),
            ("$names", ""),
            ("$name-x", "jack-x"),
            ("$name.", ""),
            ("$post_arg.a.b", "deep"),
            ("[$missing]", "[]"),
            ("[$empty]", "[]"),
            ("$nameé", "jacké"),
            (r#"{"count": $arg_count}"#, r#"{"count": 2}"#),
            // braces
            ("${name}", "jack"),
            ("${name}s", "jacks"),
            ("${ name }", "jack"),
            ("${odd name}", "odd"),
            ("${missing}", ""),
            ("${name ?? x}", "jack"),
            ("${missing ?? x}", "x"),
            ("${missing??x}", "x"),
            ("${missing ?? a b }", "a b"),
            ("${missing ?? $name}", "$name"),
            ("${missing ?? a ?? b}", "a"),
            ("${empty ?? x}", ""),
            ("${missing ??}", ""),
            ("${?? x}", "x"),
            ("${name}}", "jack}"),
            // text that looks like variables
            ("$", "$"),
            ("a$", "a$"),
            ("$ name", "$ name"),
            ("$$name", "$jack"),
            ("${}", "${}"),
            ("${name", "${name"),
            ("$-", "$-"),
            // escapes: the backslash stays
            (r"\$name", r"\$name"),
            (r"\${name}", r"\${name}"),
            (r"\\$name", r"\\$name"),
            (r"\$$name", r"\$jack"),
            (r"\n$name", r"\njack"),
            (r"$name\$name", r"jack\$name"),
        ] {
            assert_eq!(render(text), expected, "{text}");
        }
    }

    #[test]
    fn static_templates_are_known() {
        for text in ["", "plain", "$", r"\$name", "${}"] {
            let template = Template::compile(text);
            assert_eq!(template.as_static(), Some(text.as_bytes()), "{text}");
            assert!(template.is_static());
        }
        for text in ["$name", "a${b}", "${a ?? b}"] {
            assert!(!Template::compile(text).is_static(), "{text}");
        }
    }
}
