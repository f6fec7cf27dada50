//! `request-id`: a name for each request, for the upstream and the client.
//!
//! As APISIX's plugin of that name (`apisix/plugins/request-id.lua`). The ids are there to tell
//! requests apart, not to be secret: their randomness is the worker's ordinary one.

use super::fields::read_name;
use crate::plugin::{Action, Hooks, Locals, Message, Plugin, PropertyTraits, Stream};
use crate::schema::Reader;
use std::sync::Arc;

pub(super) const NAME: &str = "request-id";

/// As long as an id may be made: it goes into two heads.
const LENGTH_MAX: i64 = 1024;

const NANOID: &[u8; 64] = b"ModuleSymbhasOwnPr-0123456789ABCDEFGHNRVfgctiUvz_KqYTJkLxpZXIjQW";
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANGE: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIGKLMNOPQRSTUVWXYZ0123456789";

#[derive(Debug)]
struct RequestId {
    field: Vec<u8>,
    /// Where the id is kept in the exchange: plugins may change the request's field.
    kept_as: Vec<u8>,
    in_response: bool,
    algorithm: Algorithm,
}

#[derive(Clone, Debug)]
enum Algorithm {
    /// A random one (RFC 9562 §5.4).
    Uuid,
    /// The time, then random bits: sorts by time (RFC 9562 §5.7).
    UuidV7,
    /// 21 characters that may stand in a URL.
    NanoId,
    /// Characters of a set.
    Range { characters: Vec<u8>, length: usize },
    /// Seconds, then 128 random bits, in base 62: sorts by time.
    Ksuid,
}

impl Plugin for RequestId {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        match self.in_response {
            true => Hooks::REQUEST_HEADERS | Hooks::RESPONSE_HEADERS,
            false => Hooks::REQUEST_HEADERS,
        }
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let Stream { message, locals, .. } = stream;
        let Message { request, filter_state, started_ns, .. } = &mut ***message;
        if !has_value(request.headers.get(&self.field)) {
            self.algorithm.make(*started_ns, locals);
            request.headers.set(&self.field, &locals.scratch);
        }
        if self.in_response
            && let Some(id) = request.headers.get(&self.field)
        {
            // Where other plugins left no room for it, the response gets the request's field.
            let _ = filter_state.set(&self.kept_as, id, PropertyTraits::once());
        }
        Action::Continue
    }

    fn on_response_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let Message { request, response, filter_state, .. } = &mut **stream.message;
        let kept = filter_state.get(&self.kept_as).map(|kept| kept.value);
        if !has_value(response.headers.get(&self.field))
            && let Some(id) = kept.or_else(|| request.headers.get(&self.field))
        {
            response.headers.set(&self.field, id);
        }
        Action::Continue
    }
}

fn has_value(field: Option<&[u8]>) -> bool {
    field.is_some_and(|value| !value.is_empty())
}

impl Algorithm {
    /// Puts an id into the scratch buffer.
    fn make(&self, now_ns: u64, locals: &mut Locals) {
        let (out, random) = (&mut locals.scratch, &mut locals.random);
        out.clear();
        match self {
            Self::Uuid => write_uuid(4, random.u128(..), out),
            Self::UuidV7 => write_uuid(7, timed(now_ns, random.u64(..)), out),
            Self::NanoId => out.extend((0..21).map(|_| NANOID[random.usize(..NANOID.len())])),
            Self::Range { characters, length } => {
                out.extend((0..*length).map(|_| characters[random.usize(..characters.len())]));
            }
            Self::Ksuid => write_ksuid(now_ns / 1_000_000_000, random.u128(..), out),
        }
    }
}

/// The time in 48 bits of milliseconds and, where version and variant leave room, their part in
/// 4096ths (RFC 9562 §6.2, method 3); then random bits.
fn timed(now_ns: u64, random: u64) -> u128 {
    const MS_NS: u64 = 1_000_000;
    let part = now_ns % MS_NS * 4096 / MS_NS;
    u128::from(now_ns / MS_NS) << 80 | u128::from(part) << 64 | u128::from(random)
}

