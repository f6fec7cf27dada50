//! The message's header and trailer sections as the ABI's header maps.
//!
//! A request's map begins with `:authority :path :method :scheme`, a response's with `:status`,
//! whatever version of HTTP is spoken. `host` is another name of `:authority`.

use super::abi::{Phase, Status};
use super::pairs::{Pairs, encode};
use crate::http::{Headers, is_field_value, is_token, uri};
use crate::limits;
use crate::plugin::Message;

/// The maps an exchange has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pseudo {
    Authority,
    Path,
    Method,
    Scheme,
    Status,
}

impl Map {
    /// The map of that number, if an exchange has it. 4 to 7 belong to callouts.
    pub(super) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            _ => return None,
        })
    }

    /// Whether the map can be read in this phase. Trailers exist from the end of the body on, so
    /// that a plugin can add some where there were none.
    pub(super) fn is_there(self, message: &Message, phase: Phase, end_of_stream: bool) -> bool {
        match self {
            Self::RequestHeaders => phase >= Phase::RequestHeaders,
            Self::RequestTrailers => match phase {
                Phase::RequestBody => end_of_stream,
                Phase::RequestTrailers => true,
                _ => phase > Phase::RequestTrailers && !message.request.trailers.is_empty(),
            },
            Self::ResponseHeaders => {
                phase >= Phase::ResponseHeaders && message.response.status != 0
            }
            Self::ResponseTrailers => match phase {
                Phase::ResponseBody => end_of_stream,
                Phase::ResponseTrailers => true,
                _ => phase > Phase::ResponseTrailers && !message.response.trailers.is_empty(),
            },
        }
    }

    fn section(self, message: &Message) -> &Headers {
        match self {
            Self::RequestHeaders => &message.request.headers,
            Self::RequestTrailers => &message.request.trailers,
            Self::ResponseHeaders => &message.response.headers,
            Self::ResponseTrailers => &message.response.trailers,
        }
    }

    fn section_mut(self, message: &mut Message) -> &mut Headers {
        match self {
            Self::RequestHeaders => &mut message.request.headers,
            Self::RequestTrailers => &mut message.request.trailers,
            Self::ResponseHeaders => &mut message.response.headers,
            Self::ResponseTrailers => &mut message.response.trailers,
        }
    }

    /// The pseudo header of that name. The length alone rules out nearly all others.
    fn pseudo(self, key: &[u8]) -> Option<Pseudo> {
        let is = |name: &[u8]| key.eq_ignore_ascii_case(name);
        match (self, key.len()) {
            (Self::RequestHeaders, 4) if is(b"host") => Some(Pseudo::Authority),
            (Self::RequestHeaders, 5) if is(b":path") => Some(Pseudo::Path),
            (Self::RequestHeaders, 7) if is(b":method") => Some(Pseudo::Method),
            (Self::RequestHeaders, 7) if is(b":scheme") => Some(Pseudo::Scheme),
            (Self::RequestHeaders, 10) if is(b":authority") => Some(Pseudo::Authority),
            (Self::ResponseHeaders, 7) if is(b":status") => Some(Pseudo::Status),
            _ => None,
        }
    }

    /// Appends the first value of `key` to `out`; tells whether there is one.
    pub(super) fn get(self, message: &Message, key: &[u8], out: &mut Vec<u8>) -> bool {
        let value = match self.pseudo(key) {
            None => self.section(message).get(key),
            Some(Pseudo::Authority) => {
                Some(&message.request.authority[..]).filter(|a| !a.is_empty())
            }
            Some(Pseudo::Path) => Some(&message.request.target[..]),
            Some(Pseudo::Method) => Some(&message.request.method[..]),
            Some(Pseudo::Scheme) => Some(scheme(message)),
            Some(Pseudo::Status) => {
                out.extend_from_slice(&status_digits(message));
                return true;
            }
        };
        out.extend_from_slice(value.unwrap_or_default());
        value.is_some()
    }

    /// Adds a field; one of that name stays. A pseudo header has one value, so it is replaced.
    pub(super) fn add(self, message: &mut Message, key: &[u8], value: &[u8]) -> Result<(), Status> {
        self.check(key, value)?;
        let section = self.section(message);
        check_room(section.len() + 1, section.encoded_len() + key.len() + value.len())?;
        self.put(message, key, value);
        Ok(())
    }

    /// Gives `key` this one value.
    pub(super) fn replace(
        self,
        message: &mut Message,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), Status> {
        self.check(key, value)?;
        if let Some(pseudo) = self.pseudo(key) {
            set_pseudo(message, pseudo, value);
            return Ok(());
        }
        let section = self.section_mut(message);
        let (mut fields, mut replaced) = (section.len() + 1, 0);
        for old in section.values(key) {
            (fields, replaced) = (fields - 1, replaced + key.len() + old.len());
        }
        let bytes = section.encoded_len() - replaced + key.len() + value.len();
        check_room(fields.max(1), bytes)?;
        section.set(key, value);
        Ok(())
    }

    /// Takes all fields of that name away; there may be none. Pseudo headers can't go.
    pub(super) fn remove(self, message: &mut Message, key: &[u8]) -> Result<(), Status> {
        if self.pseudo(key).is_some() {
            return Err(Status::BadArgument);
        }
        self.section_mut(message).remove(key);
        Ok(())
    }

    /// Replaces the whole map. All fields are checked first; a pseudo header that is not among them
    /// keeps its value, since no message can be without.
    pub(super) fn set_all(self, message: &mut Message, pairs: Pairs<'_>) -> Result<(), Status> {
        pairs.iter().try_for_each(|(key, value)| self.check(key, value))?;
        self.section_mut(message).clear();
        // There is room: a section may have what a map may have.
        pairs.iter().for_each(|(key, value)| self.put(message, key, value));
        Ok(())
    }

    fn put(self, message: &mut Message, key: &[u8], value: &[u8]) {
        match self.pseudo(key) {
            Some(pseudo) => set_pseudo(message, pseudo, value),
            None => self.section_mut(message).append(key, value),
        }
    }

    /// Appends the encoded map to `out`.
    pub(super) fn encode(self, message: &Message, out: &mut Vec<u8>) {
        let digits = status_digits(message);
        encode(|| self.all(message, &digits), out);
    }

    /// How many fields there are, pseudo headers counted.
    pub(super) fn len(self, message: &Message) -> u32 {
        let pseudo = match self {
            Self::RequestHeaders => 3 + usize::from(!message.request.authority.is_empty()),
            Self::ResponseHeaders => 1,
            Self::RequestTrailers | Self::ResponseTrailers => 0,
        };
        (pseudo + self.section(message).len()) as u32
    }

    /// Bytes of all names and values.
    pub(super) fn byte_len(self, message: &Message) -> u32 {
        let digits = status_digits(message);
        self.all(message, &digits).map(|(key, value)| (key.len() + value.len()) as u32).sum()
    }

    /// Shows all names, pseudo headers first.
    pub(super) fn for_each_name(self, message: &Message, visit: impl FnMut(&[u8])) {
        let digits = status_digits(message);
        self.all(message, &digits).map(|(name, _)| name).for_each(visit);
    }

    fn all<'a>(
        self,
        message: &'a Message,
        digits: &'a [u8; 3],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.pseudo_fields(message, digits).chain(self.section(message).iter())
    }

    fn pseudo_fields<'a>(
        self,
        message: &'a Message,
        digits: &'a [u8; 3],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let request = &message.request;
        let fields: [(&[u8], &[u8]); 4] = match self {
            Self::RequestHeaders => [
                (b":authority", &request.authority),
                (b":path", &request.target),
                (b":method", &request.method),
                (b":scheme", scheme(message)),
            ],
            Self::ResponseHeaders => [(b":status", digits), (b"", b""), (b"", b""), (b"", b"")],
            Self::RequestTrailers | Self::ResponseTrailers => [(b"", b""); 4],
        };
        fields.into_iter().filter(|(_, value)| !value.is_empty())
    }

    fn check(self, key: &[u8], value: &[u8]) -> Result<(), Status> {
        let good = match self.pseudo(key) {
            None => is_token(key) && is_field_value(value),
            Some(Pseudo::Authority) => is_visible(value),
            Some(Pseudo::Path) => is_visible(value) && normal_path(value).is_some(),
            Some(Pseudo::Method | Pseudo::Scheme) => is_token(value),
            Some(Pseudo::Status) => parse_status(value).is_some(),
        };
        if good { Ok(()) } else { Err(Status::BadArgument) }
    }
}

