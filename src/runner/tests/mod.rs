//! Tests of the room: a runner's frames made by hand, and what becomes of messages.

mod coding;
mod fuzz;
mod loading;
mod rig;
mod talks;

use super::schema::a6::{self, TextEntry, TextEntryArgs};
use flatbuffers::{FlatBufferBuilder, WIPOffset};

/// Names with values, as tests write them.
pub(super) type Pairs<'a> = &'a [(&'a str, Option<&'a str>)];

type Builder = FlatBufferBuilder<'static>;
type EntryVector =
    WIPOffset<flatbuffers::Vector<'static, flatbuffers::ForwardsUOffset<TextEntry<'static>>>>;

fn entries(builder: &mut Builder, pairs: Pairs<'_>) -> Option<EntryVector> {
    if pairs.is_empty() {
        return None;
    }
    let made: Vec<_> = pairs
        .iter()
        .map(|(name, value)| {
            let name = Some(builder.create_vector(name.as_bytes()));
            let value = value.map(|value| builder.create_vector(value.as_bytes()));
            TextEntry::create(builder, &TextEntryArgs { name, value })
        })
        .collect();
    Some(builder.create_vector(&made))
}

fn finished<T>(mut builder: Builder, root: WIPOffset<T>) -> Vec<u8> {
    builder.finish_minimal(root);
    builder.finished_data().to_vec()
}

pub(super) fn refused(code: u8) -> Vec<u8> {
    let mut builder = Builder::new();
    let args = a6::err::RespArgs { code: a6::err::Code(code) };
    let root = a6::err::Resp::create(&mut builder, &args);
    finished(builder, root)
}

pub(super) fn token(conf_token: u32) -> Vec<u8> {
    let mut builder = Builder::new();
    let args = a6::prepare_conf::RespArgs { conf_token };
    let root = a6::prepare_conf::Resp::create(&mut builder, &args);
    finished(builder, root)
}

fn verdict(
    mut builder: Builder,
    id: u32,
    action_type: a6::httpreq_call::Action,
    action: Option<WIPOffset<flatbuffers::UnionWIPOffset>>,
) -> Vec<u8> {
    let args = a6::httpreq_call::RespArgs { id, action_type, action };
    let root = a6::httpreq_call::Resp::create(&mut builder, &args);
    finished(builder, root)
}

pub(super) fn unchanged(id: u32) -> Vec<u8> {
    verdict(Builder::new(), id, a6::httpreq_call::Action::NONE, None)
}

pub(super) fn stop(status: u16, headers: Pairs<'_>, body: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new();
    let headers = entries(&mut builder, headers);
    let body = (!body.is_empty()).then(|| builder.create_vector(body));
    let args = a6::httpreq_call::StopArgs { status, headers, body };
    let stop = a6::httpreq_call::Stop::create(&mut builder, &args).as_union_value();
    verdict(builder, 1, a6::httpreq_call::Action::Stop, Some(stop))
}

#[derive(Clone, Copy, Default)]
pub(super) struct RewriteOf<'a> {
    pub(super) path: Option<&'a str>,
    pub(super) headers: Pairs<'a>,
    pub(super) args: Pairs<'a>,
    pub(super) resp_headers: Pairs<'a>,
    pub(super) body: &'a [u8],
}

pub(super) fn rewrite(of: RewriteOf<'_>) -> Vec<u8> {
    let mut builder = Builder::new();
    let path = of.path.map(|path| builder.create_vector(path.as_bytes()));
    let headers = entries(&mut builder, of.headers);
    let args = entries(&mut builder, of.args);
    let resp_headers = entries(&mut builder, of.resp_headers);
    let body = (!of.body.is_empty()).then(|| builder.create_vector(of.body));
    let args = a6::httpreq_call::RewriteArgs { path, headers, args, resp_headers, body };
    let rewrite = a6::httpreq_call::Rewrite::create(&mut builder, &args).as_union_value();
    verdict(builder, 1, a6::httpreq_call::Action::Rewrite, Some(rewrite))
}

pub(super) fn asks(ask: super::Ask<'_>) -> Vec<u8> {
    use a6::extra_info::{Info, ReqArgs};
    let mut builder = Builder::new();
    let (info_type, info) = match ask {
        super::Ask::Var(name) => {
            let name = Some(builder.create_vector(name));
            let var = a6::extra_info::Var::create(&mut builder, &a6::extra_info::VarArgs { name });
            (Info::Var, var.as_union_value())
        }
        super::Ask::RequestBody => {
            let args = a6::extra_info::ReqBodyArgs {};
            let body = a6::extra_info::ReqBody::create(&mut builder, &args);
            (Info::ReqBody, body.as_union_value())
        }
        super::Ask::ResponseBody => {
            let args = a6::extra_info::RespBodyArgs {};
            let body = a6::extra_info::RespBody::create(&mut builder, &args);
            (Info::RespBody, body.as_union_value())
        }
    };
    let args = ReqArgs { info_type, info: Some(info) };
    let root = a6::extra_info::Req::create(&mut builder, &args);
    finished(builder, root)
}

pub(super) fn response(status: u16, headers: Pairs<'_>, body: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new();
    let headers = entries(&mut builder, headers);
    let body = (!body.is_empty()).then(|| builder.create_vector(body));
    let args = a6::httpresp_call::RespArgs { id: 1, status, headers, body };
    let root = a6::httpresp_call::Resp::create(&mut builder, &args);
    finished(builder, root)
}