/// Writes it with its version and variant in their places (RFC 9562 §4).
fn write_uuid(version: u128, bits: u128, out: &mut Vec<u8>) {
    let kept = !(0xf000_u128 << 64 | 0xc000_u128 << 48);
    let uuid = bits & kept | version << 76 | 0x8000_u128 << 48;
    for digit in 0..32 {
        if matches!(digit, 8 | 12 | 16 | 20) {
            out.push(b'-');
        }
        out.push(b"0123456789abcdef"[(uuid >> (124 - 4 * digit)) as usize & 15]);
    }
}

/// 27 digits of base 62 for 160 bits: 32 of seconds since 2014-05-13, 128 of payload.
fn write_ksuid(now_s: u64, payload: u128, out: &mut Vec<u8>) {
    const EPOCH_S: u64 = 1_400_000_000;
    let seconds = now_s.saturating_sub(EPOCH_S) as u32;
    let word = |at: u32| (payload >> (96 - 32 * at)) as u32;
    let mut words = [seconds, word(0), word(1), word(2), word(3)];
    let mut digits = [0; 27];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0_u64;
        for word in &mut words {
            let value = rest << 32 | u64::from(*word);
            *word = (value / 62) as u32;
            rest = value % 62;
        }
        *digit = BASE62[rest as usize];
    }
    out.extend_from_slice(&digits);
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    let field = object.get("header_name").and_then(|reader| read_name(&reader));
    let in_response = object.boolean("include_in_response").unwrap_or(true);
    let range = read_range(object.get("range_id"));
    let algorithms = [("uuid", 0), ("uuidv7", 4), ("nanoid", 1), ("range_id", 2), ("ksuid", 3)];
    let algorithm = match object.one_of("algorithm", &algorithms).unwrap_or(0) {
        1 => Algorithm::NanoId,
        2 => range?,
        3 => Algorithm::Ksuid,
        4 => Algorithm::UuidV7,
        _ => Algorithm::Uuid,
    };
    object.allow_unknown();
    let field = field.unwrap_or_else(|| b"X-Request-Id".to_vec());
    let kept_as = [b"ringgate.request-id.", &*field.to_ascii_lowercase()].concat();
    Some(Arc::new(RequestId { field, kept_as, in_response, algorithm }))
}

