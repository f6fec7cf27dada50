//! What a callout brought, while its callback shows it to the guest (ABI reference §10, §11).

use crate::http::Headers;
use crate::plugin::HttpReply;

/// The first map that belongs to callouts.
pub(super) const MAP_FIRST: u32 = 4;

/// The gRPC-like code of a call without a response, as Envoy gives it.
const BROKEN_CONNECTION: u32 = 11;

/// Maps 4 to 7, buffers 4 and 5, and the status. Empty outside of such callbacks.
#[derive(Debug, Default)]
pub(super) struct Reply {
    maps: [Option<Headers>; 4],
    /// Buffer 4.
    pub(super) body: Option<Vec<u8>>,
    /// Buffer 5.
    pub(super) grpc_message: Option<Vec<u8>>,
    /// What `proxy_get_status` gives.
    pub(super) code: u32,
    /// Its words.
    pub(super) words: String,
}

impl Reply {
    /// An HTTP callout's. The sizes its callback is told follow.
    pub(super) fn of_http(reply: &mut HttpReply) -> Self {
        let mut shown = Self::default();
        if let Some(failure) = reply.failure {
            (shown.code, shown.words) = (BROKEN_CONNECTION, failure.as_str().to_owned());
        } else {
            let mut headers = Headers::new();
            headers.append(b":status", itoa::Buffer::new().format(reply.status).as_bytes());
            reply.headers.iter().for_each(|(name, value)| headers.append(name, value));
            shown.maps[2] = Some(headers);
        }
        shown.maps[2].get_or_insert_default();
        shown.maps[3] = Some(std::mem::take(&mut reply.trailers));
        shown.body = Some(std::mem::take(&mut reply.body));
        shown
    }

    /// gRPC metadata: the initial one is map 4, the trailing one map 5.
    pub(super) fn of_metadata(map: u32, fields: Headers) -> Self {
        let mut shown = Self::default();
        if let Some(place) = shown.maps.get_mut((map - MAP_FIRST) as usize) {
            *place = Some(fields);
        }
        shown
    }

    /// A gRPC message.
    pub(super) fn of_message(message: Vec<u8>) -> Self {
        Self { grpc_message: Some(message), ..Self::default() }
    }

    /// The end of a gRPC call.
    pub(super) fn of_status(code: u32, words: String) -> Self {
        Self { code, words, ..Self::default() }
    }

    /// The map of that number, if it is shown.
    pub(super) fn map(&self, number: u32) -> Option<&Headers> {
        self.maps.get(number.checked_sub(MAP_FIRST)? as usize)?.as_ref()
    }

    pub(super) fn map_len(&self, number: u32) -> u32 {
        self.map(number).map_or(0, |map| map.len() as u32)
    }
}
