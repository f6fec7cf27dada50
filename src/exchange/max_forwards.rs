//! `Max-Forwards` of TRACE and OPTIONS: how many more times they may be forwarded (RFC 9110
//! §7.6.2). Other methods may carry it too; there it means nothing.

use super::cause::Cause;
use super::{Cx, Exchange};
use crate::http::{Headers, Method};
use crate::plugin::ResponseSource;

/// What a final recipient says of itself. The upstream may allow fewer.
const ALLOW: &[u8] = b"GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";

/// Not a number, or several.
struct Malformed;

/// What the field says; a number beyond any chain of proxies is as good as the largest.
fn times_left(headers: &Headers) -> Result<Option<u32>, Malformed> {
    let mut values = headers.values(b"max-forwards");
    let Some(value) = values.next() else { return Ok(None) };
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits && values.next().is_none());
    Ok(Some(text.ok_or(Malformed)?.parse().unwrap_or(u32::MAX)))
}

impl Exchange {
    /// Counts the forwarding that is about to happen; tells whether it may. If not, there is an
    /// answer already: this gateway is the final recipient then. It reflects no TRACE: what plugins
    /// added for the upstream is not the client's to see.
    pub(super) fn count_forward(&mut self, cx: &mut Cx<'_>) -> bool {
        if !matches!(self.request.method, Method::Trace | Method::Options) {
            return true;
        }
        match times_left(&self.message.request.headers) {
            Ok(None) => return true,
            Ok(Some(0)) => self.answer_as_final_recipient(cx),
            Ok(Some(times)) => {
                let left = itoa::Buffer::new().format(times - 1).to_owned();
                self.message.request.headers.set(b"Max-Forwards", left.as_bytes());
                return true;
            }
            Err(Malformed) => self.fail_request(400, Cause::ClientMalformed, cx),
        }
        false
    }

    fn answer_as_final_recipient(&mut self, cx: &mut Cx<'_>) {
        let status = if self.request.method == Method::Trace { 405 } else { 200 };
        self.message.respond(status, None);
        self.message.local.headers.append(b"Allow", ALLOW);
        self.message.local.details.extend_from_slice(b"max_forwards_reached");
        self.message.response.source = ResponseSource::Gateway;
        self.respond(None, cx);
    }
}
