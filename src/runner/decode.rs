//! What runners send, verified. A frame is either wholly right or wrong.

use super::frame::Kind;
use super::schema::a6::{self, TextEntry};
use crate::http::{is_field_value, is_token};
use crate::limits;
use flatbuffers::{Follow, ForwardsUOffset, Vector, Verifiable, VerifierOptions};
use std::fmt;

/// A frame of a runner.
#[derive(Debug)]
pub enum Reply<'a> {
    /// It could not do what it was asked.
    Refused(Refusal),
    /// The token of a configuration.
    Token(u32),
    /// It asks for something before it decides.
    Asks(Ask<'a>),
    /// The request goes on as it is.
    Unchanged {
        /// The request's id, as the runner understood it.
        id: u32,
    },
    /// The request is answered.
    Stop(Stop<'a>),
    /// The request goes on, changed.
    Rewrite(Rewrite<'a>),
    /// What becomes of a response.
    Response(NewResponse<'a>),
}

/// Why a runner refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It could not read what it got.
    BadRequest,
    /// It can't serve.
    ServiceUnavailable,
    /// It forgot the configuration.
    TokenNotFound,
    /// A code that came after this was written.
    Unknown(u8),
}

/// What a runner asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// A variable's value.
    Var(&'a [u8]),
    /// The request's body.
    RequestBody,
    /// The response's body.
    ResponseBody,
}

/// The runner's own answer to a request.
#[derive(Debug)]
pub struct Stop<'a> {
    /// 200 to 999.
    pub status: u16,
    /// Its fields.
    pub headers: Entries<'a>,
    /// Its body, if it is not empty.
    pub body: Option<&'a [u8]>,
}

/// Changes to a request.
#[derive(Debug)]
pub struct Rewrite<'a> {
    /// The new path, not encoded.
    pub path: Option<&'a [u8]>,
    /// Fields to set; those without a value to take away.
    pub headers: Entries<'a>,
    /// Arguments to set; those without a value to take away.
    pub args: Entries<'a>,
    /// Fields of the response to come.
    pub resp_headers: Entries<'a>,
    /// The new body, if it is not empty.
    pub body: Option<&'a [u8]>,
}

/// Changes to a response.
#[derive(Debug)]
pub struct NewResponse<'a> {
    /// 200 to 999, if it changes.
    pub status: Option<u16>,
    /// Fields to set; those without a value to take away.
    pub headers: Entries<'a>,
    /// The new body, if it is not empty.
    pub body: Option<&'a [u8]>,
}

/// Why a frame is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Its type is not that of a reply to what was sent.
    Type(u8),
    /// Its payload is not the table it should be.
    Table,
    /// It asks for something that is not in the protocol.
    Ask(u8),
    /// It decides something that is not in the protocol.
    Action(u8),
    /// A status that no response can have.
    Status(u16),
    /// A name or value that can't stand in a header.
    Field,
    /// It lets a request pass, but not the one it was asked about. The Python runner sends its
    /// errors with the request's type; they would be read as this.
    Id(u32),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(kind) => write!(f, "unexpected type {kind}"),
            Self::Table => f.write_str("the data is no table of the protocol, or truncated"),
            Self::Ask(kind) => write!(f, "unsupported info type: {kind}"),
            Self::Action(kind) => write!(f, "unsupported action: {kind}"),
            Self::Status(status) => write!(f, "{status} is no status of a response"),
            Self::Id(id) => write!(f, "the reply is to request {id}, or it is an error"),
            Self::Field => f.write_str("a header's name or value has bytes that it must not have"),
        }
    }
}

impl std::error::Error for Wrong {}

impl fmt::Display for Refusal {
    /// APISIX's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRequest => f.write_str("bad request"),
            Self::ServiceUnavailable => f.write_str("service unavailable"),
            Self::TokenNotFound => f.write_str("conf token not found"),
            Self::Unknown(code) => write!(f, "unknown err {code}"),
        }
    }
}

/// What a table of ours may come to. A frame may point to the same bytes many times over; without
/// these bounds its verification could take seconds.
const BOUNDS: VerifierOptions = VerifierOptions {
    max_depth: 4,
    max_tables: limits::RUNNER_TABLES_MAX,
    max_apparent_size: 2 * limits::RUNNER_FRAME_BYTES_MAX,
    ignore_missing_null_terminator: true,
};

