//! A request or a response as a test looks at it.

use super::wire::Framing;

/// A message with its body decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The request line or status line.
    pub(crate) start: String,
    /// Names as they were spelled.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) chunked: bool,
}

impl Message {
    /// The only value of a field.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} is there more than once: {values:?}");
        values.first().copied()
    }

    /// All values of a field in their order.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The only value of a trailer field.
    pub(crate) fn trailer(&self, name: &str) -> Option<&str> {
        let mut named = self.trailers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The status of a response.
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        let mut parts = self.start.splitn(3, ' ');
        assert_eq!(parts.next(), Some("HTTP/1.1"), "{}", self.start);
        let status = parts.next().filter(|status| status.len() == 3);
        assert!(parts.next().is_some(), "no space after the status: {:?}", self.start);
        status.and_then(|status| status.parse().ok()).expect("a status of three digits")
    }

    /// The method of a request.
    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The target of a request.
    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// Whether the sender closes the connection after this message.
    pub(crate) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    #[track_caller]
    fn framed_by_fields(&self) -> Option<Framing> {
        let (length, coding) = (self.field("content-length"), self.field("transfer-encoding"));
        assert!(length.is_none() || coding.is_none(), "two framings: {:?}", self.fields);
        if let Some(coding) = coding {
            assert_eq!(coding, "chunked");
            return Some(Framing::Chunked);
        }
        length.map(|length| Framing::Length(length.parse().expect("a length")))
    }

    /// How a request's body is framed (RFC 9112 §6.3).
    #[track_caller]
    pub(crate) fn request_framing(&self) -> Framing {
        self.framed_by_fields().unwrap_or(Framing::None)
    }

    /// How the body of a response is framed; `to_head`: it answers a HEAD.
    #[track_caller]
    pub(crate) fn response_framing(&self, to_head: bool) -> Framing {
        let framing = self.framed_by_fields();
        let status = self.status();
        if to_head || status < 200 || status == 204 || status == 304 {
            return Framing::None;
        }
        framing.unwrap_or(Framing::UntilEnd)
    }
}
