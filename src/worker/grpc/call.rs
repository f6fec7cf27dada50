//! One gRPC call or stream.

use super::super::Worker;
use super::{Cut, Outgoing, Peer, Wish};
use crate::exchange::grpc::{self, GrpcMessages, status};
use crate::http::Headers;
use crate::net::{self, Http2Sender};
use crate::plugin::{CallTarget, GrpcEvent, GrpcOpen};
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// How a call ended: a status and its words.
struct End {
    status: u32,
    message: String,
}

impl End {
    fn new(status: u32, message: impl ToString) -> Self {
        Self { status, message: message.to_string() }
    }
}

/// A call that its plugin gave up: nobody hears of it any more.
struct Cancelled;

/// Runs a call to its end, unless it is cancelled first.
pub(super) async fn run(worker: Rc<Worker>, open: Box<GrpcOpen>, outgoing: Rc<Outgoing>) {
    let number = open.call;
    let ended = {
        let talk = talk(&worker, &open, &outgoing);
        let bounded = async {
            match open.timeout_ms {
                0 => talk.await,
                ms => net::within_ms(ms, talk)
                    .await
                    .unwrap_or_else(|| Ok(End::new(status::DEADLINE_EXCEEDED, "timeout"))),
            }
        };
        let mut bounded = pin!(bounded);
        poll_fn(|cx| match outgoing.poll_end(cx) {
            Poll::Pending => bounded.as_mut().poll(cx),
            Poll::Ready(Cut::Cancelled) => Poll::Ready(Err(Cancelled)),
            Poll::Ready(Cut::Overflowed) => {
                let words = "messages wait that the peer does not take";
                Poll::Ready(Ok(End::new(status::RESOURCE_EXHAUSTED, words)))
            }
        })
        .await
    };
    // What is still being sent, and its stream, would wait for the peer for ever.
    outgoing.give_up();
    worker.grpc.calls.borrow_mut().remove(&number);
    if let Ok(End { status, message }) = ended {
        tell(&worker, &open, GrpcEvent::Closed { status, message });
    }
}

fn tell(worker: &Rc<Worker>, open: &GrpcOpen, event: GrpcEvent) {
    worker.tell(&open.to, |root, id, locals| root.on_grpc(id, event, locals));
}

async fn talk(
    worker: &Rc<Worker>,
    open: &GrpcOpen,
    outgoing: &Rc<Outgoing>,
) -> Result<End, Cancelled> {
    let Some(peer) = peer(worker, &open.upstream).await else {
        return Ok(End::new(status::UNAVAILABLE, "no healthy upstream"));
    };
    let address = peer.address;
    let sender = match worker.http2(peer).await {
        Ok(sender) => sender,
        Err(error) => return Ok(End::new(status::UNAVAILABLE, error)),
    };
    let (response, stream) = match begin(open, address, sender) {
        Ok(begun) => begun,
        Err(end) => return Ok(end),
    };
    let sending = Rc::clone(outgoing);
    let first = open.message.clone();
    net::spawn(async move { send_all(stream, first, sending).await });
    let ended = receive(worker, open, response).await;
    Ok(ended.unwrap_or_else(|end| end))
}

async fn peer(worker: &Rc<Worker>, target: &CallTarget) -> Option<Peer> {
    match target {
        CallTarget::Direct(target) => {
            let address = worker.lookups.find(target, &worker.postbox).await?;
            Some(Peer { address, own: None })
        }
        CallTarget::Upstream(name) => {
            let pinned = worker.pinned();
            let number = *pinned.snapshot.upstream_names.get(name)?;
            let address = worker.pick(&pinned, number, &[])?.address.inet()?;
            Some(Peer { address, own: pinned.upstream(number).proxy_protocol })
        }
    }
}

/// Sends the request's head.
fn begin(
    open: &GrpcOpen,
    address: SocketAddr,
    mut sender: Http2Sender,
) -> Result<(ResponseFuture, SendStream<Bytes>), End> {
    let bad = |error: http_types::Error| End::new(status::INTERNAL, error);
    let [service, method] = [&open.service, &open.method].map(|name| String::from_utf8_lossy(name));
    let authority = match &open.upstream {
        CallTarget::Direct(target) => String::from_utf8_lossy(target).into_owned(),
        CallTarget::Upstream(_) => address.to_string(),
    };
    let mut request = http_types::Request::post(format!("http://{authority}/{service}/{method}"))
        .version(http_types::Version::HTTP_2)
        .header("te", "trailers")
        .header("content-type", "application/grpc");
    if open.timeout_ms > 0 {
        request = request.header("grpc-timeout", grpc_timeout(open.timeout_ms));
    }
    for (name, value) in open.metadata.iter().filter(|(name, _)| !name.starts_with(b":")) {
        request = request.header(name, value);
    }
    let request = request.body(()).map_err(bad)?;
    sender.send_request(request, false).map_err(|error| End::new(status::UNAVAILABLE, error))
}

/// At most eight digits and a unit, as the protocol wants.
fn grpc_timeout(ms: u64) -> String {
    if ms < 100_000_000 { format!("{ms}m") } else { format!("{}S", (ms / 1000).min(99_999_999)) }
}

