//! Variables of the upstream and of how the exchange went.

use super::value::Value;
use super::{RequestFacts, joined, some};
use crate::plugin::{Message, ResponseSource};

/// The value of such a variable. Times are those of the last attempt, and there once they have
/// passed.
pub(super) fn upstream_variable<'a, F>(facts: &'a F, name: &str) -> Option<Value<'a>>
where
    F: RequestFacts + ?Sized,
{
    let message = facts.message();
    let attempts = message.map(|message| &message.attempts).filter(|tries| tries.count > 0);
    match name {
        "balancer_ip" => Some(Value::Ip(facts.upstream()?.ip())),
        "balancer_port" => Some(Value::Number(facts.upstream()?.port().into())),
        "upstream_addr" => Some(Value::Socket(facts.upstream()?)),
        "upstream_name" => some(facts.route()?.upstream_name.as_bytes()).map(Value::Bytes),
        "upstream_scheme" => Some(Value::Bytes(b"http")),
        "upstream_host" => some(upstream_host(facts)).map(Value::Bytes),
        "upstream_uri" => some(facts.target()).map(Value::Bytes),
        "upstream_status" => facts.upstream_status().map(|status| Value::Number(status.into())),
        "upstream_tries" => Some(Value::Number(attempts?.count.into())),
        "upstream_connect_time" => attempts?.until_ready_ns().map(Value::Seconds),
        "upstream_header_time" => attempts?.until_head_ns().map(Value::Seconds),
        "upstream_response_time" => attempts?.until_received_ns().map(Value::Seconds),
        "response_source" => source(message?).map(Value::Bytes),
        "response_details" => some(&message?.response.details).map(Value::Bytes),
        _ => None,
    }
}

/// `upstream_http_NAME`: a field of the upstream's response, as plugins left it.
pub(super) fn upstream_field<'a, F>(facts: &'a F, name: &[u8]) -> Option<Value<'a>>
where
    F: RequestFacts + ?Sized,
{
    facts.upstream_status()?;
    joined(b", ", name, |visit| facts.for_each_response_field(visit))
}

/// The Host that goes upstream where it passes that on.
fn upstream_host<F: RequestFacts + ?Sized>(facts: &F) -> &[u8] {
    let own = facts.message().map(|message| &message.request.upstream_host[..]);
    own.and_then(some).unwrap_or_else(|| facts.authority())
}

fn source(message: &Message) -> Option<&'static [u8]> {
    match message.response.source {
        ResponseSource::None => None,
        ResponseSource::Upstream => Some(b"upstream"),
        ResponseSource::Plugin => Some(b"plugin"),
        ResponseSource::Gateway => Some(b"gateway"),
    }
}
