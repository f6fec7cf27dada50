//! The `ringgate` command.
//!
//! Exit codes: 0 done, 1 the configuration is wrong, 2 wrong usage, 3 it can't run, 130
//! interrupted.

mod demo_upstream;
mod plugin_tool;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use ringgate::control::{self, Exit, Failure, Question};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An API gateway for Linux io_uring hosts.
#[derive(Parser)]
#[command(name = "ringgate", version, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 the configuration is wrong, 2 wrong usage, \
                        3 it can't run, 130 interrupted by a second SIGINT.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    Run {
        /// The process's settings; apisix.yaml is read beside it
        #[arg(short, long, default_value = "conf/config.yaml")]
        config: PathBuf,
    },
    /// Check the configuration, plugins included, and exit
    Check {
        /// The process's settings; apisix.yaml is read beside it
        #[arg(short, long, default_value = "conf/config.yaml")]
        config: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Refuse what gives a warning, too
        #[arg(long)]
        strict: bool,
    },
    /// Say which route a request would take, and why
    Explain {
        /// GET, for example
        method: String,
        /// http://host/path?query, or the path alone
        url: String,
        /// A header field, `Name: value`; may be given again
        #[arg(short = 'H', long = "header")]
        headers: Vec<String>,
        /// Whom the request comes from
        #[arg(long, default_value = "127.0.0.1")]
        from: IpAddr,
        /// The process's settings; apisix.yaml is read beside it
        #[arg(short, long, default_value = "conf/config.yaml")]
        config: PathBuf,
    },
    /// Say what another configuration would change
    Diff {
        /// A config.yaml, or the folder it is in
        old: PathBuf,
        /// The other one
        new: PathBuf,
    },
    /// Print the JSON Schema of a file, for editors
    Schema {
        /// Which file
        #[arg(value_enum, default_value = "apisix")]
        of: Document,
    },
    /// Work with Proxy-Wasm plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Run a small upstream that answers with what it received, to try routes with
    DemoUpstream {
        /// Where it listens
        #[arg(default_value = "127.0.0.1:9081")]
        address: SocketAddr,
    },
    /// Print completions for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, in roff
    Man,
    /// Print the version
    Version,
}

#[derive(Clone, Copy, ValueEnum)]
enum Document {
    /// config.yaml
    Config,
    /// apisix.yaml
    Apisix,
}

#[derive(Subcommand)]
enum PluginCommand {
    /// Precompile a .wasm or .wat file for this version and this kind of machine
    Build {
        /// The module
        file: PathBuf,
        /// Where the precompiled code goes; beside the module, as .cwasm, if not given
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Say what a .wasm, .wat or .cwasm file is and whether it can run here
    Check {
        /// The module
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Measure what a plugin's callbacks take
    Bench(plugin_tool::Options),
}

fn main() -> ExitCode {
    let exit = match Arguments::parse().command {
        Command::Run { config } => control::run(&config),
        Command::Check { config, json, strict } => check(&config, json, strict),
        Command::Explain { method, url, headers, from, config } => {
            let question = Question { method, url, headers, peer: from };
            said(control::explain(&config, control::this_program(), &question))
        }
        Command::Diff { old, new } => said(
            control::difference(&old, &new)
                .map(|text| if text.is_empty() { "nothing changes\n".to_owned() } else { text }),
        ),
        Command::Schema { of } => {
            let schema = match of {
                Document::Config => control::config_schema(),
                Document::Apisix => control::apisix_schema(),
            };
            println!("{schema:#}");
            Exit::Done
        }
        Command::Plugin(PluginCommand::Build { file, output }) => build_plugin(&file, output),
        Command::Plugin(PluginCommand::Check { file, json }) => {
            good_or_not(plugin_tool::check(&file, json))
        }
        Command::Plugin(PluginCommand::Bench(options)) => {
            good_or_not(plugin_tool::bench(&options).map(|()| true))
        }
        Command::DemoUpstream { address } => match demo_upstream::run(address) {
            Ok(()) => Exit::Done,
            Err(error) => {
                eprintln!("error: {address}: {error}");
                Exit::CantRun
            }
        },
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "ringgate", &mut out);
            print_bytes(Ok(out))
        }
        Command::Man => {
            let mut out = Vec::new();
            let page = clap_mangen::Man::new(Arguments::command());
            print_bytes(page.render(&mut out).map(|()| out))
        }
        Command::Version => {
            println!("ringgate {}", env!("CARGO_PKG_VERSION"));
            Exit::Done
        }
    };
    ExitCode::from(exit as u8)
}

fn check(config: &Path, json: bool, strict: bool) -> Exit {
    let checked = control::check(config, control::this_program());
    let refused = !checked.is_good || strict && !checked.report.is_empty();
    if json {
        println!("{:#}", checked.json());
    } else {
        control::show_warnings(&checked.report);
        eprint!("{}", checked.failure.as_deref().unwrap_or_default());
    }
    if refused {
        return Exit::BadConfig;
    }
    if !json {
        let what = match checked.routes {
            Some(routes) => format!("{routes} routes"),
            None => "its routes are in no file, and were not looked at".to_owned(),
        };
        println!("ringgate: {} is good: {what}", config.display());
    }
    Exit::Done
}

fn said(text: Result<String, Failure>) -> Exit {
    match text {
        Ok(text) => {
            print!("{text}");
            Exit::Done
        }
        Err(failure) => {
            eprint!("{failure}");
            Exit::BadConfig
        }
    }
}

/// A pipe that nobody reads any more is no error of ours, but what was asked for did not arrive.
fn print_bytes(made: io::Result<Vec<u8>>) -> Exit {
    match made.and_then(|bytes| io::stdout().write_all(&bytes)) {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("error: {error}");
            Exit::CantRun
        }
    }
}

fn build_plugin(file: &Path, output: Option<PathBuf>) -> Exit {
    let output = output.unwrap_or_else(|| file.with_extension("cwasm"));
    match plugin_tool::build(file, &output) {
        Ok(bytes) => {
            println!("ringgate: {} written, {bytes} bytes", output.display());
            Exit::Done
        }
        Err(why) => {
            eprintln!("error: {why}");
            Exit::BadConfig
        }
    }
}

fn good_or_not(outcome: Result<bool, String>) -> Exit {
    match outcome {
        Ok(true) => Exit::Done,
        Ok(false) => Exit::BadConfig,
        Err(why) => {
            eprintln!("error: {why}");
            Exit::BadConfig
        }
    }
}