/// Whether a section may have so many fields and bytes: whoever makes it longer is told.
fn check_room(fields: usize, bytes: usize) -> Result<(), Status> {
    let fits = fields <= limits::SECTION_FIELDS_MAX && bytes <= limits::SECTION_BYTES_MAX;
    if fits { Ok(()) } else { Err(Status::InternalFailure) }
}

/// Sets a pseudo header to a checked value.
fn set_pseudo(message: &mut Message, pseudo: Pseudo, value: &[u8]) {
    let request = &mut message.request;
    let field = match pseudo {
        Pseudo::Authority => {
            request.upstream_host.clear();
            &mut request.authority
        }
        Pseudo::Path => {
            request.path = normal_path(value).unwrap_or_default();
            &mut request.target
        }
        Pseudo::Method => &mut request.method,
        Pseudo::Scheme => &mut request.scheme,
        Pseudo::Status => {
            message.response.status = parse_status(value).unwrap_or(message.response.status);
            return;
        }
    };
    field.clear();
    field.extend_from_slice(value);
}

/// The normalised path of a request's target, if it can be one.
fn normal_path(target: &[u8]) -> Option<Vec<u8>> {
    let path = uri::split(target).path;
    if target == b"*" || (path.starts_with(b"/") && uri::is_normal(path)) {
        return Some(path.to_vec());
    }
    let mut normal = Vec::new();
    uri::normalise(path, &mut normal).ok().filter(|()| path.starts_with(b"/"))?;
    Some(normal)
}

