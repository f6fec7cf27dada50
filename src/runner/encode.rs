//! What is sent to runners: configurations, requests, responses, answers to what they ask.

use super::frame::{Kind, TooLong, write_frame};
use super::schema::a6::{self, TextEntry, TextEntryArgs};
use crate::http::{Headers, uri};
use crate::plugin::{Message, Request};
use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};
use std::fmt;
use std::net::IpAddr;

/// Makes frames. Its buffers are kept from one to the next.
#[derive(Default)]
pub struct Encoder {
    builder: FlatBufferBuilder<'static>,
    /// Where the entries of the vector at hand are.
    entries: Vec<WIPOffset<TextEntry<'static>>>,
    scratch: Vec<u8>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

/// A request that the protocol has no words for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsayable {
    /// The protocol knows fifteen methods, and this is none of them.
    Method(String),
    /// It is longer than a frame.
    TooLong(TooLong),
}

impl fmt::Display for Unsayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(method) => write!(f, "the protocol has no method {method}"),
            Self::TooLong(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for Unsayable {}

impl From<TooLong> for Unsayable {
    fn from(why: TooLong) -> Self {
        Self::TooLong(why)
    }
}

type Bytes = WIPOffset<Vector<'static, u8>>;
type Entries = WIPOffset<Vector<'static, ForwardsUOffset<TextEntry<'static>>>>;

impl Encoder {
    /// A configuration under its key. One without entries is left out, as APISIX does.
    ///
    /// # Errors
    /// It is longer than a frame.
    pub fn prepare_conf(
        &mut self,
        out: &mut Vec<u8>,
        key: &str,
        conf: &[(String, String)],
    ) -> Result<(), TooLong> {
        self.builder.reset();
        self.entries.clear();
        for (name, value) in conf {
            self.entry(name.as_bytes(), Some(value.as_bytes()));
        }
        let conf = (!conf.is_empty()).then(|| self.entries());
        let key = Some(self.text(key.as_bytes()));
        let request = a6::prepare_conf::Req::create(
            &mut self.builder,
            &a6::prepare_conf::ReqArgs { conf, key },
        );
        self.builder.finish_minimal(request);
        write_frame(out, Kind::PrepareConf, self.builder.finished_data())
    }

    /// A request as it stands now.
    ///
    /// # Errors
    /// The protocol can't carry it.
    pub fn request_call(
        &mut self,
        out: &mut Vec<u8>,
        message: &Message,
        token: u32,
        id: u32,
    ) -> Result<(), Unsayable> {
        let request = &message.request;
        let method = method(&request.method)
            .ok_or_else(|| Unsayable::Method(String::from_utf8_lossy(&request.method).into()))?;
        self.builder.reset();
        let src_ip = Some(match message.connection.peer.ip().to_canonical() {
            IpAddr::V4(ip) => self.bytes(&ip.octets()),
            IpAddr::V6(ip) => self.bytes(&ip.octets()),
        });
        let path = Some(self.path(request));
        let args = self.arguments(request.query().unwrap_or_default());
        self.entries.clear();
        if !request.authority.is_empty() {
            self.entry(b"host", Some(&request.authority));
        }
        for (name, value) in request.headers.iter() {
            self.field(name, value, true);
        }
        let headers = Some(self.entries());
        let call = a6::httpreq_call::ReqArgs {
            id,
            src_ip,
            method,
            path,
            args,
            headers,
            conf_token: token,
        };
        let call = a6::httpreq_call::Req::create(&mut self.builder, &call);
        self.builder.finish_minimal(call);
        Ok(write_frame(out, Kind::RequestCall, self.builder.finished_data())?)
    }

    /// A response as it came from the upstream.
    ///
    /// # Errors
    /// It is longer than a frame.
    pub fn response_call(
        &mut self,
        out: &mut Vec<u8>,
        status: u16,
        headers: &Headers,
        token: u32,
        id: u32,
    ) -> Result<(), TooLong> {
        self.builder.reset();
        self.entries.clear();
        for (name, value) in headers.iter() {
            self.field(name, value, false);
        }
        let headers = Some(self.entries());
        let call = a6::httpresp_call::ReqArgs { id, status, headers, conf_token: token };
        let call = a6::httpresp_call::Req::create(&mut self.builder, &call);
        self.builder.finish_minimal(call);
        write_frame(out, Kind::ResponseCall, self.builder.finished_data())
    }

    /// What the runner asked for; `None`: there is no such thing.
    ///
    /// # Errors
    /// It is longer than a frame.
    pub fn extra_info(&mut self, out: &mut Vec<u8>, result: Option<&[u8]>) -> Result<(), TooLong> {
        self.builder.reset();
        let result = result.map(|result| self.bytes(result));
        let answer = a6::extra_info::RespArgs { result };
        let answer = a6::extra_info::Resp::create(&mut self.builder, &answer);
        self.builder.finish_minimal(answer);
        write_frame(out, Kind::ExtraInfo, self.builder.finished_data())
    }

    /// The path as APISIX shows it: what a plugin made of it, else the normalised one.
    fn path(&mut self, request: &Request) -> Bytes {
        let written = uri::split(&request.target).path;
        if written == request.path {
            return self.text(written);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let untouched = uri::normalise(written, &mut scratch).is_ok() && scratch == request.path;
        let path = self.text(if untouched { &request.path } else { written });
        self.scratch = scratch;
        path
    }

    /// Every argument decoded, one entry a value; those without a name mean nothing (OpenResty's
    /// `ngx.req.get_uri_args`).
    fn arguments(&mut self, query: &[u8]) -> Option<Entries> {
        if query.is_empty() {
            return None;
        }
        self.entries.clear();
        for pair in query.split(|byte| *byte == b'&') {
            let (name, value) = match memchr::memchr(b'=', pair) {
                Some(at) => (&pair[..at], Some(uri::decode_component(&pair[at + 1..]))),
                None => (pair, None),
            };
            if !name.is_empty() {
                self.entry(&uri::decode_component(name), value.as_deref());
            }
        }
        Some(self.entries())
    }

    /// A field; APISIX shows requests' names in lower case and responses' as they came.
    fn field(&mut self, name: &[u8], value: &[u8], lowered: bool) {
        if !lowered || !name.iter().any(u8::is_ascii_uppercase) {
            return self.entry(name, Some(value));
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend(name.iter().map(u8::to_ascii_lowercase));
        self.entry(&scratch, Some(value));
        self.scratch = scratch;
    }

    fn entry(&mut self, name: &[u8], value: Option<&[u8]>) {
        let name = Some(self.text(name));
        let value = value.map(|value| self.text(value));
        let entry = TextEntry::create(&mut self.builder, &TextEntryArgs { name, value });
        self.entries.push(entry);
    }

    /// All entries made since the last time.
    fn entries(&mut self) -> Entries {
        let entries = self.builder.create_vector(&self.entries);
        self.entries.clear();
        entries
    }

    /// Bytes that readers may take for a string.
    fn text(&mut self, text: &[u8]) -> Bytes {
        WIPOffset::new(self.builder.create_byte_string(text).value())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Bytes {
        self.builder.create_vector(bytes)
    }
}

fn method(method: &[u8]) -> Option<a6::Method> {
    use a6::Method;
    Some(match method {
        b"GET" => Method::GET,
        b"HEAD" => Method::HEAD,
        b"POST" => Method::POST,
        b"PUT" => Method::PUT,
        b"DELETE" => Method::DELETE,
        b"MKCOL" => Method::MKCOL,
        b"COPY" => Method::COPY,
        b"MOVE" => Method::MOVE,
        b"OPTIONS" => Method::OPTIONS,
        b"PROPFIND" => Method::PROPFIND,
        b"PROPPATCH" => Method::PROPPATCH,
        b"LOCK" => Method::LOCK,
        b"UNLOCK" => Method::UNLOCK,
        b"PATCH" => Method::PATCH,
        b"TRACE" => Method::TRACE,
        _ => return None,
    })
}