/// Sends messages as they come, and the end; a cancelled call is reset.
async fn send_all(mut stream: SendStream<Bytes>, first: Option<Vec<u8>>, outgoing: Rc<Outgoing>) {
    let unary = first.is_some();
    let mut next = first.map(Wish::Message);
    loop {
        let wish = match next.take() {
            Some(wish) => Some(wish),
            None => {
                poll_fn(|cx| match stream.poll_reset(cx) {
                    // The peer wants no more.
                    Poll::Ready(_) => Poll::Ready(None),
                    Poll::Pending => outgoing.poll_wish(cx),
                })
                .await
            }
        };
        let sent = match wish {
            None => return stream.send_reset(Reason::CANCEL),
            Some(Wish::End) => return drop(stream.send_data(Bytes::new(), true)),
            Some(Wish::Message(message)) => {
                let mut framed = Vec::with_capacity(message.len() + 5);
                let framing = grpc::write_grpc_message(&mut framed, &message);
                drop(message);
                framing.is_ok() && send_framed(&mut stream, framed.into(), unary, &outgoing).await
            }
        };
        if unary || !sent {
            return;
        }
    }
}

/// Sends a message as its peer gives room for it, so that no more than one is buffered below.
async fn send_framed(
    stream: &mut SendStream<Bytes>,
    mut rest: Bytes,
    end: bool,
    outgoing: &Outgoing,
) -> bool {
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let room = poll_fn(|cx| match (outgoing.stops_sending(cx), stream.capacity()) {
            (true, _) => Poll::Ready(None),
            (false, 0) => stream.poll_capacity(cx),
            (false, room) => Poll::Ready(Some(Ok(room))),
        });
        let room = match room.await {
            Some(Ok(0)) => continue,
            Some(Ok(room)) => room,
            Some(Err(_)) | None => {
                stream.send_reset(Reason::CANCEL);
                return false;
            }
        };
        let piece = rest.split_to(room.min(rest.len()));
        if stream.send_data(piece, end && rest.is_empty()).is_err() {
            return false;
        }
    }
    true
}

/// Reads the response and tells of everything that comes; how it ended is the answer.
async fn receive(
    worker: &Rc<Worker>,
    open: &GrpcOpen,
    response: ResponseFuture,
) -> Result<End, End> {
    let lost = |error: h2::Error| End::new(status::UNAVAILABLE, error);
    let (head, mut body) = response.await.map_err(lost)?.into_parts();
    if let Some(end) = end_of(&head.headers) {
        return Ok(end);
    }
    if head.status != http_types::StatusCode::OK {
        let code = grpc::grpc_status_of_http(head.status.as_u16());
        return Ok(End::new(code, format!("HTTP status {}", head.status.as_u16())));
    }
    let unary = open.message.is_some();
    if !unary {
        tell(worker, open, GrpcEvent::InitialMetadata(fields(&head.headers)));
    }
    let mut messages = GrpcMessages::new(open.message_bytes_max);
    let mut only = None;
    while let Some(message) = next_message(&mut body, &mut messages).await? {
        match unary {
            true => only = Some(message),
            false => tell(worker, open, GrpcEvent::Message(message)),
        }
    }
    let trailers = body.trailers().await.map_err(lost)?.unwrap_or_default();
    if !unary {
        tell(worker, open, GrpcEvent::TrailingMetadata(fields(&trailers)));
    }
    let end = end_of(&trailers).unwrap_or_else(|| End::new(status::UNKNOWN, "no status"));
    if let (Some(message), 0) = (only, end.status) {
        tell(worker, open, GrpcEvent::Message(message));
    }
    Ok(end)
}

/// The next message; `None` when no more come.
async fn next_message(
    body: &mut RecvStream,
    messages: &mut GrpcMessages,
) -> Result<Option<Vec<u8>>, End> {
    loop {
        if let Some(message) = messages.take().map_err(|code| End::new(code, "a bad message"))? {
            return Ok(Some(message));
        }
        match body.data().await {
            None if messages.is_cut() => return Err(End::new(status::INTERNAL, "a cut message")),
            None => return Ok(None),
            Some(Err(error)) => return Err(End::new(status::UNAVAILABLE, error)),
            Some(Ok(bytes)) => {
                messages.push(&bytes);
                // The window was ours to give: these bytes are ours now.
                let _ = body.flow_control().release_capacity(bytes.len());
            }
        }
    }
}

/// The status in a head without a body, or in trailers.
fn end_of(fields: &http_types::HeaderMap) -> Option<End> {
    let code = grpc::grpc_status(fields.get("grpc-status")?.as_bytes());
    let words = fields.get("grpc-message").map(|value| grpc::grpc_message(value.as_bytes()));
    Some(End::new(code, words.unwrap_or_default()))
}

fn fields(map: &http_types::HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in map {
        headers.append(name.as_str().as_bytes(), value.as_bytes());
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::grpc_timeout;

    #[test]
    fn timeouts_have_eight_digits_at_most() {
        assert_eq!(grpc_timeout(250), "250m");
        assert_eq!(grpc_timeout(99_999_999), "99999999m");
        assert_eq!(grpc_timeout(100_000_000), "100000S");
        assert_eq!(grpc_timeout(u64::MAX), "99999999S");
    }
}