fn read_range(reader: Option<Reader<'_>>) -> Option<Algorithm> {
    let default = Algorithm::Range { characters: RANGE.as_bytes().to_vec(), length: 16 };
    let Some(reader) = reader else { return Some(default) };
    let mut object = reader.object()?;
    let length = object.integer("length", 6..=LENGTH_MAX).unwrap_or(16) as usize;
    let set = object.get("char_set");
    object.allow_unknown();
    let characters = match set {
        Some(reader) => {
            let text = reader.string(6..=usize::MAX)?;
            if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                reader.error("ids have visible ASCII characters only");
            }
            text
        }
        None => RANGE,
    };
    Some(Algorithm::Range { characters: characters.as_bytes().to_vec(), length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{Run, plugin, refused, request, response_field};
    use crate::expr::Pattern;
    use serde_json::json;

    fn ids(conf: &serde_json::Value, sent: Option<&str>) -> (String, Option<String>) {
        let mut message = request("GET", "/");
        if let Some(sent) = sent {
            message.request.headers.append(b"X-Request-Id", sent.as_bytes());
        }
        let plugin = plugin(read, conf);
        let mut run = Run::new(&*plugin, message);
        assert_eq!(run.request_headers(), Action::Continue);
        run.response(&["x"]);
        let asked = run.message.request.headers.get(b"x-request-id").unwrap_or_default();
        let asked = String::from_utf8_lossy(asked).into_owned();
        (asked, response_field(&run.message, "x-request-id"))
    }

    #[test]
    fn algorithms() {
        let range = |range| json!({ "algorithm": "range_id", "range_id": range });
        for (conf, pattern) in [
            (json!({}), "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"),
            (
                json!({ "algorithm": "uuidv7" }),
                "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
            ),
            (json!({ "algorithm": "nanoid" }), "^[-_0-9A-Za-z]{21}$"),
            (json!({ "algorithm": "range_id" }), "^[0-9A-Za-z]{16}$"),
            (range(json!({ "length": 40, "char_set": "aeiouy" })), "^[aeiouy]{40}$"),
            (json!({ "algorithm": "ksuid" }), "^[0-9A-Za-z]{27}$"),
        ] {
            let (id, answered) = ids(&conf, None);
            let pattern = Pattern::compile(pattern, "").expect("a pattern");
            assert!(pattern.is_match(id.as_bytes()), "{conf}: {id}");
            assert_eq!(answered, Some(id), "{conf}");
        }
    }

    /// The example of RFC 9562, appendix A.6, with its random bits.
    #[test]
    fn timed_uuids_are_those_of_the_rfc_and_sort() {
        let made = |now_ns, random| {
            let mut out = Vec::new();
            write_uuid(7, timed(now_ns, random), &mut out);
            String::from_utf8(out).expect("text")
        };
        let (ms, part) = (0x017F_22E2_79B0_u64, 0xCC3_u64);
        let now_ns = ms * 1_000_000 + (part * 1_000_000).div_ceil(4096);
        let random = 0x18C4_DC0C_0C07_398F;
        assert_eq!(made(now_ns, random), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
        let times = [1, 245, 999_999, 1_000_000, 1_000_245, 5_000_000_000];
        let made: Vec<String> = times.iter().map(|after| made(now_ns + after, !random)).collect();
        assert!(made.is_sorted(), "{made:?}");
    }

    #[test]
    fn ksuids_are_those_of_the_reference() {
        let mut out = Vec::new();
        // The example of APISIX's documentation, and the largest one.
        let payload = 0xD7F6_8AD7_CA0A_E277_772A_B36D_DB1A_3C13;
        write_ksuid(1_400_000_000 + 356_715_963, payload, &mut out);
        assert_eq!(out, b"325ghCANEKjw6Jsfejg5p6QrLYB");
        out.clear();
        write_ksuid(1_400_000_000 + u64::from(u32::MAX), u128::MAX, &mut out);
        assert_eq!(out, b"aWgEPTl1tmebfsQzFP4bxwgy80V");
    }

    #[test]
    fn ids_that_are_there_stay() {
        let mine = |sent| (String::from("mine"), Some(sent));
        assert_eq!(ids(&json!({}), Some("mine")), mine("mine".to_owned()));
        assert_ne!(ids(&json!({}), Some("")).0, "");
        assert_eq!(ids(&json!({ "include_in_response": false }), Some("mine")).1, None);
        let other = ids(&json!({ "header_name": "X-Other" }), None);
        assert_eq!(other, (String::new(), None), "it stands in another field");
    }

    #[test]
    fn responses_have_the_id_that_the_request_had_here() {
        let plugin = plugin(read, &json!({}));
        for later in ["", "pre-mine"] {
            let mut message = request("GET", "/");
            message.request.headers.append(b"X-Request-Id", b"mine");
            let mut run = Run::new(&*plugin, message);
            assert_eq!(run.request_headers(), Action::Continue);
            run.message.request.headers.remove(b"x-request-id");
            if !later.is_empty() {
                run.message.request.headers.append(b"X-Request-Id", later.as_bytes());
            }
            run.response(&["x"]);
            assert_eq!(response_field(&run.message, "x-request-id").as_deref(), Some("mine"));
        }
    }

    #[test]
    fn configurations_refused() {
        for (conf, start) in [
            (json!({ "algorithm": "uuid7" }), "p.algorithm: "),
            (json!({ "header_name": "a b" }), "p.header_name: "),
            (json!({ "include_in_response": "yes" }), "p.include_in_response: "),
            (json!({ "range_id": { "length": 5 } }), "p.range_id.length: "),
            (
                json!({ "algorithm": "range_id", "range_id": { "char_set": "abc" } }),
                "p.range_id.char_set: ",
            ),
            (
                json!({ "algorithm": "range_id", "range_id": { "char_set": "abcde\n" } }),
                "p.range_id.char_set: ",
            ),
        ] {
            refused(read, &conf, start);
        }
    }
}
