//! What tests and fuzzers of the room stand on: a runner's frames made by hand, a plugin without a
//! worker.

pub(crate) mod rig;

use super::decode::Ask;
use super::schema::a6::{self, TextEntry, TextEntryArgs};
use flatbuffers::{FlatBufferBuilder, WIPOffset};

/// Names with values, as tests write them.
pub(crate) type Pairs<'a> = &'a [(&'a str, Option<&'a str>)];

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

pub(crate) fn unchanged(id: u32) -> Vec<u8> {
    verdict(Builder::new(), id, a6::httpreq_call::Action::NONE, None)
}

pub(crate) fn stop(status: u16, headers: Pairs<'_>, body: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new();
    let headers = entries(&mut builder, headers);
    let body = (!body.is_empty()).then(|| builder.create_vector(body));
    let args = a6::httpreq_call::StopArgs { status, headers, body };
    let stop = a6::httpreq_call::Stop::create(&mut builder, &args).as_union_value();
    verdict(builder, 1, a6::httpreq_call::Action::Stop, Some(stop))
}

#[derive(Clone, Copy, Default)]
pub(crate) struct RewriteOf<'a> {
    pub(crate) path: Option<&'a str>,
    pub(crate) headers: Pairs<'a>,
    pub(crate) args: Pairs<'a>,
    pub(crate) resp_headers: Pairs<'a>,
    pub(crate) body: &'a [u8],
}

pub(crate) fn rewrite(of: RewriteOf<'_>) -> Vec<u8> {
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

pub(crate) fn asks(ask: Ask<'_>) -> Vec<u8> {
    use a6::extra_info::{Info, ReqArgs};
    let mut builder = Builder::new();
    let (info_type, info) = match ask {
        Ask::Var(name) => {
            let name = Some(builder.create_vector(name));
            let var = a6::extra_info::Var::create(&mut builder, &a6::extra_info::VarArgs { name });
            (Info::Var, var.as_union_value())
        }
        Ask::RequestBody => {
            let args = a6::extra_info::ReqBodyArgs {};
            let body = a6::extra_info::ReqBody::create(&mut builder, &args);
            (Info::ReqBody, body.as_union_value())
        }
        Ask::ResponseBody => {
            let args = a6::extra_info::RespBodyArgs {};
            let body = a6::extra_info::RespBody::create(&mut builder, &args);
            (Info::RespBody, body.as_union_value())
        }
    };
    let args = ReqArgs { info_type, info: Some(info) };
    let root = a6::extra_info::Req::create(&mut builder, &args);
    finished(builder, root)
}

pub(crate) fn response(status: u16, headers: Pairs<'_>, body: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new();
    let headers = entries(&mut builder, headers);
    let body = (!body.is_empty()).then(|| builder.create_vector(body));
    let args = a6::httpresp_call::RespArgs { id: 1, status, headers, body };
    let root = a6::httpresp_call::Resp::create(&mut builder, &args);
    finished(builder, root)
}
