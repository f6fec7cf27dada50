//! `ringgate plugin bench`: what a plugin's callbacks cost, on the host that serves requests.

use super::engine;
use ringgate::plugin::{Message, ResponseSource};
use ringgate::proxy_wasm::{Bench, Host, Measured, Outcome, PluginSettings, Source};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Streams that are run before the first that counts.
const WARM_UP: u32 = 1_000;

/// What is measured with.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The module
    file: PathBuf,
    /// The plugin's conf: a JSON object, or a text; @FILE reads it from a file
    #[arg(long)]
    conf: String,
    /// Streams measured, one after the other in one instance
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    streams: u32,
    /// Instances made, configured and dropped
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    instances: u32,
    /// The request's path and query
    #[arg(long, default_value = "/v2/catalog/items/17?lang=en")]
    path: String,
    /// A header field of the request, beside the usual ones
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Bytes of the bodies of request and response
    #[arg(long, default_value_t = 1024)]
    body: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What one step took, each time, in nanoseconds.
type Samples = BTreeMap<Measured, Vec<u64>>;

/// Measures and prints.
///
/// # Errors
/// When the module can't run here, refuses the conf, or fails while it is measured.
pub(crate) fn bench(options: &Options) -> Result<(), String> {
    let named = |why: String| format!("{}: {why}", options.file.display());
    let host = Host::new(engine()?);
    let settings = PluginSettings::new("plugin", 0, Source::File(options.file.clone()));
    let plugins = host.load(vec![settings]).map_err(|errors| {
        named(errors.first().map(|error| error.reason.to_string()).unwrap_or_default())
    })?;
    let conf = json!({ "conf": conf(&options.conf)? });
    let bench = plugins.bench("plugin", &conf).map_err(|error| named(error.reason.to_string()))?;
    let mut samples = Samples::new();
    let outcome = measure(&bench, options, &mut samples).map_err(named)?;
    let clock = clock_ns();
    samples.values_mut().for_each(|taken| {
        taken.iter_mut().for_each(|ns| *ns = ns.saturating_sub(clock));
        taken.sort_unstable();
    });
    if options.json {
        println!("{:#}", as_json(options, &samples, outcome));
    } else {
        print!("{}", as_text(options, &samples, outcome));
    }
    Ok(())
}

/// A JSON object or a text; after `@` the name of a file with either.
fn conf(text: &str) -> Result<Value, String> {
    let text = match text.strip_prefix('@') {
        Some(file) => {
            std::fs::read_to_string(file).map_err(|e| format!("{file}: can't be read: {e}"))?
        }
        None => text.to_owned(),
    };
    match serde_json::from_str(&text) {
        Ok(object @ Value::Object(_)) => Ok(object),
        _ => Ok(Value::String(text)),
    }
}

fn measure(bench: &Bench, options: &Options, samples: &mut Samples) -> Result<Outcome, String> {
    let mut keep = |measured: Measured, took: Duration| {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        samples.entry(measured).or_default().push(ns);
    };
    let body = vec![b'x'; options.body];
    let mut message = Box::<Message>::default();
    let fields = fields(&options.header)?;
    let mut instance = bench.instance(&mut keep).map_err(|error| error.reason.to_string())?;
    for _ in 1..options.instances {
        std::mem::replace(
            &mut instance,
            bench.instance(&mut keep).map_err(|error| error.reason.to_string())?,
        )
        .end(&mut keep);
    }
    let mut outcome = Outcome::Passed;
    for number in 0..WARM_UP + options.streams {
        fill(&mut message, options, &fields);
        let counts = number >= WARM_UP;
        let record = |measured, took| {
            if counts {
                keep(measured, took);
            }
        };
        let streamed = instance.stream(&mut message, &body, respond, record);
        outcome = streamed.map_err(|fault| format!("the plugin failed: {fault}"))?;
    }
    for number in 0..WARM_UP + options.streams {
        fill(&mut message, options, &fields);
        let took = instance.whole_stream(&mut message, &body, respond);
        let took = took.map_err(|fault| format!("the plugin failed: {fault}"))?;
        if number >= WARM_UP {
            keep(Measured::Whole, took);
        }
    }
    instance.end(&mut keep);
    Ok(outcome)
}

