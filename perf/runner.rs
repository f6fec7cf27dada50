//! The least a plugin runner can do: `runner SOCKET`. It gives every configuration the same token and
//! answers every request with `hello world`, so that what is measured is the way there and back.

use flatbuffers::FlatBufferBuilder;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{UnixListener, UnixStream};
use ringgate::runner::schema::a6;
use ringgate::runner::{Frame, HEADER_BYTES, Kind, first_frame, write_frame};
use std::io;
use std::rc::Rc;

const BODY: &[u8] = b"hello world\n";

/// The answers, made once.
struct Answers {
    token: Vec<u8>,
    stop: Vec<u8>,
}

fn main() -> io::Result<()> {
    let socket = std::env::args().nth(1).or_else(|| std::env::var("APISIX_LISTEN_ADDRESS").ok());
    let Some(socket) = socket else {
        return Err(io::Error::other("usage: runner SOCKET"));
    };
    let path = socket.trim_start_matches("unix:").to_owned();
    let mut runtime = monoio::RuntimeBuilder::<monoio::FusionDriver>::new().build()?;
    runtime.block_on(serve(&path))
}

async fn serve(path: &str) -> io::Result<()> {
    if std::fs::exists(path)? {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let answers = Rc::new(answers());
    println!("listening on {path}");
    loop {
        let (stream, _) = listener.accept().await?;
        let answers = Rc::clone(&answers);
        monoio::spawn(async move {
            // The gateway hangs up when it is done; there is nothing to do about that.
            let _ = talk(stream, &answers).await;
        });
    }
}

async fn talk(mut stream: UnixStream, answers: &Answers) -> io::Result<()> {
    let mut input = Vec::with_capacity(16 * 1024);
    loop {
        let mut out = Vec::new();
        let mut used = 0;
        while let Frame::Whole { kind, payload } = first_frame(&input[used..]) {
            let is_conf = kind == Kind::PrepareConf as u8;
            out.extend_from_slice(if is_conf { &answers.token } else { &answers.stop });
            used += HEADER_BYTES + payload.len();
        }
        input.drain(..used);
        if !out.is_empty() {
            stream.write_all(out).await.0?;
        }
        let received = std::mem::take(&mut input);
        let (read, buffer) = stream.read(Vec::with_capacity(16 * 1024)).await;
        if read? == 0 {
            return Ok(());
        }
        input = if received.is_empty() { buffer } else { [received, buffer].concat() };
    }
}

fn answers() -> Answers {
    let mut builder = FlatBufferBuilder::new();
    let args = a6::prepare_conf::RespArgs { conf_token: 1 };
    let root = a6::prepare_conf::Resp::create(&mut builder, &args);
    builder.finish_minimal(root);
    let mut token = Vec::new();
    write_frame(&mut token, Kind::PrepareConf, builder.finished_data()).expect("it is short");

    builder.reset();
    let body = Some(builder.create_vector(BODY));
    let args = a6::httpreq_call::StopArgs { status: 200, headers: None, body };
    let action = a6::httpreq_call::Stop::create(&mut builder, &args).as_union_value();
    let (action_type, action) = (a6::httpreq_call::Action::Stop, Some(action));
    let args = a6::httpreq_call::RespArgs { id: 0, action_type, action };
    let root = a6::httpreq_call::Resp::create(&mut builder, &args);
    builder.finish_minimal(root);
    let mut stop = Vec::new();
    write_frame(&mut stop, Kind::RequestCall, builder.finished_data()).expect("it is short");
    Answers { token, stop }
}
