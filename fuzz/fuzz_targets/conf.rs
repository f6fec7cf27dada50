//! The two configuration files: typed settings, or errors that can be shown.
#![no_main]

use ringgate::conf::{Report, Source, process, resources};

fn check(result: Result<Report, Report>) {
    let (report, failed) = match result {
        Ok(report) => (report, false),
        Err(report) => (report, true),
    };
    assert_eq!(report.has_errors(), failed);
    let shown = report.to_string();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let env = |name: &str| (name == "A").then(|| "one\ntwo: [".to_owned());
    let source = Source::new("f", text);
    check(resources::parse(&source, &env, false).map(|(_, report)| report));
    check(process::parse(&source, &env).map(|(_, report)| report));
});