fn fields(given: &[String]) -> Result<Vec<(String, String)>, String> {
    let own = [
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("Accept-Language", "en-US,en;q=0.5"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("Cookie", "session=0123456789abcdef"),
    ];
    let mut fields: Vec<_> = own.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    for field in given {
        let (name, value) =
            field.split_once(':').ok_or_else(|| format!("{field:?} is not `NAME: VALUE`"))?;
        fields.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(fields)
}

/// What a browser behind a load balancer sends.
fn fill(message: &mut Message, options: &Options, fields: &[(String, String)]) {
    message.clear();
    let request = &mut message.request;
    request.method.extend_from_slice(if options.body == 0 { b"GET" } else { b"POST" });
    request.target.extend_from_slice(options.path.as_bytes());
    let path = options.path.split('?').next().unwrap_or_default();
    request.path.extend_from_slice(path.as_bytes());
    request.authority.extend_from_slice(b"shop.example.com");
    for (name, value) in fields {
        request.headers.append(name.as_bytes(), value.as_bytes());
    }
}

fn respond(message: &mut Message) {
    let response = &mut message.response;
    response.status = 200;
    response.source = ResponseSource::Upstream;
    response.headers.append(b"Server", b"upstream");
    response.headers.append(b"Content-Type", b"text/html; charset=utf-8");
}

/// What looking at the clock twice takes, with nothing in between.
fn clock_ns() -> u64 {
    let looks = (0..1_000).map(|_| Instant::now().elapsed().as_nanos());
    looks.min().and_then(|ns| u64::try_from(ns).ok()).unwrap_or_default()
}

fn name(measured: Measured) -> &'static str {
    match measured {
        Measured::Start => "start an instance",
        Measured::Configure => "configure it",
        Measured::Drop => "drop it",
        Measured::ContextCreate => "context_create",
        Measured::RequestHeaders => "request_headers",
        Measured::RequestBody => "request_body",
        Measured::ResponseHeaders => "response_headers",
        Measured::ResponseBody => "response_body",
        Measured::End => "done, log, delete",
        Measured::Whole => "a stream as it runs",
    }
}

/// The quickest and the middle one; sorted before.
fn quickest_and_median(sorted: &[u64]) -> (u64, u64) {
    (sorted.first().copied().unwrap_or_default(), sorted[sorted.len() / 2])
}

fn as_text(options: &Options, samples: &Samples, outcome: Outcome) -> String {
    let (streams, instances) = (options.streams, options.instances);
    let mut text = format!(
        "{}: {streams} streams, {instances} instances; ns\n{:<20}{:>12}{:>12}\n",
        options.file.display(),
        "",
        "min",
        "median"
    );
    for (measured, taken) in samples {
        let (min, median) = quickest_and_median(taken);
        text += &format!("{:<20}{min:>12}{median:>12}\n", name(*measured));
    }
    text += &match outcome {
        Outcome::Passed => "the request went on\n".to_owned(),
        Outcome::Responded => "the plugin answered the request\n".to_owned(),
        Outcome::Closed => "the plugin closed the stream\n".to_owned(),
        Outcome::Paused(at) => {
            format!("the plugin paused in {}; what comes after was not measured\n", name(at))
        }
    };
    text
}

fn as_json(options: &Options, samples: &Samples, outcome: Outcome) -> Value {
    let steps = samples.iter().map(|(measured, taken)| {
        let (min, median) = quickest_and_median(taken);
        json!({ "step": name(*measured), "min_ns": min, "median_ns": median, "times": taken.len() })
    });
    let outcome = match outcome {
        Outcome::Passed => json!("passed"),
        Outcome::Responded => json!("responded"),
        Outcome::Closed => json!("closed"),
        Outcome::Paused(at) => json!({ "paused": name(at) }),
    };
    json!({
        "file": options.file.display().to_string(),
        "streams": options.streams,
        "instances": options.instances,
        "body_bytes": options.body,
        "steps": steps.collect::<Vec<_>>(),
        "outcome": outcome,
    })
}
