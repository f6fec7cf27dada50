//! Request heads: httparse's tokens, then every rule that binds a server (RFC 9112 §2 to §6).
//!
//! ```text
//!        ┌ plain: one pass (see `plain`) ───────────────────────────────────┐
//! bytes ─┴► httparse ─► line ends ─► target form ─► fields, one pass ─► framing ─► RequestHead
//!              │             every step may refuse with a RequestError
//!              └─ incomplete: None, read more
//! ```

use super::fields::{content_length, field_of, is_name, lines_end_in_crlf, list_members, span_of};
use super::seen::Seen;
use super::{BodyLength, Field, Known, KnownSet, Method, RequestError, Span, Version, plain, uri};
use crate::limits;
use memchr::memchr;
use std::mem::MaybeUninit;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head.
    pub bytes: usize,
    /// Number of fields, at most [`limits::HEADERS_CEILING`].
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: limits::HEAD_BYTES_MAX, fields: limits::HEADERS_MAX }
    }
}

/// One request's head: spans over the bytes it was parsed from. Kept and filled again for each
/// request of a connection.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// Bytes from the start of the input to the first byte of the body.
    pub len: usize,
    /// The method, where routes can name it.
    pub method: Method,
    /// The method's spelling.
    pub method_span: Span,
    /// Path and query; of an absolute-form the part after the authority (no path means `/`).
    pub target: Span,
    /// The target's path; empty: an absolute-form without one.
    pub path: Span,
    /// Whether that is as [`uri::normalise`] would have it ([`uri::is_normal`]).
    pub path_is_normal: bool,
    /// The version spoken.
    pub version: Version,
    /// The target's or the Host field's authority; empty if there is none.
    pub authority: Span,
    /// Its host in lower case, without the port ([`uri::host_of`]).
    pub host: Vec<u8>,
    /// The authority that was checked last.
    known_authority: Vec<u8>,
    /// All fields but Host.
    pub fields: Vec<Field>,
    /// The body's length.
    pub body: BodyLength,
    /// Whether the client lets the connection persist (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// Whether the client waits for a 100 before its body (RFC 9110 §10.1.1).
    pub expect_continue: bool,
    /// Whether the client offers another protocol, and says so in both fields (RFC 9110 §7.8).
    pub upgrade: bool,
    /// Whether Connection has options that may be fields' names (RFC 9110 §7.6.1).
    pub nominates: bool,
    /// The last head's fields: most requests of a client repeat them.
    seen: Seen<Facts>,
}

impl RequestHead {
    /// Parses the head that `input` begins with. `Ok(false)`: it is not complete yet.
    ///
    /// # Errors
    /// The first rule that the head breaks, or a limit it exceeds.
    pub fn parse(&mut self, input: &[u8], limits: HeadLimits) -> Result<bool, RequestError> {
        match self.parse_known(input, limits) {
            Err(RequestError::Version) => self.parse_later_minor(input, limits),
            outcome => outcome,
        }
    }

    /// A later minor version is read as the last one known (RFC 9110 §2.5).
    #[cold]
    fn parse_later_minor(
        &mut self,
        input: &[u8],
        limits: HeadLimits,
    ) -> Result<bool, RequestError> {
        match version_at(input) {
            Some(at) if input[at + 5] == b'1' && input[at + 7] > b'1' => {
                let mut as_known = input.to_vec();
                as_known[at + 7] = b'1';
                self.parse_known(&as_known, limits)
            }
            _ => Err(RequestError::Version),
        }
    }

    fn parse_known(&mut self, input: &[u8], limits: HeadLimits) -> Result<bool, RequestError> {
        let within = &input[..input.len().min(limits.bytes)];
        let most = limits.fields.min(limits::HEADERS_CEILING);
        if self.parse_plain(within, most) {
            return Ok(true);
        }
        self.parse_closely(input, within, most, limits)
    }

