//! A runner's side of the protocol, made by hand: what the room's own tests and fuzzers and the
//! end-to-end tests have runners say. Whoever takes this file in names the tables `a6`.

use super::a6::{self, TextEntry, TextEntryArgs};
use flatbuffers::{FlatBufferBuilder, WIPOffset};

/// Names with values, as tests write them.
pub(crate) type Pairs<'a> = &'a [(&'a str, Option<&'a str>)];

type Builder = FlatBufferBuilder<'static>;
type Entries =
    WIPOffset<flatbuffers::Vector<'static, flatbuffers::ForwardsUOffset<TextEntry<'static>>>>;

fn write(builder: &mut Builder, pairs: Pairs<'_>) -> Option<Entries> {
    if pairs.is_empty() {
        return None;
    }
    let mut made = Vec::new();
    for (name, value) in pairs {
        let name = Some(builder.create_vector(name.as_bytes()));
        let value = value.map(|value| builder.create_vector(value.as_bytes()));
        made.push(TextEntry::create(builder, &TextEntryArgs { name, value }));
    }
    Some(builder.create_vector(&made))
}

fn finished<T>(mut builder: Builder, root: WIPOffset<T>) -> Vec<u8> {
    builder.finish_minimal(root);
    builder.finished_data().to_vec()
}

pub(crate) fn refused(code: u8) -> Vec<u8> {
    let mut builder = Builder::new();
    let args = a6::err::RespArgs { code: a6::err::Code(code) };
    let root = a6::err::Resp::create(&mut builder, &args);
    finished(builder, root)
}

pub(crate) fn token(conf_token: u32) -> Vec<u8> {
    let mut builder = Builder::new();
    let args = a6::prepare_conf::RespArgs { conf_token };
    let root = a6::prepare_conf::Resp::create(&mut builder, &args);
    finished(builder, root)
}

/// Lets the request of that id pass.
pub(crate) fn unchanged(id: u32) -> Vec<u8> {
    let mut builder = Builder::new();
    let args = a6::httpreq_call::RespArgs { id, ..Default::default() };
    let root = a6::httpreq_call::Resp::create(&mut builder, &args);
    finished(builder, root)
}

/// Ends the request; runners differ in whether an empty body is there.
pub(crate) fn stop_with(status: u16, headers: Pairs<'_>, body: Option<&[u8]>) -> Vec<u8> {
    let mut builder = Builder::new();
    let headers = write(&mut builder, headers);
    let body = body.map(|body| builder.create_vector(body));
    let args = a6::httpreq_call::StopArgs { status, headers, body };
    let action = a6::httpreq_call::Stop::create(&mut builder, &args).as_union_value();
    let (action_type, action) = (a6::httpreq_call::Action::Stop, Some(action));
    let args = a6::httpreq_call::RespArgs { id: 1, action_type, action };
    let root = a6::httpreq_call::Resp::create(&mut builder, &args);
    finished(builder, root)
}

/// What a runner changes of a request.
#[derive(Clone, Copy, Default)]
pub(crate) struct Changes<'a> {
    pub(crate) path: Option<&'a str>,
    pub(crate) headers: Pairs<'a>,
    pub(crate) args: Pairs<'a>,
    pub(crate) resp_headers: Pairs<'a>,
    pub(crate) body: &'a [u8],
}

pub(crate) fn rewrite(changes: Changes<'_>) -> Vec<u8> {
    let mut builder = Builder::new();
    let path = changes.path.map(|path| builder.create_vector(path.as_bytes()));
    let headers = write(&mut builder, changes.headers);
    let args = write(&mut builder, changes.args);
    let resp_headers = write(&mut builder, changes.resp_headers);
    let body = (!changes.body.is_empty()).then(|| builder.create_vector(changes.body));
    let args = a6::httpreq_call::RewriteArgs { path, headers, args, resp_headers, body };
    let action = a6::httpreq_call::Rewrite::create(&mut builder, &args).as_union_value();
    let (action_type, action) = (a6::httpreq_call::Action::Rewrite, Some(action));
    let args = a6::httpreq_call::RespArgs { id: 1, action_type, action };
    let root = a6::httpreq_call::Resp::create(&mut builder, &args);
    finished(builder, root)
}

pub(crate) fn response(status: u16, headers: Pairs<'_>, body: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new();
    let headers = write(&mut builder, headers);
    let body = (!body.is_empty()).then(|| builder.create_vector(body));
    let args = a6::httpresp_call::RespArgs { id: 1, status, headers, body };
    let root = a6::httpresp_call::Resp::create(&mut builder, &args);
    finished(builder, root)
}

/// A question for a variable.
pub(crate) fn var(name: impl AsRef<[u8]>) -> Vec<u8> {
    let mut builder = Builder::new();
    let name = Some(builder.create_vector(name.as_ref()));
    let var = a6::extra_info::Var::create(&mut builder, &a6::extra_info::VarArgs { name });
    question(builder, a6::extra_info::Info::Var, var.as_union_value())
}

/// A question for the request's body.
pub(crate) fn request_body() -> Vec<u8> {
    let mut builder = Builder::new();
    let args = a6::extra_info::ReqBodyArgs {};
    let body = a6::extra_info::ReqBody::create(&mut builder, &args);
    question(builder, a6::extra_info::Info::ReqBody, body.as_union_value())
}

/// A question for the response's body.
pub(crate) fn response_body() -> Vec<u8> {
    let mut builder = Builder::new();
    let args = a6::extra_info::RespBodyArgs {};
    let body = a6::extra_info::RespBody::create(&mut builder, &args);
    question(builder, a6::extra_info::Info::RespBody, body.as_union_value())
}

fn question(
    mut builder: Builder,
    info_type: a6::extra_info::Info,
    info: WIPOffset<flatbuffers::UnionWIPOffset>,
) -> Vec<u8> {
    let args = a6::extra_info::ReqArgs { info_type, info: Some(info) };
    let root = a6::extra_info::Req::create(&mut builder, &args);
    finished(builder, root)
}