/// The request's scheme: what a plugin set, else the only one there is.
pub(super) fn scheme(message: &Message) -> &[u8] {
    if message.request.scheme.is_empty() { b"http" } else { &message.request.scheme }
}

/// Whether these may be a field's name and value (RFC 9110 §5.1, §5.5).
pub(super) fn is_field(name: &[u8], value: &[u8]) -> bool {
    is_token(name) && is_field_value(value)
}

/// No space, no control: it stands in a start line or names a host.
fn is_visible(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| *b > b' ' && *b != 0x7f)
}

fn parse_status(value: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() == 3)?;
    text.parse().ok().filter(|status| (200..=999).contains(status))
}

fn status_digits(message: &Message) -> [u8; 3] {
    let status = message.response.status.min(999);
    [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let mut message = Message::default();
        message.request.method = b"GET".to_vec();
        message.request.target = b"/a?b=c".to_vec();
        message.request.authority = b"host.example".to_vec();
        message.request.headers.append(b"X-A", b"1");
        message.request.headers.append(b"x-a", b"2");
        message.response.status = 200;
        message.response.headers.append(b"Server", b"s");
        message
    }

    fn get(map: Map, message: &Message, key: &str) -> Option<String> {
        let mut out = Vec::new();
        map.get(message, key.as_bytes(), &mut out).then(|| String::from_utf8(out).expect("text"))
    }

    fn all(map: Map, message: &Message) -> String {
        let mut bytes = Vec::new();
        map.encode(message, &mut bytes);
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let pairs = Pairs::parse(&bytes).expect("well-formed");
        let lines: Vec<_> = pairs.iter().map(|(k, v)| format!("{}={}", text(k), text(v))).collect();
        lines.join(" ")
    }

    #[test]
    fn pseudo_headers_are_read_and_written() {
        let mut message = message();
        let map = Map::RequestHeaders;
        for (key, value, new) in [
            (":authority", "host.example", "b.example:80"),
            (":path", "/a?b=c", "/new"),
            (":method", "GET", "PURGE"),
            (":scheme", "http", "https"),
        ] {
            assert_eq!(get(map, &message, key).as_deref(), Some(value));
            map.replace(&mut message, key.as_bytes(), new.as_bytes()).expect("valid");
            assert_eq!(get(map, &message, &key.to_uppercase()).as_deref(), Some(new));
            assert_eq!(map.remove(&mut message, key.as_bytes()), Err(Status::BadArgument));
        }
        assert_eq!(get(map, &message, "Host").as_deref(), Some("b.example:80"));
        assert_eq!(message.request.target, b"/new");
        map.replace(&mut message, b":path", b"/a//../b%20c?d").expect("valid");
        assert_eq!(
            (&message.request.path[..], message.request.query()),
            (&b"/b c"[..], Some(&b"d"[..]))
        );
        assert_eq!(get(Map::ResponseHeaders, &message, ":status").as_deref(), Some("200"));
        Map::ResponseHeaders.add(&mut message, b":status", b"404").expect("valid");
        assert_eq!(message.response.status, 404);
    }

    #[test]
    fn bad_bytes_are_refused() {
        let mut message = message();
        for (map, key, value) in [
            (Map::RequestHeaders, "", "v"),
            (Map::RequestHeaders, "a b", "v"),
            (Map::RequestHeaders, "a:", "v"),
            (Map::RequestHeaders, "a\0", "v"),
            (Map::RequestHeaders, ":unknown", "v"),
            (Map::RequestHeaders, "a", "v\r\nb: c"),
            (Map::RequestHeaders, "a", "v\0"),
            (Map::RequestHeaders, "a", "v\x01"),
            (Map::RequestHeaders, "a", "\x7f"),
            (Map::RequestHeaders, ":path", ""),
            (Map::RequestHeaders, ":path", "a"),
            (Map::RequestHeaders, ":path", "?"),
            (Map::RequestHeaders, ":path", "/../.."),
            (Map::RequestHeaders, ":path", "/%00"),
            (Map::RequestHeaders, ":path", "/ HTTP/1.1"),
            (Map::RequestHeaders, ":method", "a c"),
            (Map::RequestHeaders, ":authority", "a\r\n"),
            (Map::RequestHeaders, ":scheme", "ht tp"),
            (Map::ResponseHeaders, ":status", ""),
            (Map::ResponseHeaders, ":status", "99"),
            (Map::ResponseHeaders, ":status", "199"),
            (Map::ResponseHeaders, ":status", "+20"),
            (Map::ResponseHeaders, ":path", "/"),
            (Map::RequestTrailers, ":path", "/"),
        ] {
            let (key, value) = (key.as_bytes(), value.as_bytes());
            assert_eq!(map.add(&mut message, key, value), Err(Status::BadArgument), "{key:?}");
            assert_eq!(map.replace(&mut message, key, value), Err(Status::BadArgument), "{key:?}");
        }
        assert_eq!(all(Map::ResponseHeaders, &message), ":status=200 server=s");
    }

    #[test]
    fn whole_maps() {
        let mut message = message();
        let map = Map::RequestHeaders;
        let text = ":authority=host.example :path=/a?b=c :method=GET :scheme=http x-a=1 x-a=2";
        assert_eq!(all(map, &message), text);
        assert_eq!(map.len(&message), 6);
        assert_eq!(get(map, &message, "X-a").as_deref(), Some("1"), "the first value");

        let mut bytes = Vec::new();
        encode(
            || [(&b":path"[..], &b"/x"[..]), (b"host", b"h"), (b"n", b"v")].into_iter(),
            &mut bytes,
        );
        map.set_all(&mut message, Pairs::parse(&bytes).expect("good")).expect("valid");
        assert_eq!(all(map, &message), ":authority=h :path=/x :method=GET :scheme=http n=v");

        let mut bytes = Vec::new();
        encode(|| [(&b"n"[..], &b"w"[..]), (b"bad name", b"v")].into_iter(), &mut bytes);
        let refused = map.set_all(&mut message, Pairs::parse(&bytes).expect("good"));
        assert_eq!(refused, Err(Status::BadArgument));
        assert_eq!(get(map, &message, "n").as_deref(), Some("v"), "nothing was changed");
    }

    #[test]
    fn maps_come_and_go_with_the_phase() {
        use Phase::{
            Log, RequestBody, RequestHeaders, RequestTrailers, ResponseBody, ResponseHeaders,
            ResponseTrailers, Root,
        };
        let mut message = message();
        let there = |message: &Message, phase, end| {
            let maps = [0, 1, 2, 3].map(|n| Map::from_number(n).expect("a map"));
            maps.map(|map| u8::from(map.is_there(message, phase, end)))
        };
        for (phase, end, expected) in [
            (Root, false, [0, 0, 0, 0]),
            (RequestHeaders, true, [1, 0, 0, 0]),
            (RequestBody, false, [1, 0, 0, 0]),
            (RequestBody, true, [1, 1, 0, 0]),
            (RequestTrailers, true, [1, 1, 0, 0]),
            (ResponseHeaders, false, [1, 0, 1, 0]),
            (ResponseBody, false, [1, 0, 1, 0]),
            (ResponseBody, true, [1, 0, 1, 1]),
            (ResponseTrailers, true, [1, 0, 1, 1]),
            (Log, true, [1, 0, 1, 0]),
        ] {
            assert_eq!(there(&message, phase, end), expected, "{phase:?} {end}");
        }
        message.request.trailers.append(b"t", b"1");
        message.response.status = 0;
        assert_eq!(there(&message, Log, true), [1, 1, 0, 0]);
    }

    /// Who makes a section longer than that is told; nothing else changes.
    #[test]
    fn sections_have_bounds() {
        let map = Map::ResponseHeaders;
        let mut message = message();
        let long = vec![b'v'; limits::SECTION_BYTES_MAX - 100];
        assert_eq!(map.add(&mut message, b"long", &long), Ok(()));
        for result in [
            map.add(&mut message, b"more", &long),
            map.replace(&mut message, b"server", &long),
            map.replace(&mut message, b"other", &long[..100]),
        ] {
            assert_eq!(result, Err(Status::InternalFailure));
        }
        assert_eq!(map.replace(&mut message, b"long", &long), Ok(()), "in its own place");
        assert_eq!(map.replace(&mut message, b"long", b"short"), Ok(()));
        while message.response.headers.len() < limits::SECTION_FIELDS_MAX {
            assert_eq!(map.add(&mut message, b"many", b"1"), Ok(()));
        }
        assert_eq!(map.add(&mut message, b"many", b"1"), Err(Status::InternalFailure));
        assert_eq!(map.replace(&mut message, b"new", b"1"), Err(Status::InternalFailure));
        assert_eq!(map.replace(&mut message, b"server", b"1"), Ok(()));
        let mut pairs = Vec::new();
        encode(|| std::iter::repeat_n((&b"a"[..], &b"1"[..]), 1024), &mut pairs);
        let all = map.set_all(&mut message, Pairs::lenient(&pairs, "p"));
        assert_eq!((all, message.response.headers.len()), (Ok(()), limits::SECTION_FIELDS_MAX));
    }
}