    /// Reads a head of any kind, and finds what is wrong with it.
    #[cold]
    fn parse_closely(
        &mut self,
        input: &[u8],
        within: &[u8],
        most: usize,
        limits: HeadLimits,
    ) -> Result<bool, RequestError> {
        let mut table = [const { MaybeUninit::uninit() }; limits::HEADERS_CEILING];
        let table = &mut table[..most];
        let mut parsed = httparse::Request::new(&mut []);
        let outcome = parsed
            .parse_with_uninit_headers(within, table)
            .map_err(|error| classify(error, within))?;
        let httparse::Status::Complete(len) = outcome else {
            return incomplete(input, limits);
        };
        let (Some(method), Some(target), Some(version)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(RequestError::Bad("a request line without its three parts"));
        };
        let head = &within[..len];
        if !lines_end_in_crlf(head, method.as_bytes(), parsed.headers) {
            return Err(RequestError::Bad("a line ends in a bare LF"));
        }
        self.len = len;
        self.method = Method::from_bytes(method.as_bytes());
        self.method_span = span_of(head, method.as_bytes());
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        if !target.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'#') {
            return Err(RequestError::Bad("the target has a byte that must be percent-encoded"));
        }
        let from_target = self.read_target(head, target.as_bytes())?;
        let mut facts = Facts::default();
        self.fields.clear();
        for header in parsed.headers.iter() {
            self.take_field(head, field_of(head, header), &mut facts)?;
        }
        self.conclude(head, &facts, from_target)?;
        Ok(true)
    }

    /// The same for a head without anything unusual, and for a fraction of the price; `false`: it
    /// takes a closer look.
    fn parse_plain(&mut self, within: &[u8], most: usize) -> bool {
        let Some(line) = plain::request_line(within) else { return false };
        self.method = Method::from_bytes(line.method.of(within));
        self.method_span = line.method;
        self.target = line.target;
        self.path = line.path;
        self.path_is_normal = line.path_is_plain || uri::is_normal(line.path.of(within));
        self.version = line.version;
        let (fields, seen) = (&mut self.fields, &mut self.seen);
        let section = plain::section::<true, _>(within, line.end, most, fields, seen);
        let Some(section) = section else { return false };
        self.authority = section.host;
        self.len = section.end;
        if !section.again {
            seen.facts = Facts::of(fields, &section, within);
        }
        match seen.facts {
            Some(facts) if self.method != Method::Connect => {
                self.conclude(within, &facts, None).is_ok()
            }
            _ => false,
        }
    }

    /// Whether the short way of reading a head leaves this one alone, or makes of it what the long
    /// way does: `None`, or whether that is so.
    /// `self` may have read other heads before.
    #[cfg(any(test, fuzzing))]
    #[must_use]
    pub fn reads_alike(&mut self, input: &[u8], limits: HeadLimits) -> Option<bool> {
        let within = &input[..input.len().min(limits.bytes)];
        let most = limits.fields.min(limits::HEADERS_CEILING);
        let mut long = Self::default();
        self.parse_plain(within, most).then(|| {
            long.parse_closely(input, within, most, limits) == Ok(true)
                && format!("{self:?}") == format!("{long:?}")
        })
    }

    /// What there is room for of the last head: bytes and lines.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        self.seen.room()
    }

    /// Splits the target by its form (RFC 9112 §3.2); gives the authority of an absolute-form.
    fn read_target(&mut self, head: &[u8], target: &[u8]) -> Result<Option<Span>, RequestError> {
        if self.method == Method::Connect {
            return Err(RequestError::NotImplemented("CONNECT is for forward proxies"));
        }
        if target[0] == b'/' || (target == b"*" && self.method == Method::Options) {
            self.set_target(head, target);
            return Ok(None);
        }
        let rest = strip_scheme(target).ok_or(RequestError::Bad("a target of unknown form"))?;
        let end = rest.iter().position(|b| *b == b'/' || *b == b'?').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() || !is_authority(authority) {
            return Err(RequestError::Bad("the target's authority is invalid"));
        }
        self.set_target(head, path);
        Ok(Some(span_of(head, authority)))
    }

    fn set_target(&mut self, head: &[u8], target: &[u8]) {
        self.target = span_of(head, target);
        let path = uri::split(target).path;
        self.path = span_of(head, path);
        self.path_is_normal = uri::is_normal(path);
    }

    /// Keeps a field, and the facts that framing and the connection need.
    #[inline]
    fn take_field(
        &mut self,
        head: &[u8],
        field: Field,
        facts: &mut Facts,
    ) -> Result<(), RequestError> {
        match facts.note(field, head)? {
            Keep::Field => self.fields.push(field),
            Keep::Host => self.authority = field.value,
        }
        Ok(())
    }

    /// What all fields together come to.
    fn conclude(
        &mut self,
        head: &[u8],
        facts: &Facts,
        from_target: Option<Span>,
    ) -> Result<(), RequestError> {
        self.check_host(head, facts, from_target)?;
        self.body = facts.framing(self.version)?;
        let persists = match self.version {
            Version::Http11 => true,
            Version::Http10 => facts.keep_alive,
        };
        self.keep_alive = persists && !facts.close;
        self.upgrade = facts.upgrade && facts.upgrade_option && self.version == Version::Http11;
        self.nominates = facts.nominates;
        self.expect_continue = facts.expect_continue
            && self.version == Version::Http11
            && self.body != BodyLength::None;
        Ok(())
    }

    /// Exactly one valid Host in HTTP/1.1, at most one in 1.0 (RFC 9112 §3.2); the authority of an
    /// absolute-form wins over it (§3.2.2).
    fn check_host(
        &mut self,
        head: &[u8],
        facts: &Facts,
        from_target: Option<Span>,
    ) -> Result<(), RequestError> {
        match facts.hosts {
            0 if self.version == Version::Http11 => {
                return Err(RequestError::Bad("no Host field"));
            }
            0 => self.authority = Span::default(),
            1 => {}
            _ => return Err(RequestError::Bad("more than one Host field")),
        }
        if self.known_authority != self.authority.of(head) {
            if !is_authority(self.authority.of(head)) {
                return Err(RequestError::Bad("the Host field is invalid"));
            }
            self.learn_authority(self.authority.of(head));
        }
        if let Some(authority) = from_target {
            self.learn_authority(authority.of(head));
            self.authority = authority;
        }
        Ok(())
    }

    /// Remembers an authority that is valid: most requests of a connection name the same.
    #[cold]
    fn learn_authority(&mut self, authority: &[u8]) {
        for memory in [&mut self.known_authority, &mut self.host] {
            memory.clear();
            // No more than that: it is kept for as long as the connection (limits).
            memory.reserve_exact(authority.len());
        }
        self.known_authority.extend_from_slice(authority);
        self.host.extend(uri::host_of(authority).iter().map(u8::to_ascii_lowercase));
    }
}

