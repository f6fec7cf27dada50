//! What a module's bytes say of their making, beside what they do.

use super::module::{LoadError, binary};
use wasmparser::{KnownCustom, Name, Parser, Payload, ProducersField};

/// Who made a module, from its custom sections. Nothing here is needed to run it, and all of it may
/// be missing: release builds are often stripped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anatomy {
    /// Languages of the sources, from the section `producers`: `C99`, `Go`.
    pub languages: Vec<String>,
    /// Compilers and SDKs with their versions, from the same section: `rustc 1.96.0`.
    pub tools: Vec<String>,
    /// Names of functions, as backtraces and profiles show them, from the section `name`.
    pub function_names: Vec<String>,
    /// Functions with code in this module.
    pub functions: u32,
    /// Bytes of their code.
    pub code_bytes: usize,
}

impl Anatomy {
    /// Looks through `.wasm` or `.wat` bytes. Broken custom sections count as missing.
    ///
    /// # Errors
    /// When the bytes are neither form, or what is not custom in them can't be read.
    pub fn of(bytes: &[u8]) -> Result<Self, LoadError> {
        let bytes = binary(bytes)?;
        let mut anatomy = Self::default();
        for payload in Parser::new(0).parse_all(&bytes) {
            match payload.map_err(|error| LoadError::Invalid(error.to_string()))? {
                Payload::CodeSectionStart { count, size, .. } => {
                    (anatomy.functions, anatomy.code_bytes) = (count, size as usize);
                }
                Payload::CustomSection(section) => anatomy.add(section.as_known()),
                _ => {}
            }
        }
        Ok(anatomy)
    }

    fn add(&mut self, section: KnownCustom<'_>) {
        match section {
            KnownCustom::Producers(fields) => {
                fields.into_iter().flatten().for_each(|field| self.add_producers(&field));
            }
            KnownCustom::Name(names) => names.into_iter().flatten().for_each(|name| {
                if let Name::Function(names) = name {
                    let names = names.into_iter().flatten();
                    self.function_names.extend(names.map(|naming| naming.name.to_owned()));
                }
            }),
            _ => {}
        }
    }

    fn add_producers(&mut self, field: &ProducersField<'_>) {
        for value in field.values.clone().into_iter().flatten() {
            // `1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)`: the number is enough.
            let version = value.version.split(' ').next().unwrap_or_default();
            let text = format!("{} {version}", value.name).trim().to_owned();
            if field.name == "language" {
                self.languages.push(text);
            } else {
                self.tools.push(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_sections_are_read_and_broken_ones_ignored() {
        let text = r#"(module
            (@producers (language "C99" "") (processed-by "rustc" "1.96.0 (ac68faa20)"))
            (func $first) (func $second (call $first)))"#;
        let anatomy = Anatomy::of(text.as_bytes()).expect("a module");
        assert_eq!(anatomy.languages, ["C99"]);
        assert_eq!(anatomy.tools, ["rustc 1.96.0"]);
        assert_eq!(anatomy.function_names, ["first", "second"]);
        assert_eq!(anatomy.functions, 2);
        assert!(anatomy.code_bytes > 0);

        let broken = r#"(module (@custom "name" "\01\ff") (@custom "producers" "\7f") (func))"#;
        let anatomy = Anatomy::of(broken.as_bytes()).expect("a module");
        assert_eq!((anatomy.function_names.len(), anatomy.functions), (0, 1));
        assert!(matches!(Anatomy::of(b"junk"), Err(LoadError::NotWasm(_))));
        assert!(matches!(Anatomy::of(b"\0asm\x01\0\0\0\x01"), Err(LoadError::Invalid(_))));
    }
}
