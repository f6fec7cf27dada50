//! What the least runner says: the same token for every configuration, `hello world` to every
//! request.

use flatbuffers::FlatBufferBuilder;
use ringgate::runner::schema::a6;
use ringgate::runner::{Frame, HEADER_BYTES, Kind, first_frame, write_frame};

const BODY: &[u8] = b"hello world\n";

/// The frames, made once.
#[derive(Debug)]
pub(crate) struct Answers {
    token: Vec<u8>,
    stop: Vec<u8>,
}

impl Default for Answers {
    fn default() -> Self {
        Self { token: token(), stop: stop() }
    }
}

impl Answers {
    /// Answers all whole frames of the input, behind what is in `out`; gives how many bytes those
    /// frames have.
    pub(crate) fn answer(&self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let mut used = 0;
        while let Frame::Whole { kind, payload } = first_frame(&input[used..]) {
            let is_conf = kind == Kind::PrepareConf as u8;
            out.extend_from_slice(if is_conf { &self.token } else { &self.stop });
            used += HEADER_BYTES + payload.len();
        }
        used
    }
}

fn token() -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let args = a6::prepare_conf::RespArgs { conf_token: 1 };
    let root = a6::prepare_conf::Resp::create(&mut builder, &args);
    builder.finish_minimal(root);
    frame(Kind::PrepareConf, builder.finished_data())
}

fn stop() -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let body = Some(builder.create_vector(BODY));
    let args = a6::httpreq_call::StopArgs { status: 200, headers: None, body };
    let action = a6::httpreq_call::Stop::create(&mut builder, &args).as_union_value();
    let (action_type, action) = (a6::httpreq_call::Action::Stop, Some(action));
    let args = a6::httpreq_call::RespArgs { id: 0, action_type, action };
    let root = a6::httpreq_call::Resp::create(&mut builder, &args);
    builder.finish_minimal(root);
    frame(Kind::RequestCall, builder.finished_data())
}

fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(&mut frame, kind, payload).expect("it is short");
    frame
}