/// Reads the reply to a frame of kind `sent`.
///
/// # Errors
/// The frame is not a whole and right reply to that.
pub fn decode(kind: u8, payload: &[u8], sent: Kind) -> Result<Reply<'_>, Wrong> {
    match Kind::from_byte(kind) {
        Some(Kind::Error) => refusal(payload).map(Reply::Refused),
        Some(Kind::ExtraInfo) if sent != Kind::PrepareConf => ask(payload).map(Reply::Asks),
        Some(kind) if kind == sent => match kind {
            Kind::PrepareConf => {
                table::<a6::prepare_conf::Resp<'_>>(payload).map(|t| Reply::Token(t.conf_token()))
            }
            Kind::RequestCall => verdict(payload),
            Kind::ResponseCall => response(payload),
            Kind::Error | Kind::ExtraInfo => Err(Wrong::Type(kind as u8)),
        },
        _ => Err(Wrong::Type(kind)),
    }
}

fn table<'a, T>(payload: &'a [u8]) -> Result<T::Inner, Wrong>
where
    T: Follow<'a> + Verifiable + 'a,
{
    flatbuffers::root_with_opts::<T>(&BOUNDS, payload).map_err(|_| Wrong::Table)
}

fn refusal(payload: &[u8]) -> Result<Refusal, Wrong> {
    use a6::err::{Code, Resp};
    Ok(match table::<Resp<'_>>(payload)?.code() {
        Code::BAD_REQUEST => Refusal::BadRequest,
        Code::SERVICE_UNAVAILABLE => Refusal::ServiceUnavailable,
        Code::CONF_TOKEN_NOT_FOUND => Refusal::TokenNotFound,
        Code(other) => Refusal::Unknown(other),
    })
}

fn ask(payload: &[u8]) -> Result<Ask<'_>, Wrong> {
    use a6::extra_info::{Info, Req};
    let ask = table::<Req<'_>>(payload)?;
    match ask.info_type() {
        Info::Var => {
            let var = ask.info_as_var().ok_or(Wrong::Table)?;
            Ok(Ask::Var(var.name().map(|name| name.bytes()).unwrap_or_default()))
        }
        Info::ReqBody => Ok(Ask::RequestBody),
        Info::RespBody => Ok(Ask::ResponseBody),
        Info(other) => Err(Wrong::Ask(other)),
    }
}

fn verdict(payload: &[u8]) -> Result<Reply<'_>, Wrong> {
    use a6::httpreq_call::{Action, Resp};
    let verdict = table::<Resp<'_>>(payload)?;
    match verdict.action_type() {
        Action::NONE => Ok(Reply::Unchanged { id: verdict.id() }),
        Action::Stop => {
            let stop = verdict.action_as_stop().ok_or(Wrong::Table)?;
            let status = if stop.status() == 0 { 200 } else { stop.status() };
            Ok(Reply::Stop(Stop {
                status: checked_status(status)?,
                headers: Entries(stop.headers()).checked()?,
                body: full(stop.body()),
            }))
        }
        Action::Rewrite => {
            let rewrite = verdict.action_as_rewrite().ok_or(Wrong::Table)?;
            Ok(Reply::Rewrite(Rewrite {
                path: full(rewrite.path()),
                headers: Entries(rewrite.headers()).checked()?,
                args: Entries(rewrite.args()),
                resp_headers: Entries(rewrite.resp_headers()).checked()?,
                body: full(rewrite.body()),
            }))
        }
        Action(other) => Err(Wrong::Action(other)),
    }
}

fn response(payload: &[u8]) -> Result<Reply<'_>, Wrong> {
    let response = table::<a6::httpresp_call::Resp<'_>>(payload)?;
    let status = match response.status() {
        0 => None,
        status => Some(checked_status(status)?),
    };
    Ok(Reply::Response(NewResponse {
        status,
        headers: Entries(response.headers()).checked()?,
        body: full(response.body()),
    }))
}

fn checked_status(status: u16) -> Result<u16, Wrong> {
    if (200..=999).contains(&status) { Ok(status) } else { Err(Wrong::Status(status)) }
}

fn full(bytes: Option<Vector<'_, u8>>) -> Option<&[u8]> {
    bytes.map(|bytes| bytes.bytes()).filter(|bytes| !bytes.is_empty())
}

/// Names with values, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'a>(Option<Vector<'a, ForwardsUOffset<TextEntry<'a>>>>);

impl<'a> Entries<'a> {
    /// Each name with its value, if it has one. Entries without a name mean nothing.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        self.0.into_iter().flatten().filter_map(|entry| {
            let name = full(entry.name())?;
            Some((name, entry.value().map(|value| value.bytes())))
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// Fields that may stand in a head: nothing in them ends a line.
    fn checked(self) -> Result<Self, Wrong> {
        let good = |(name, value): (&[u8], Option<&[u8]>)| {
            is_token(name) && value.is_none_or(is_field_value)
        };
        if self.iter().all(good) { Ok(self) } else { Err(Wrong::Field) }
    }
}
