//! The `ringgate` command.
//!
//! Exit codes: 0 done, 1 the configuration is wrong, 2 wrong usage, 3 it can't run, 130
//! interrupted.

mod demo_upstream;
mod plugin_tool;

use clap::{Parser, Subcommand};
use ringgate::control::{self, Exit, Loading};
use ringgate::vm;
use std::net::SocketAddr;
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
    /// Print the version
    Version,
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
        Command::Check { config } => check(&config),
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
        Command::Version => {
            println!("ringgate {}", env!("CARGO_PKG_VERSION"));
            Exit::Done
        }
    };
    ExitCode::from(exit as u8)
}

fn check(config: &Path) -> Exit {
    let checked =
        Loading::open(config, control::this_program()).and_then(|mut loading| loading.snapshot());
    match checked {
        Ok((snapshot, warnings)) => {
            control::show_warnings(&warnings);
            println!("ringgate: {} is good: {} routes", config.display(), snapshot.routes.len());
            Exit::Done
        }
        Err(failure) => {
            eprint!("{failure}");
            Exit::BadConfig
        }
    }
}

fn build_plugin(file: &Path, output: Option<PathBuf>) -> Exit {
    let output = output.unwrap_or_else(|| file.with_extension("cwasm"));
    match precompile(file, &output) {
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

fn precompile(file: &Path, output: &Path) -> Result<usize, String> {
    let named = |path: &Path, why: String| format!("{}: {why}", path.display());
    let bytes = std::fs::read(file).map_err(|e| named(file, format!("can't be read: {e}")))?;
    let code = vm::precompile(&bytes).map_err(|error| named(file, error.to_string()))?;
    std::fs::write(output, &code).map_err(|e| named(output, format!("can't be written: {e}")))?;
    Ok(code.len())
}
