//! Query strings and paths of requests.

/// The arguments after the `?`, decoded, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::control) struct Query(Vec<(String, String)>);

impl Query {
    pub(in crate::control) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        });
        Self(decoded.collect())
    }

    /// The first argument of that name.
    pub(in crate::control) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether an argument is there and `true`.
    pub(in crate::control) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    pub(in crate::control) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Undoes percent-encoding; what is not UTF-8 after that becomes replacement characters.
pub(in crate::control) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            bytes.push(high << 4 | low);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let query = Query::parse("a=1&b=%2Fx+y%zz&c&a=2&&force=true");
        assert_eq!(query.get("a"), Some("1"));
        assert_eq!(query.get("b"), Some("/x y%zz"));
        assert_eq!(query.get("c"), Some(""));
        assert!(query.is_true("force") && !query.is_true("a") && query.get("d").is_none());
        assert_eq!(query.pairs().count(), 5);
        assert_eq!(decode("%e4%b8%ad%ff%"), "中\u{fffd}%");
    }
}
