//! Values that plugins keep in an exchange, by name, over one arena.
//!
//! ```text
//! arena    name│value│name│value│longer value
//! entries  └─────────┘    └───────────┘ with traits
//! ```
//!
//! A value that fits where its old one was replaces it there; a longer one goes to the end. Both
//! vectors are kept between exchanges.

use crate::http::Span;

/// Bytes the values of one exchange may take, names and values that were replaced included.
const BYTES_MAX: usize = 1 << 20;

/// Values kept in one exchange.
const COUNT_MAX: usize = 1024;

/// What a value is (Envoy's `WasmType`). The bytes a plugin reads are the same for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PropertyType {
    /// Any bytes.
    #[default]
    Bytes,
    /// Text: what expressions may compare with strings.
    Text,
    /// A FlatBuffers table.
    FlatBuffers,
    /// A protobuf message.
    Protobuf,
}

/// How long a value is kept (Envoy's `LifeSpan`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LifeSpan {
    /// To the end of the exchange.
    #[default]
    Exchange,
    /// To the end of the downstream connection: later exchanges of it begin with the value.
    Connection,
}

/// What was declared of a value before it was set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PropertyTraits {
    /// It is set once.
    pub read_only: bool,
    /// What it is.
    pub kind: PropertyType,
    /// How long it is kept.
    pub span: LifeSpan,
}

impl PropertyTraits {
    /// Bytes of the exchange that nobody changes.
    #[must_use]
    pub fn once() -> Self {
        Self { read_only: true, ..Self::default() }
    }
}

/// One value with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property<'a> {
    /// Any bytes; not empty.
    pub name: &'a [u8],
    /// Any bytes.
    pub value: &'a [u8],
    /// As declared when it was first set.
    pub traits: PropertyTraits,
}

/// Why a value was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyError {
    /// It has no name.
    Nameless,
    /// It has a value already and takes no other.
    ReadOnly,
    /// All values together would take too much.
    TooMuch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    name: Span,
    value: Span,
    traits: PropertyTraits,
}

/// All values of one exchange, in the order they were first set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    arena: Vec<u8>,
    entries: Vec<Entry>,
}

