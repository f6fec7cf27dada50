//! A parser written only for these tests: slow, plain, and sharing no line with the room `http`.

/// One message as it was on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) start: String,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
    /// Whether its framing says that all of it is there. A body until the close never does.
    pub(super) complete: bool,
    pub(super) until_close: bool,
    /// Bytes of it.
    pub(super) len: usize,
}

impl Parsed {
    pub(super) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status")
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice in {:?}", self.fields);
        value
    }
}

/// The response at the start of `bytes`; `None` if not even its head is whole.
pub(super) fn response(bytes: &[u8], to_head: bool) -> Option<Parsed> {
    let mut message = head(bytes)?;
    let words: Vec<&str> = message.start.splitn(3, ' ').collect();
    assert!(words.len() == 3 && words[0] == "HTTP/1.1", "status line {:?}", message.start);
    let status = message.status();
    let coding = message.get("transfer-encoding").map(str::to_owned);
    let length = message.get("content-length").map(|l| l.parse::<usize>().expect("a length"));
    assert!(coding.is_none() || length.is_none(), "two framings: {:?}", message.fields);
    if to_head || status < 200 || status == 204 || status == 304 {
        assert!(status != 204 || length.is_none());
        assert!(to_head || coding.is_none());
        message.complete = true;
        return Some(message);
    }
    match (coding.as_deref(), length) {
        (Some("chunked"), _) => chunks(bytes, &mut message),
        (Some(other), _) => panic!("coding {other}"),
        (None, Some(length)) => take(bytes, length, &mut message),
        (None, None) => {
            message.body = bytes[message.len..].to_vec();
            message.len = bytes.len();
            message.until_close = true;
        }
    }
    Some(message)
}

/// The request at the start of `bytes`.
pub(super) fn request(bytes: &[u8]) -> Option<Parsed> {
    let mut message = head(bytes)?;
    assert_eq!(message.start.split(' ').count(), 3, "request line {:?}", message.start);
    assert!(message.start.ends_with(" HTTP/1.1"), "request line {:?}", message.start);
    assert!(message.get("host").is_some(), "{:?}", message.fields);
    for hop in ["keep-alive", "proxy-connection", "expect"] {
        assert!(message.get(hop).is_none(), "{hop} was forwarded");
    }
    // What belongs to this hop says so, and nothing else is said to.
    let own = ["TE", "Upgrade"].into_iter().filter(|name| message.get(name).is_some());
    let own = own.collect::<Vec<_>>().join(", ");
    assert_eq!(message.get("connection").unwrap_or_default(), own);
    let coding = message.get("transfer-encoding").map(str::to_owned);
    let length = message.get("content-length").map(|l| l.parse::<usize>().expect("a length"));
    assert!(coding.is_none() || length.is_none(), "two framings: {:?}", message.fields);
    match (coding.as_deref(), length) {
        (Some("chunked"), _) => chunks(bytes, &mut message),
        (Some(other), _) => panic!("coding {other}"),
        (None, length) => take(bytes, length.unwrap_or(0), &mut message),
    }
    Some(message)
}

fn take(bytes: &[u8], length: usize, message: &mut Parsed) {
    let end = bytes.len().min(message.len + length);
    message.body = bytes[message.len..end].to_vec();
    message.complete = message.body.len() == length;
    message.len = end;
}

fn head(bytes: &[u8]) -> Option<Parsed> {
    let end = find(bytes, b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = text.split("\r\n");
    let start = lines.next().expect("a first line").to_owned();
    let fields = lines.map(field).collect();
    Some(Parsed { start, fields, len: end + 4, ..Parsed::default() })
}

fn field(line: &str) -> (String, String) {
    assert!(!line.contains(['\r', '\n', '\0']), "a stray control byte in {line:?}");
    let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("field {line:?}"));
    assert!(!name.is_empty() && !name.contains([' ', '\t']), "name {name:?}");
    (name.to_owned(), value.to_owned())
}

fn chunks(bytes: &[u8], message: &mut Parsed) {
    let mut at = message.len;
    message.len = bytes.len();
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else { return };
        let size = std::str::from_utf8(&bytes[at..at + line]).expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a chunk size");
        at += line + 2;
        if size == 0 {
            break;
        }
        let end = bytes.len().min(at + size);
        message.body.extend_from_slice(&bytes[at..end]);
        if bytes.len() < at + size + 2 {
            return;
        }
        assert_eq!(&bytes[at + size..at + size + 2], b"\r\n", "the end of a chunk");
        at += size + 2;
    }
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else { return };
        let text = String::from_utf8_lossy(&bytes[at..at + line]).into_owned();
        at += line + 2;
        if text.is_empty() {
            break;
        }
        message.trailers.push(field(&text));
    }
    message.complete = true;
    message.len = at;
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