/// Names whose fields say something of framing or the connection; unknown ones may be likenesses.
const TELLING: KnownSet = KnownSet::of(&[
    Known::Connection,
    Known::ContentLength,
    Known::Expect,
    Known::Other,
    Known::TransferEncoding,
    Known::Upgrade,
]);

/// Where a field belongs.
enum Keep {
    Field,
    Host,
}

/// What one pass over the fields found.
#[derive(Clone, Copy, Default)]
struct Facts {
    hosts: u32,
    content_length: Option<u64>,
    transfer_encodings: u32,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    upgrade_option: bool,
    nominates: bool,
    expect_continue: bool,
}

impl Facts {
    /// Those of all fields of a section; `None`: a rule is broken.
    fn of(fields: &[Field], section: &plain::Section, head: &[u8]) -> Option<Self> {
        let mut facts = Self { hosts: section.hosts, ..Self::default() };
        let mut telling = fields.iter().filter(|field| TELLING.has(field.known));
        let in_order =
            !section.names.meets(TELLING) || telling.all(|field| facts.note(*field, head).is_ok());
        in_order.then_some(facts)
    }

    /// Looks at one field.
    #[inline]
    fn note(&mut self, field: Field, head: &[u8]) -> Result<Keep, RequestError> {
        match field.known {
            Known::Host => {
                self.hosts += 1;
                return Ok(Keep::Host);
            }
            Known::Expect => self.note_expect(field.value.of(head))?,
            Known::Upgrade => self.upgrade = true,
            Known::Connection => self.note_connection(field.value.of(head)),
            Known::ContentLength => {
                let length = content_length(field.value.of(head));
                let length = length.ok_or(RequestError::Bad("an invalid Content-Length"))?;
                if self.content_length.replace(length).is_some() {
                    return Err(RequestError::Bad("more than one Content-Length"));
                }
            }
            Known::TransferEncoding => self.note_coding(field.value.of(head))?,
            Known::Other if matches!(field.name.len, 14 | 17) => {
                refuse_likeness(field.name.of(head))?;
            }
            _ => {}
        }
        Ok(Keep::Field)
    }

    fn note_connection(&mut self, value: &[u8]) {
        // What most clients that say anything say.
        if is_name(value, b"keep-alive") {
            self.keep_alive = true;
            return;
        }
        for option in list_members(value) {
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade_option = true,
                _ => self.nominates = true,
            }
        }
    }

    fn note_expect(&mut self, value: &[u8]) -> Result<(), RequestError> {
        let known = |member: &[u8]| member.eq_ignore_ascii_case(b"100-continue");
        if !list_members(value).all(known) {
            return Err(RequestError::Expectation);
        }
        self.expect_continue |= list_members(value).next().is_some();
        Ok(())
    }

    /// Only a single `chunked` is understood. Other codings before it end in 501; where `chunked`
    /// is missing, repeated or not last the length can't be known: 400 (RFC 9112 §6.1, §6.3).
    fn note_coding(&mut self, value: &[u8]) -> Result<(), RequestError> {
        self.transfer_encodings += 1;
        if self.transfer_encodings > 1 {
            return Err(RequestError::Bad("more than one Transfer-Encoding"));
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        let times = list_members(value).filter(|coding| is_chunked(coding)).count();
        if times == 1 && list_members(value).last().is_some_and(is_chunked) {
            return Err(RequestError::NotImplemented("a transfer coding other than chunked"));
        }
        Err(RequestError::Bad("chunked must be the last transfer coding, once"))
    }

    fn framing(&self, version: Version) -> Result<BodyLength, RequestError> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(RequestError::Bad("Content-Length beside Transfer-Encoding")),
            (true, None) if version == Version::Http10 => {
                Err(RequestError::Bad("Transfer-Encoding in HTTP/1.0"))
            }
            (true, None) => Ok(BodyLength::Chunked),
            (false, Some(0) | None) => Ok(BodyLength::None),
            (false, Some(length)) => Ok(BodyLength::Known(length)),
        }
    }
}