impl Properties {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Property<'_>> + Clone {
        self.entries.iter().map(|entry| self.property(entry))
    }

    /// The one of that name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<Property<'_>> {
        self.iter().find(|property| property.name == name)
    }

    /// Sets or replaces a value. Its traits are those given with the first.
    ///
    /// # Errors
    /// Nothing is changed then.
    pub fn set(
        &mut self,
        name: &[u8],
        value: &[u8],
        traits: PropertyTraits,
    ) -> Result<(), PropertyError> {
        if name.is_empty() {
            return Err(PropertyError::Nameless);
        }
        let Some(at) = self.iter().position(|property| property.name == name) else {
            return self.add(name, value, traits);
        };
        let entry = self.entries[at];
        if entry.traits.read_only {
            return Err(PropertyError::ReadOnly);
        }
        let value = if value.len() <= entry.value.len as usize {
            let start = entry.value.start as usize;
            self.arena[start..start + value.len()].copy_from_slice(value);
            Span::new(start, start + value.len())
        } else {
            self.make_room(value.len())?;
            self.store(value)
        };
        self.entries[at].value = value;
        Ok(())
    }

    /// Adds those of `other` that outlive their exchange.
    pub fn inherit(&mut self, other: &Self) {
        if other.entries.is_empty() {
            return;
        }
        for property in other.iter().filter(|p| p.traits.span == LifeSpan::Connection) {
            // They fit in there, so they fit in here, before anything else is set.
            let _ = self.set(property.name, property.value, property.traits);
        }
    }

    fn add(
        &mut self,
        name: &[u8],
        value: &[u8],
        traits: PropertyTraits,
    ) -> Result<(), PropertyError> {
        if self.entries.len() == COUNT_MAX {
            return Err(PropertyError::TooMuch);
        }
        self.make_room(name.len().saturating_add(value.len()))?;
        let (name, value) = (self.store(name), self.store(value));
        self.entries.push(Entry { name, value, traits });
        Ok(())
    }

    /// Makes sure that so many bytes may be added; replaced values give up their place for that.
    fn make_room(&mut self, bytes: usize) -> Result<(), PropertyError> {
        let fits = |used: usize| used.saturating_add(bytes) <= BYTES_MAX;
        if fits(self.arena.len()) {
            return Ok(());
        }
        let used: u32 = self.entries.iter().map(|entry| entry.name.len + entry.value.len).sum();
        if !fits(used as usize) {
            return Err(PropertyError::TooMuch);
        }
        let old = std::mem::take(self);
        for entry in &old.entries {
            let Property { name, value, traits } = old.property(entry);
            let (name, value) = (self.store(name), self.store(value));
            self.entries.push(Entry { name, value, traits });
        }
        Ok(())
    }

    fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        Span::new(start, self.arena.len())
    }

    fn property(&self, entry: &Entry) -> Property<'_> {
        let (name, value) = (entry.name.of(&self.arena), entry.value.of(&self.arena));
        Property { name, value, traits: entry.traits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: PropertyTraits =
        PropertyTraits { read_only: false, kind: PropertyType::Bytes, span: LifeSpan::Exchange };

    fn value<'a>(properties: &'a Properties, name: &str) -> Option<&'a [u8]> {
        properties.get(name.as_bytes()).map(|property| property.value)
    }

    #[test]
    fn the_last_value_counts() {
        let mut properties = Properties::default();
        for (set, read) in [("long", "long"), ("", ""), ("l", "l"), ("longer", "longer")] {
            properties.set(b"a", set.as_bytes(), PLAIN).expect("room");
            properties.set(b"b", b"other", PLAIN).expect("room");
            assert_eq!(value(&properties, "a"), Some(read.as_bytes()));
            assert_eq!(value(&properties, "b"), Some(&b"other"[..]));
        }
        assert_eq!(value(&properties, "c"), None);
        assert_eq!(properties.set(b"", b"", PLAIN), Err(PropertyError::Nameless));
        let names: Vec<_> = properties.iter().map(|property| property.name).collect();
        assert_eq!(names, [b"a", b"b"]);
        properties.clear();
        assert!(properties.is_empty());
    }

    #[test]
    fn read_only_values_are_set_once() {
        let mut properties = Properties::default();
        let traits = PropertyTraits { read_only: true, ..PLAIN };
        properties.set(b"a", b"1", traits).expect("the first");
        assert_eq!(properties.set(b"a", b"2", PLAIN), Err(PropertyError::ReadOnly));
        assert_eq!(value(&properties, "a"), Some(&b"1"[..]));
    }

    #[test]
    fn only_some_outlive_their_exchange() {
        let mut first = Properties::default();
        let traits = PropertyTraits { span: LifeSpan::Connection, ..PLAIN };
        first.set(b"kept", b"1", traits).expect("room");
        first.set(b"lost", b"2", PLAIN).expect("room");
        let mut second = Properties::default();
        second.inherit(&first);
        assert_eq!((value(&second, "kept"), value(&second, "lost")), (Some(&b"1"[..]), None));
        assert_eq!(second.get(b"kept").expect("kept").traits, traits);
    }

    #[test]
    fn there_is_a_bound() {
        let mut properties = Properties::default();
        let large = vec![b'x'; BYTES_MAX - 10];
        properties.set(b"large", &large, PLAIN).expect("room");
        assert_eq!(properties.set(b"more", b"1234567", PLAIN), Err(PropertyError::TooMuch));
        // What was replaced gives way.
        properties.set(b"large", b"small", PLAIN).expect("room");
        properties.set(b"more", &large[..1000], PLAIN).expect("room");
        assert_eq!(value(&properties, "large"), Some(&b"small"[..]));
        assert_eq!(value(&properties, "more"), Some(&large[..1000]));
        for at in 0..COUNT_MAX - 2 {
            properties.set(format!("n{at}").as_bytes(), b"", PLAIN).expect("room");
        }
        assert_eq!(properties.set(b"one too many", b"", PLAIN), Err(PropertyError::TooMuch));
    }
}
