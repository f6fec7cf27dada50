//! As much of Rust as tidy has to understand: comments, strings, `mod`, `use`, functions.

use std::collections::BTreeSet;

/// A file in the forms that checks look at. All have the same lines.
pub(crate) struct Source {
    /// Its path from the repository's root.
    pub(crate) name: String,
    pub(crate) text: String,
    /// With the content of strings gone.
    pub(crate) without_strings: String,
    /// With comments blank too.
    pub(crate) everything: String,
    /// And without `#[cfg(test)]` modules in it.
    pub(crate) code: String,
    pub(crate) is_test: bool,
}

/// A function as it lies in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

impl Source {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let without_strings = strip(text, true);
        let everything = strip(text, false);
        let code = without_test_modules(&everything);
        let (name, text) = (name.to_owned(), text.to_owned());
        Self { name, text, without_strings, everything, code, is_test: false }
    }

    /// The room: the folder below `src`, or the file there.
    pub(crate) fn room(&self) -> String {
        let rest = self.name.strip_prefix("src/").unwrap_or(&self.name);
        let first = rest.split('/').next().unwrap_or_default();
        first.trim_end_matches(".rs").to_owned()
    }

    /// Marks the file if it is, or lies below, a module that only tests have.
    pub(crate) fn known_as_test_by(mut self, modules: &BTreeSet<String>) -> Self {
        self.is_test = modules.iter().any(|module| {
            let folder = module.trim_end_matches("mod.rs").trim_end_matches(".rs");
            *module == self.name
                || self.name.starts_with(&format!("{}/", folder.trim_end_matches('/')))
        });
        self
    }

    /// Files of the modules declared here under `#[cfg(test)]`.
    pub(crate) fn test_modules(&self) -> Vec<String> {
        self.declared(true)
    }

    /// Files of all modules declared here.
    pub(crate) fn modules(&self) -> Vec<String> {
        self.declared(false)
    }

    fn declared(&self, only_tests: bool) -> Vec<String> {
        let mut files = Vec::new();
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = module_name(line) else { continue };
            let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
            let attributes: Vec<&str> = attributes.copied().collect();
            if only_tests && !attributes.contains(&"#[cfg(test)]") {
                continue;
            }
            let path = attributes.iter().find_map(|line| line.strip_prefix("#[path = \""));
            files.extend(self.files_of(name, path.and_then(|path| path.strip_suffix("\"]"))));
        }
        files
    }

    /// Where the file of a module may be.
    fn files_of(&self, module: &str, path: Option<&str>) -> Vec<String> {
        let (folder, file) = self.name.rsplit_once('/').unwrap_or(("", &self.name));
        if let Some(path) = path {
            return vec![format!("{folder}/{path}")];
        }
        let inner = match file {
            "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
            _ => format!("{folder}/{}", file.trim_end_matches(".rs")),
        };
        vec![format!("{inner}/{module}.rs"), format!("{inner}/{module}/mod.rs")]
    }

    /// Rooms that the code names by `crate::room`, by `ringgate::room` in `main`, or by
    /// `super::room` where `super` is the crate, each with its line.
    pub(crate) fn rooms_used(&self) -> Vec<(usize, String)> {
        let mut starts = vec!["crate::"];
        if self.room() == "main" {
            starts.push("ringgate::");
        }
        if self.name.split('/').count() == 3 && self.name.ends_with("/mod.rs") {
            starts.push("super::");
        }
        let mut used = Vec::new();
        for start in starts {
            for at in path_starts(&self.code, start) {
                let line = self.code[..at].matches('\n').count() + 1;
                let rest = &self.code[at + start.len()..];
                used.extend(first_names(rest).into_iter().map(|name| (line, name)));
            }
        }
        used.sort();
        used
    }

    /// Lines where a path begins with that name.
    pub(crate) fn lines_with_path(&self, name: &str) -> Vec<usize> {
        let starts = path_starts(&self.code, &format!("{name}::"));
        starts.into_iter().map(|at| self.code[..at].matches('\n').count() + 1).collect()
    }
}

/// The name in `mod name;`, with or without visibility.
fn module_name(line: &str) -> Option<&str> {
    let line = line.strip_suffix(';')?;
    let (before, name) = line.rsplit_once(' ')?;
    let is_mod = before == "mod" || (before.starts_with("pub") && before.ends_with(" mod"));
    is_mod.then_some(name)
}

/// Where `start` stands as the first part of a path.
fn path_starts(code: &str, start: &str) -> Vec<usize> {
    let found = code.match_indices(start).map(|(at, _)| at);
    found
        .filter(|at| {
            let before = code[..*at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        })
        .collect()
}

/// The first name of a path, or of each path in braces.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let mut names = Vec::new();
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(name(&group[begin..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(&group[begin..at]));
                begin = at + 1;
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The text with what is in strings gone, and comments blank unless they are kept.
fn strip(text: &str, keep_comments: bool) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['"', ..] => string(rest),
            ['r', ..] if raw_string(rest).is_some() && !follows_name(&bytes, at) => {
                raw_string(rest).unwrap_or(1)
            }
            ['\'', ..] => character(rest),
            _ => 0,
        };
        if end == 0 {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        let is_comment = rest[0] == '/';
        let piece = &rest[..end];
        if is_comment && keep_comments {
            out.extend(piece);
        } else {
            out.push_str(if is_comment { "" } else { "\"\"" });
            out.extend(piece.iter().filter(|c| **c == '\n'));
        }
        at += end;
    }
    out
}

fn follows_name(bytes: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| bytes[before]);
    // `br"..."` is a raw string too.
    before.is_some_and(|c| (c.is_alphanumeric() || c == '_') && c != 'b')
}

fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    rest.len().min(at + 1)
}

fn raw_string(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let mut end = vec!['"'];
    end.extend(std::iter::repeat_n('#', hashes));
    let start = 2 + hashes;
    let found = rest[start..].windows(end.len()).position(|window| window == end);
    Some(found.map_or(rest.len(), |at| start + at + end.len()))
}

/// A character, or 0 for a lifetime.
fn character(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', ..] => {
            let end = rest[2..].iter().skip(1).position(|c| *c == '\'');
            end.map_or(0, |end| end + 4)
        }
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

/// The code with modules under `#[cfg(test)]` blank.
fn without_test_modules(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let end = item_end(after);
        out.extend(after[..end].chars().filter(|c| *c == '\n'));
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

/// Where the item at the start of `code` ends: its `;`, or the brace that closes its body.
fn item_end(code: &str) -> usize {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => others += 1,
            ')' | ']' => others = others.saturating_sub(1),
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return at + 1;
                }
            }
            ';' if braces == 0 && others == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// All functions with a body, with the number of their lines.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let mut functions = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at..];
        let name: String =
            rest[3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let end = item_end(rest);
        if name.is_empty() || !rest[..end].ends_with('}') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        functions.push(Function { name, line, lines: rest[..end].matches('\n').count() + 1 });
    }
    functions
}