/// Servers behind CGI-like interfaces take `_` in a name for `-`: to them a likeness of a framing
/// field is one.
fn refuse_likeness(name: &[u8]) -> Result<(), RequestError> {
    let likeness = |of: &[u8]| name.eq_ignore_ascii_case(of);
    if likeness(b"content_length") || likeness(b"transfer_encoding") {
        return Err(RequestError::Bad("a framing field spelled with an underscore"));
    }
    Ok(())
}

/// Whether these bytes, which need not be a request, ask for a response without a body: the method
/// HEAD can be read, behind line ends that a server skips (RFC 9112 §2.2).
#[cold]
#[must_use]
pub fn begins_with_head(input: &[u8]) -> bool {
    let start = input.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    start.is_some_and(|start| input[start..].starts_with(b"HEAD "))
}

/// A head that has not ended: more is needed, unless no more is allowed.
fn incomplete(input: &[u8], limits: HeadLimits) -> Result<bool, RequestError> {
    if input.len() < limits.bytes {
        return Ok(false);
    }
    match memchr(b'\n', &input[..limits.bytes]) {
        None => Err(RequestError::TargetTooLong),
        Some(_) => Err(RequestError::HeadTooLarge),
    }
}

/// httparse's errors with the status and the words of the rule.
fn classify(error: httparse::Error, input: &[u8]) -> RequestError {
    match error {
        httparse::Error::TooManyHeaders => RequestError::HeadTooLarge,
        httparse::Error::Version if version_at(input).is_some() => RequestError::Version,
        httparse::Error::Version => RequestError::Bad("an invalid HTTP version"),
        httparse::Error::HeaderName => RequestError::Bad("an invalid field name"),
        httparse::Error::HeaderValue => RequestError::Bad("an invalid field value"),
        httparse::Error::NewLine => RequestError::Bad("an invalid line end"),
        httparse::Error::Status | httparse::Error::Token => {
            RequestError::Bad("an invalid request line")
        }
    }
}

/// Where the version stands in a request line that ends in `HTTP/` digit `.` digit: it is a
/// version, only not ours.
fn version_at(input: &[u8]) -> Option<usize> {
    let start = input.iter().position(|b| !matches!(b, b'\r' | b'\n'))?;
    let line = &input[start..];
    let line = &line[..memchr(b'\n', line).unwrap_or(line.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let at = line.len().checked_sub(8)?;
    let is_version = matches!(line[at..], [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit());
    let spaces = line.iter().filter(|b| **b == b' ').count();
    (is_version && spaces == 2 && line[..at].ends_with(b" ")).then_some(start + at)
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    let colon = memchr(b':', target)?;
    let (scheme, rest) = target.split_at(colon);
    let known = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    known.then(|| rest.strip_prefix(b"://")).flatten()
}

/// `host [":" port]` without user information (RFC 9110 §4.2.4, §7.2). Empty is allowed: a target
/// URI without authority sends an empty Host.
fn is_authority(value: &[u8]) -> bool {
    let (host, port) = match value.first() {
        Some(b'[') => match memchr(b']', value) {
            Some(end) => (&value[..=end], &value[end + 1..]),
            None => return false,
        },
        // The byte after a name is its port's colon, if it has one.
        _ => {
            value.split_at(value.iter().position(|b| !IN_HOST[*b as usize]).unwrap_or(value.len()))
        }
    };
    let port_fits = match port {
        [] => true,
        [b'%', ..] => return is_encoded_authority(value),
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let host_fits = host.first() != Some(&b'[') || is_ipv6_literal(host);
    port_fits && host_fits && (port.is_empty() || !host.is_empty())
}

fn is_ipv6_literal(host: &[u8]) -> bool {
    let [b'[', inner @ .., b']'] = host else { return false };
    let text = std::str::from_utf8(inner).unwrap_or_default();
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// A name with percent-encodings: two hexadecimal digits each (RFC 3986 §3.2.2).
#[cold]
fn is_encoded_authority(value: &[u8]) -> bool {
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr(b'%', rest) {
        match rest.get(at + 1..at + 3) {
            Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {}
            _ => return false,
        }
        plain.extend_from_slice(&rest[..at]);
        plain.push(b'x');
        rest = &rest[at + 3..];
    }
    plain.extend_from_slice(rest);
    is_authority(&plain)
}

/// Bytes of a registered name (RFC 3986 §3.2.2) but `%`: unreserved, sub-delims.
const IN_HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~!$&'()*+,;=";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
